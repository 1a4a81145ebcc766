"""Table 3 of the paper, questions: VQAv2 accuracy and GQA exact match, zero-shot."""

import os
import time
from collections import defaultdict

from .datasets import load_question_rows
from .report import EvaluationReport
from .text_writing import write_texts
from .vqa_metrics import exact_match, vqa_accuracy


PAPER_PROMPT = "Question: {} Short answer."
# the original's evaluation of answers: beams, and lengths in tokens
PAPER_GENERATION = {"num_beams": 5, "max_new_tokens": 10, "min_new_tokens": 1, "do_sample": False}
MINI_GENERATION = {"num_beams": 1, "max_new_tokens": 10, "do_sample": False}


def evaluate_vqa(
    model: str | os.PathLike,
    dataset: str,
    split: str = "val",
    *,
    image_tokenizer: str | os.PathLike | None = None,
    revision: str | None = None,
    prompt: str | None = None,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    length_penalty: float | None = None,
    work_dir: str | os.PathLike | None = None,
    batch_size: int | None = None,
    num_processes: int = 1,
    limit: int | None = None,
    allow_outside_paths: bool = False,
    seed: int = 0,
    dtype: str = "auto",
) -> EvaluationReport:
    r"""
    Answers to questions about pictures, as Table 3 of the paper.

    Args:
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a language model or LoRA adapter.
        dataset (`str`): see [`~seed_hf.evaluation.load_question_rows`].
        split (`str`, defaults to `"val"`): of it.
        image_tokenizer (`str` or `os.PathLike`, *optional*): image tokenizer or pipeline, where the language model has
            none inside; by default what its tokenizer names.
        revision (`str`, *optional*): of the model on the Hub.
        prompt (`str`, *optional*): with `{}` for the question; `"model"` for the processor's own. Defaults to the
            paper's `"Question: {} Short answer."`, for seed-mini to its own.
        num_beams (`int`, *optional*): defaults to 5, for seed-mini to 1.
        max_new_tokens (`int`, *optional*): defaults to 10.
        length_penalty (`float`, *optional*): of beam search; BLIP-2 takes -1. Defaults to that of the model.
        work_dir (`str` or `os.PathLike`, *optional*): keeps what is written, so that the same call after a kill goes
            on. By default nothing is kept.
        batch_size (`int`, *optional*): questions at once; by default found.
        num_processes (`int`, defaults to 1): on this machine.
        limit (`int`, *optional*): the first rows only.
        allow_outside_paths (`bool`, defaults to `False`): also read images that the data set names by a path or URL
            outside of its own folder or source.
        seed (`int`, defaults to 0): chooses the questions about emoji.
        dtype (`str`, defaults to `"auto"`): of the weights.

    Returns:
        [`EvaluationReport`]: `vqa_accuracy` where questions have the answers of several annotators, `exact_match`
        where they have one; in percent, over all and for each type of question.

    Raises:
        ValueError: An argument is wrong, or `work_dir` holds another run.

    Example:

    ```python
    >>> from seed_hf.evaluation import evaluate_vqa

    >>> report = evaluate_vqa("seed-mini", "emoji", "test_concepts", limit=32)  # doctest: +SKIP
    >>> report.scores["exact_match"]  # doctest: +SKIP
    ```
    """
    started = time.monotonic()
    rows = load_question_rows(dataset, split, limit, seed, allow_outside_paths=allow_outside_paths)
    found, report = write_texts(
        rows,
        "vqa",
        model,
        image_tokenizer=image_tokenizer,
        revision=revision,
        prompt=prompt,
        paper_prompt=PAPER_PROMPT,
        generation={"num_beams": num_beams, "max_new_tokens": max_new_tokens, "length_penalty": length_penalty},
        mini_generation=MINI_GENERATION,
        paper_generation=PAPER_GENERATION,
        dtype=dtype,
        work_dir=work_dir,
        batch_size=batch_size,
        num_processes=num_processes,
    )
    asked = rows.remove_columns("image").select([row["row"] for row in found])
    predictions, references = [row["text"] for row in found], asked["answers"][:]
    if all(len(answers) == 1 for answers in references):
        metric, values = "exact_match", exact_match(predictions, [answers[0] for answers in references])
    else:
        metric, values = "vqa_accuracy", vqa_accuracy(predictions, references)
    by_type = defaultdict(list)
    for kind, value in zip(asked["question_type"], values, strict=True):
        by_type[kind].append(value)
    scores = {metric: 100 * sum(values) / len(values)}
    scores |= {f"{metric}, {kind}": 100 * sum(part) / len(part) for kind, part in sorted(by_type.items()) if kind}
    report["settings"]["seed"] = seed
    report["data"] = {"dataset": dataset, "split": split, **report["data"]}
    return EvaluationReport(task="vqa", scores=scores, not_measured={}, seconds=time.monotonic() - started, **report)


__all__ = ["evaluate_vqa"]
