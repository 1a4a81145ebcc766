"""The image-span grammar for servers that run an exported model: GBNF, a regular expression, and token ranges."""

import os
import re
from pathlib import Path

from ..models.image_tokens_seed import BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN, ImageTokenLayout, image_token


MODES = ("image", "interleaved")
# what text must not hold: each word, or all that begins so
_FORBIDDEN = (BOI_TOKEN.removesuffix(">"), EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN)


def write_grammars(layout: ImageTokenLayout, folder: str | os.PathLike) -> list[Path]:
    """
    Writes the grammars of one image (`image.*`) and of text with images (`interleaved.*`) in all forms.

    Args:
        layout ([`ImageTokenLayout`]): Which ids and words are image tokens.
        folder (`str` or `os.PathLike`): Folder to write to, made if missing.

    Returns:
        `list[Path]`: `.gbnf` (llama.cpp, xgrammar), `.regex` (vLLM's structured outputs), `.lark` (llguidance).
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    forms = {"gbnf": span_gbnf, "regex": span_regex, "lark": span_lark}
    paths = []
    for mode in MODES:
        for suffix, write in forms.items():
            paths.append(Path(folder) / f"{mode}.{suffix}")
            paths[-1].write_text(write(layout, mode), encoding="utf-8")
    return paths


def span_regex(layout: ImageTokenLayout, mode: str = "image") -> str:
    r"""
    The grammar as a regular expression without look-around, for servers that match text.

    Args:
        layout ([`ImageTokenLayout`]): Number of codes and codes per image.
        mode (`str`, defaults to `"image"`): `"image"`: one image; `"interleaved"`: text in which images may stand.

    Returns:
        `str`: The expression.

    Raises:
        ValueError: An unknown `mode`.

    Example:

    ```python
    >>> from seed_hf.convert.grammar import span_regex
    >>> from seed_hf.models.image_tokens_seed import ImageTokenLayout
    >>> span_regex(ImageTokenLayout(50, 16, 4, 66, 67, 68))
    '<img>(<img_(0000[0-9]|0001[0-5])>){4}</img>'

    ```
    """
    codes = [f"<img_({'|'.join(number_expressions(*part))})>" for part in _parts(layout)]
    codes = codes if len(codes) > 1 else [f"({codes[0]}){{{layout.num_query_tokens}}}"]
    span = BOI_TOKEN + "".join(codes) + EOI_TOKEN
    if _check_mode(mode) == "image":
        return span
    opened, closed = _text_parts()
    opened = "|".join(map(re.escape, opened))
    closed = "|".join(re.escape(start) + f"[^<{stop}]" for start, stop in closed)
    text = f"([^<]|({opened})*({closed}))*({opened})*"
    return f"({text}{span})*{text}"


def span_gbnf(layout: ImageTokenLayout, mode: str = "image") -> str:
    """The grammar in llama.cpp's GBNF, which xgrammar reads too; arguments and errors as in [`span_regex`]."""
    parts = _parts(layout)
    names = [f"code-{number}" for number in range(len(parts))]
    codes = " ".join(names) if len(parts) > 1 else f"{names[0]}{{{layout.num_query_tokens}}}"
    rules = [f'span ::= "{BOI_TOKEN}" {codes} "{EOI_TOKEN}"']
    for name, part in zip(names, parts, strict=True):
        numbers = " | ".join(
            f'"{prefix}" {digits}' for prefix, digits in map(_split_digits, number_expressions(*part))
        )
        rules.append(f'{name} ::= "<img_" ({numbers}) ">"')
    if _check_mode(mode) == "image":
        return "\n".join(["root ::= span", *rules, ""])
    opened, closed = _text_parts()
    rules += [
        "text ::= ([^<] | opened* closed)* opened*",
        "opened ::= " + " | ".join(f'"{start}"' for start in opened),
        "closed ::= " + " | ".join(f'"{start}" [^<{stop}]' for start, stop in closed),
    ]
    return "\n".join(["root ::= (text span)* text", *rules, ""])


def span_lark(layout: ImageTokenLayout, mode: str = "image") -> str:
    """The grammar over token ids in llguidance's Lark, in which text cannot become a token; as [`span_regex`]."""
    first = layout.first_image_token_id
    codes = [f"<[{first + start}-{first + end - 1}]>" for start, end in _parts(layout)]
    codes = " ".join(codes) if len(codes) > 1 else f"{codes[0]}{{{layout.num_query_tokens}}}"
    span = f"span: <[{layout.boi_token_id}]> {codes} <[{layout.eoi_token_id}]>"
    if _check_mode(mode) == "image":
        return f"start: span\n{span}\n"
    return f"start: (TEXT? span)* TEXT?\n{span}\nTEXT: /(.|\\n)+/\n"


def _check_mode(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"`mode` is {mode!r}; allowed: {MODES}.")
    return mode


def _parts(layout: ImageTokenLayout) -> list[tuple[int, int]]:
    """First code and one past the last, for each place in an image, or once for all places."""
    if not layout.codebook_per_query:
        return [(0, layout.codebook_size)]
    size = layout.codebook_size // layout.num_query_tokens
    return [(number * size, (number + 1) * size) for number in range(layout.num_query_tokens)]


def number_expressions(start: int, end: int) -> list[str]:
    """Expressions that together match the codes in `[start, end)` as image tokens write them, in five
    digits, or more where they do not suffice."""
    expressions = []
    while start < end:
        # numbers of five digits first, then those of six, and so on
        digits = len(image_token(start)[5:-1])
        stop = min(end, 10**digits)
        expressions += _between(*(image_token(code)[5:-1] for code in (start, stop - 1)))
        start = stop
    return expressions


def _between(low: str, high: str) -> list[str]:
    """Expressions for the numbers from `low` to `high`, of equally many digits: digits, a range, any digits."""
    if len(low) == 1:
        return [low if low == high else f"[{low}-{high}]"]
    any_digits = "[0-9]" * (len(low) - 1)
    first, last = int(low[0]), int(high[0])
    if first == last:
        return [low[0] + rest for rest in _between(low[1:], high[1:])]
    before, after = [], []
    if set(low[1:]) != {"0"}:
        before, first = [low[0] + rest for rest in _between(low[1:], "9" * (len(low) - 1))], first + 1
    if set(high[1:]) != {"9"}:
        after, last = [high[0] + rest for rest in _between("0" * (len(low) - 1), high[1:])], last - 1
    if first > last:
        return before + after
    return [*before, (str(first) if first == last else f"[{first}-{last}]") + any_digits, *after]


def _split_digits(expression: str) -> tuple[str, str]:
    """The fixed digits at the start of an expression of `_between`, and its ranges."""
    prefix = re.match("[0-9]*", expression)[0]
    return prefix, " ".join(re.findall(r"\[[^\]]*\]|[0-9]", expression[len(prefix) :]))


def _text_parts() -> tuple[list[str], list[tuple[str, str]]]:
    """Beginnings of the forbidden words, and with each the characters that go on in one of them."""
    opened = sorted({word[:length] for word in _FORBIDDEN for length in range(1, len(word))})
    goes_on = {
        start: "".join(sorted({word[len(start)] for word in _FORBIDDEN if word.startswith(start) and word != start}))
        for start in opened
    }
    return opened, list(goes_on.items())


__all__ = ["number_expressions", "span_gbnf", "span_lark", "span_regex", "write_grammars"]
