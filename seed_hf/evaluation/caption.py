"""Table 3 of the paper, captions: BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE of zero-shot captions."""

import os
import time
from collections.abc import Sequence

from .caption_metrics import caption_scores
from .datasets import load_captioned_rows, references_of
from .report import EvaluationReport
from .text_writing import write_texts


PAPER_PROMPT = "a photo of"
# the original's evaluation of captions: beams, and lengths in tokens
PAPER_GENERATION = {"num_beams": 5, "max_new_tokens": 30, "min_new_tokens": 8, "do_sample": False}
# names of emoji are short
MINI_GENERATION = {"num_beams": 1, "max_new_tokens": 20, "do_sample": False}


def evaluate_captions(
    model: str | os.PathLike,
    dataset: str,
    split: str = "test",
    *,
    image_tokenizer: str | os.PathLike | None = None,
    revision: str | None = None,
    prompt: str | None = None,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    min_new_tokens: int | None = None,
    length_penalty: float | None = None,
    metrics: Sequence[str] | None = None,
    work_dir: str | os.PathLike | None = None,
    batch_size: int | None = None,
    num_processes: int = 1,
    limit: int | None = None,
    allow_outside_paths: bool = False,
    dtype: str = "auto",
) -> EvaluationReport:
    r"""
    Captions of pictures against people's, as Table 3 of the paper.

    Args:
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a language model or LoRA adapter.
        dataset (`str`): see [`~seed_hf.evaluation.load_captioned_rows`]. Of NoCaps the domains are scored apart too.
        split (`str`, defaults to `"test"`): of it.
        image_tokenizer (`str` or `os.PathLike`, *optional*): image tokenizer or pipeline, where the language model has
            none inside; by default what its tokenizer names.
        revision (`str`, *optional*): of the model on the Hub.
        prompt (`str`, *optional*): what the picture is followed by; `"model"` for the processor's own. Defaults to
            the paper's `"a photo of"`, for seed-mini to its own.
        num_beams (`int`, *optional*): defaults to 5, for seed-mini to 1.
        max_new_tokens (`int`, *optional*): defaults to 30, for seed-mini to 20.
        min_new_tokens (`int`, *optional*): defaults to 8, for seed-mini to none.
        length_penalty (`float`, *optional*): of beam search; defaults to that of the model's generation config.
        metrics (`Sequence[str]`, *optional*): some of [`~seed_hf.evaluation.CAPTION_METRICS`]; by default all.
        work_dir (`str` or `os.PathLike`, *optional*): keeps what is written, so that the same call after a kill goes
            on. By default nothing is kept.
        batch_size (`int`, *optional*): pictures at once; by default found.
        num_processes (`int`, defaults to 1): on this machine.
        limit (`int`, *optional*): the first rows only.
        allow_outside_paths (`bool`, defaults to `False`): also read images that the data set names by a path or URL
            outside of its own folder or source.
        dtype (`str`, defaults to `"auto"`): of the weights.

    Returns:
        [`EvaluationReport`]: scores times 100, as papers print them; `not_measured` says what needs Java or a
        download that is not there.

    Raises:
        ValueError: An argument is wrong, or `work_dir` holds another run.

    Example:

    ```python
    >>> from seed_hf.evaluation import evaluate_captions

    >>> report = evaluate_captions("seed-mini", "emoji", "test_concepts", limit=32)  # doctest: +SKIP
    >>> report.scores["CIDEr"]  # doctest: +SKIP
    ```
    """
    started = time.monotonic()
    rows = load_captioned_rows(dataset, split, limit, allow_outside_paths=allow_outside_paths)
    generation = {
        "num_beams": num_beams,
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min_new_tokens,
        "length_penalty": length_penalty,
    }
    found, report = write_texts(
        rows,
        "caption",
        model,
        image_tokenizer=image_tokenizer,
        revision=revision,
        prompt=prompt,
        paper_prompt=PAPER_PROMPT,
        generation=generation,
        mini_generation=MINI_GENERATION,
        paper_generation=PAPER_GENERATION,
        dtype=dtype,
        work_dir=work_dir,
        batch_size=batch_size,
        num_processes=num_processes,
    )
    texts = rows.remove_columns([name for name in ("image", "codes") if name in rows.column_names])
    kept = texts.select([row["row"] for row in found])
    predictions, references = [row["text"] for row in found], [references_of(row) for row in kept]
    scored = caption_scores(predictions, references, metrics)
    scores = scored.scores
    for domain in sorted(set(kept["domain"])) if "domain" in kept.column_names else []:
        of_domain = [place for place, name in enumerate(kept["domain"]) if name == domain]
        part = caption_scores([predictions[i] for i in of_domain], [references[i] for i in of_domain], metrics)
        scores |= {f"{domain or 'no'} domain {name}": value for name, value in part.scores.items()}
    report["settings"] |= {"tokenization": scored.tokenization, "seed": None}
    report["data"] = {"dataset": dataset, "split": split, **report["data"]}
    return EvaluationReport(
        task="caption",
        scores=scores,
        not_measured=scored.not_measured,
        seconds=time.monotonic() - started,
        **report,
    )


__all__ = ["evaluate_captions"]
