"""Texts as the scorers need them: on one line, because programs that they start read one caption a line."""

import unicodedata


# What some program takes for a line end or another control character. Surrogates cannot be written to a file.
_UNWRITABLE = ("Cc", "Cs", "Zl", "Zp")


def replace_line_ends(text: str) -> str:
    r"""
    Replaces each line end, control character and lone surrogate by a space; everything else stays where it is.

    Args:
        text (`str`): A caption or an answer.

    Returns:
        `str`: Text of the same length.

    Example:

    ```python
    >>> from seed_hf.evaluation.one_line import replace_line_ends
    >>> replace_line_ends("a\u2028red\r\napple")
    'a red  apple'

    ```
    """
    return "".join(" " if unicodedata.category(letter) in _UNWRITABLE else letter for letter in text)
