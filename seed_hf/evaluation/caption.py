"""Table 3 of the paper, captions: BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE of zero-shot captions."""

import os
from collections.abc import Sequence

from .caption_metrics import caption_scores, check_metrics
from .datasets import load_captioned_rows, references_of
from .measuring import timed
from .predictor import DEFAULT_SETTINGS, RunSettings
from .report import EvaluationReport
from .text_writing import write_texts


@timed
def evaluate_captions(
    model: str | os.PathLike,
    dataset: str,
    split: str = "test",
    settings: RunSettings = DEFAULT_SETTINGS,
    *,
    image_tokenizer: str | os.PathLike | None = None,
    prompt: str | None = None,
    metrics: Sequence[str] | None = None,
    dtype: str = "auto",
    **generation,
) -> EvaluationReport:
    r"""
    Compares captions of images with people's, as Table 3 of the paper.

    Args:
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a language model or LoRA adapter.
        dataset (`str`): See [`~seed_hf.evaluation.load_captioned_rows`]. The domains of NoCaps are scored apart too.
        split (`str`, defaults to `"test"`): Split to evaluate, possibly with a slice.
        settings ([`RunSettings`], *optional*): How to run.
        image_tokenizer (`str` or `os.PathLike`, *optional*): Image tokenizer or pipeline, where the language model has
            none inside; by default the one that its tokenizer names.
        prompt (`str`, *optional*): Words that follow the image; `"model"` for the processor's own. Defaults to
            the paper's `"a photo of"`, for seed-mini to its own.
        metrics (`Sequence[str]`, *optional*): Some of [`~seed_hf.evaluation.CAPTION_METRICS`]; by default all.
        dtype (`str`, defaults to `"auto"`): Type of the weights.
        generation: Settings of `generate()`. By default 5 beams and 8 to 30 new tokens, as in the paper; for
            seed-mini 1 beam and up to 20.

    Returns:
        [`EvaluationReport`]: scores times 100, as papers print them; `not_measured` says what needs Java or a
        download that is not there.

    Raises:
        ValueError: An argument is wrong, or `work_dir` holds another run.

    Example:

    ```python
    >>> from seed_hf.evaluation import RunSettings, evaluate_captions

    >>> report = evaluate_captions("seed-mini", "emoji", "test_concepts", RunSettings(limit=32))  # doctest: +SKIP
    >>> report.scores["CIDEr"]  # doctest: +SKIP
    ```
    """
    rows = load_captioned_rows(dataset, split, **settings.reading)
    check_metrics(metrics)
    asked = {"image_tokenizer": image_tokenizer, "prompt": prompt, "dtype": dtype, "generation": generation}
    written, report = write_texts("caption", model, rows, (dataset, split), settings, **asked)
    texts = rows.remove_columns([name for name in ("image", "codes") if name in rows.column_names])
    kept = texts.select([row["row"] for row in written])
    predictions, references = [row["text"] for row in written], [references_of(row) for row in kept]
    scored = caption_scores(predictions, references, metrics)
    report.scores, report.not_measured = scored.scores, scored.not_measured
    for domain in sorted(set(kept["domain"])) if "domain" in kept.column_names else []:
        of_domain = [place for place, name in enumerate(kept["domain"]) if name == domain]
        part = caption_scores([predictions[i] for i in of_domain], [references[i] for i in of_domain], metrics)
        report.scores |= {f"{domain or 'no'} domain {name}": value for name, value in part.scores.items()}
    report.settings["tokenization"] = scored.tokenization
    return report


__all__ = ["evaluate_captions"]
