"""Scores of answers: the official VQA accuracy and GQA's exact match."""

import re
from collections.abc import Sequence

from .one_line import replace_line_ends


_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32  # the official script hands `re.UNICODE`, which is 32, to `sub` as its count

# Words as the official script spells them; it finds each by its spelling with one apostrophe left out.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
_SPELLINGS = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}


def normalize_answer(answer: str) -> str:
    r"""
    Brings an answer into the form in which the official VQA script compares: lower case, digits for number words, no
    articles, no punctuation, apostrophes in contractions.

    Args:
        answer (`str`): Answer of a model or a person.

    Returns:
        `str`: the normalised answer.

    Source: `processPunctuation` and `processDigitArticle` of the VQA evaluation code, with their quirks: a
        punctuation mark becomes a space only where no space is beside it, and a number such as "1,000" anywhere in the
        answer deletes all marks. The script replaces only `\n` and `\t`; here every line end and control character is
        one space.

    Example:

    ```python
    >>> from seed_hf.evaluation import normalize_answer
    >>> normalize_answer("The two Dogs dont run."), normalize_answer("black/white"), normalize_answer("1,000")
    ("2 dogs don't run", 'black white', '1000')

    ```
    """
    text = replace_line_ends(answer).strip()
    has_large_number = _DIGIT_COMMA_DIGIT.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or has_large_number else " ")
    cleaned = _PERIOD.sub("", cleaned, count=_MAX_PERIODS)
    words = [_NUMBERS.get(word, word) for word in cleaned.lower().split()]
    return " ".join(_SPELLINGS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    r"""
    VQA accuracy: an answer that n of the other annotators gave counts min(n / 3, 1), averaged over leaving each
    annotator out.

    Args:
        predictions (`Sequence[str]`): One answer for each question.
        references (`Sequence[Sequence[str]]`): The annotators' answers to each question (VQAv2: ten).

    Returns:
        `list[float]`: Score of each question, in `[0, 1]`; the score of a data set is their mean.

    Raises:
        ValueError: If the lengths differ, or a question has fewer than two answers.

    Source: `vqaEval.py` of the VQA evaluation code. As there, nothing is normalised where all annotators agree to the
        letter.

    Example:

    ```python
    >>> from seed_hf.evaluation import vqa_accuracy
    >>> vqa_accuracy(["two", "cat"], [["2", "2", "3", "2"], ["dog"] * 10])
    [0.75, 0.0]

    ```
    """
    _check_lengths(predictions, references)
    return [_accuracy_of(*pair) for pair in zip(predictions, references, strict=True)]


def _accuracy_of(prediction: str, answers: Sequence[str]) -> float:
    if len(answers) < 2:
        raise ValueError(f"`references` has {list(answers)!r}; allowed: the answers of two or more annotators.")
    answers = [replace_line_ends(answer).strip() for answer in answers]
    prediction = replace_line_ends(prediction).strip()
    if len(set(answers)) > 1:
        prediction, answers = normalize_answer(prediction), [normalize_answer(answer) for answer in answers]
    same = [answer == prediction for answer in answers]
    thirds = sum(min(3, sum(same) - is_same) for is_same in same)  # whole numbers, so that no rounding adds up
    return thirds / (3 * len(same))


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    r"""
    Exact match after the official VQA normalisation of both sides, as GQA is scored zero-shot.

    Args:
        predictions (`Sequence[str]`): One answer for each question.
        references (`Sequence[str]`): The right one.

    Returns:
        `list[float]`: 1.0 or 0.0 for each question.

    Raises:
        ValueError: If the lengths differ.

    Example:

    ```python
    >>> from seed_hf.evaluation import exact_match
    >>> exact_match(["The dog."], ["dog"])
    [1.0]

    ```
    """
    _check_lengths(predictions, references)
    pairs = zip(predictions, references, strict=True)
    return [float(normalize_answer(prediction) == normalize_answer(reference)) for prediction, reference in pairs]


def _check_lengths(predictions: Sequence, references: Sequence) -> None:
    if len(predictions) != len(references):
        raise ValueError(
            f"`predictions` has {len(predictions)} entries; allowed: {len(references)}, as many as `references`."
        )


__all__ = ["exact_match", "normalize_answer", "vqa_accuracy"]
