"""Scores of captions, by the scorer of the COCO caption server (`pycocoevalcap`)."""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging

from .one_line import replace_line_ends


logger = logging.get_logger(__name__)

CAPTION_METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
NO_JAVA = "needs Java, and there is no `java` on the path"
NO_SPICE_MODELS = (
    "needs Stanford CoreNLP 3.6.0, a download of 400 MB: run "
    '`python -c "from pycocoevalcap.spice.get_stanford_models import get_stanford_models; get_stanford_models()"` once'
)
# What the official tokenizer drops (`PUNCTUATIONS` of its wrapper), and roughly how it splits.
_PIECES = re.compile(r"-[lr]rb-|\w+(?=n't\b)|n't\b|(?<=\w)'\w+|\w+(?:[-.,/]\w+)*")
# It writes brackets as words, in lower case, and so fails to drop them.
_BRACKETS = str.maketrans({"(": " -lrb- ", ")": " -rrb- "})

Texts = dict[int, list[str]]


@dataclass
class CaptionScores:
    """
    Scores of a set of captions.

    Args:
        scores (`dict[str, float]`): Scores by metric, times 100.
        not_measured (`dict[str, str]`): Metrics that are left out, and why.
        tokenization (`str`): `"PTB"` (the official one), or what was done instead and why.
    """

    scores: dict[str, float]
    not_measured: dict[str, str]
    tokenization: str


def caption_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str] | None = None
) -> CaptionScores:
    r"""
    BLEU, METEOR, ROUGE-L, CIDEr and SPICE, as the COCO caption server computes them.

    The official tokenizer, METEOR and SPICE run in Java. Without it the captions are split by a rule that agrees on
    plain words, `tokenization` says so, and METEOR and SPICE are left out and named in `not_measured`.

    Args:
        predictions (`Sequence[str]`): One caption for each image.
        references (`Sequence[Sequence[str]]`): People's captions of each image.
        metrics (`Sequence[str]`, *optional*): Some of `CAPTION_METRICS`; by default all.

    Returns:
        [`CaptionScores`]: scores times 100, as papers print them.

    Raises:
        ValueError: If the lengths differ, an image has no reference, a caption is not text, a metric is unknown, or
            `pycocoevalcap` is not installed.

    Example:

    ```python
    >>> from seed_hf.evaluation import caption_scores
    >>> scored = caption_scores(["a red apple", "a cat"], [["a red apple"], ["a dog"]], ["ROUGE-L"])
    >>> round(scored.scores["ROUGE-L"], 2)
    75.0

    ```
    """
    metrics = check_metrics(metrics)
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(f"`predictions` has {len(predictions)} entries; allowed: {len(references)}, and one or more.")
    if empty := [number for number, captions in enumerate(references) if not captions]:
        raise ValueError(f"`references` is empty for entries {empty[:10]}; allowed: one caption or more for each.")
    wanted = {number: _lines(captions, "references") for number, captions in enumerate(references)}
    written = {number: _lines([caption], "predictions") for number, caption in enumerate(predictions)}
    (wanted, written), tokenization = _tokenize(wanted, written)
    scores, not_measured = {}, {}
    for names, compute in _SCORERS.items():
        asked = [name for name in names if name in metrics]
        if not asked:
            continue
        try:
            values = compute(wanted, written)
        except MissingScorerError as error:
            logger.warning(f"{names[0]} is left out: {error}")
            not_measured |= dict.fromkeys(asked, str(error))
        else:
            scores |= {name: 100 * float(values[names.index(name)]) for name in asked}
    return CaptionScores(scores, not_measured, tokenization)


def check_metrics(metrics: Sequence[str] | None) -> Sequence[str]:
    """
    Checks what is to be measured, before captions are written for hours.

    Args:
        metrics (`Sequence[str]`, *optional*): Some of `CAPTION_METRICS`; by default all.

    Returns:
        `Sequence[str]`: the metrics.

    Raises:
        ValueError: If a metric is unknown, or `pycocoevalcap` is not installed.
    """
    metrics = CAPTION_METRICS if metrics is None else metrics
    if unknown := [name for name in metrics if name not in CAPTION_METRICS]:
        raise ValueError(f"`metrics` has {unknown}; allowed: {CAPTION_METRICS}.")
    _import("bleu.bleu", "Bleu")
    return metrics


class MissingScorerError(RuntimeError):
    """A metric cannot be computed here; the message says what is missing."""


def _lines(captions: Sequence[str], name: str) -> list[str]:
    """Puts each caption on one line: the official tokenizer would take two lines for two captions."""
    if wrong := [caption for caption in captions if not isinstance(caption, str)]:
        raise ValueError(f"`{name}` has {wrong[0]!r}; allowed: text.")
    return [replace_line_ends(caption) for caption in captions]


def _tokenize(*captions: Texts) -> tuple[list[Texts], str]:
    """Tokenizes with the official tokenizer where it runs."""
    ptb_tokenizer = _import("tokenizer.ptbtokenizer", "PTBTokenizer")
    reason = NO_JAVA
    if has_java():
        records = [
            {number: [{"caption": text} for text in texts] for number, texts in part.items()} for part in captions
        ]
        try:
            done = [ptb_tokenizer().tokenize(part) for part in records]
        except OSError as error:  # its wrapper writes beside itself, which may not be allowed
            reason = f"the tokenizer could not run: {error}"
        else:
            if all(
                list(map(len, new.values())) == list(map(len, old.values()))
                for new, old in zip(done, captions, strict=True)
            ):
                return done, "PTB"
            reason = "the tokenizer gave another number of lines"
    logger.warning(f"Captions are not split by the official tokenizer, which {reason}.")
    done = [{number: [split_words(text) for text in texts] for number, texts in part.items()} for part in captions]
    return done, f"words by rule, not the official PTB tokenizer, which {reason}"


def split_words(caption: str) -> str:
    """
    Splits a caption roughly as the official tokenizer does: lower case, no punctuation.

    Args:
        caption (`str`): The caption.

    Returns:
        `str`: words, separated by spaces.

    Example:

    ```python
    >>> from seed_hf.evaluation.caption_metrics import split_words
    >>> split_words("A man's dog, which doesn't bark.")
    "a man 's dog which does n't bark"

    ```
    """
    return " ".join(_PIECES.findall(caption.lower().translate(_BRACKETS)))


def _import(module: str, name: str):
    import importlib

    try:
        return getattr(importlib.import_module(f"pycocoevalcap.{module}"), name)
    except ImportError as error:
        raise ValueError(
            "Captions are scored by `pycocoevalcap`; allowed with it: pip install 'seed_hf[eval]'."
        ) from error


def _bleu(references: Texts, written: Texts) -> list[float]:
    return _import("bleu.bleu", "Bleu")(4).compute_score(references, written, verbose=0)[0]


def _rouge(references: Texts, written: Texts) -> list[float]:
    return [_import("rouge.rouge", "Rouge")().compute_score(references, written)[0]]


def _cider(references: Texts, written: Texts) -> list[float]:
    if not any(caption.strip() for captions in references.values() for caption in captions):
        raise MissingScorerError("no reference has a word, by which it weighs the words")
    return [_import("cider.cider", "Cider")().compute_score(references, written)[0]]


def _meteor(references: Texts, written: Texts) -> list[float]:
    _require_java()
    scorer = _import("meteor.meteor", "Meteor")()
    try:
        return [scorer.compute_score(references, written)[0]]
    except (OSError, ValueError) as error:
        raise MissingScorerError(f"Java did not answer: {error}") from error
    finally:
        if scorer.lock.locked():  # it would wait for its own lock when it is deleted
            scorer.lock.release()


def _spice(references: Texts, written: Texts) -> list[float]:
    _require_java()
    models = _import("spice.get_stanford_models", "JAR"), _import("spice.get_stanford_models", "SPICEDIR")
    if not (Path(models[1]) / "lib" / f"{models[0]}.jar").is_file():
        raise MissingScorerError(NO_SPICE_MODELS)
    try:
        return [_import("spice.spice", "Spice")().compute_score(references, written)[0]]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise MissingScorerError(f"Java stopped: {error}") from error


def _require_java() -> None:
    if not has_java():
        raise MissingScorerError(NO_JAVA)


def has_java() -> bool:
    """Says whether the scorers in Java can run.

    Returns:
        `bool`: whether there is a `java` on the path.
    """
    return shutil.which("java") is not None


_SCORERS: dict[tuple[str, ...], Callable[[Texts, Texts], list[float]]] = {
    ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"): _bleu,
    ("METEOR",): _meteor,
    ("ROUGE-L",): _rouge,
    ("CIDEr",): _cider,
    ("SPICE",): _spice,
}


__all__ = ["CAPTION_METRICS", "CaptionScores", "caption_scores"]
