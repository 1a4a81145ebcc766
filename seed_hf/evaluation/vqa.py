"""Table 3 of the paper, questions: VQAv2 accuracy and GQA exact match, zero-shot."""

import os
from collections import defaultdict

from .datasets import load_question_rows
from .measuring import timed
from .predictor import DEFAULT_SETTINGS, RunSettings
from .report import EvaluationReport
from .text_writing import write_texts
from .vqa_metrics import exact_match, vqa_accuracy


@timed
def evaluate_vqa(
    model: str | os.PathLike,
    dataset: str,
    split: str = "val",
    settings: RunSettings = DEFAULT_SETTINGS,
    *,
    image_tokenizer: str | os.PathLike | None = None,
    prompt: str | None = None,
    seed: int = 0,
    dtype: str = "auto",
    **generation,
) -> EvaluationReport:
    r"""
    Scores answers to questions about images, as Table 3 of the paper.

    Args:
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a language model or LoRA adapter.
        dataset (`str`): See [`~seed_hf.evaluation.load_question_rows`].
        split (`str`, defaults to `"val"`): Split to evaluate, possibly with a slice.
        settings ([`RunSettings`], *optional*): How to run.
        image_tokenizer (`str` or `os.PathLike`, *optional*): Image tokenizer or pipeline, where the language model has
            none inside; by default the one that its tokenizer names.
        prompt (`str`, *optional*): Words with `{}` for the question; `"model"` for the processor's own. Defaults to
            the paper's `"Question: {} Short answer."`, for seed-mini to its own.
        seed (`int`, defaults to 0): Chooses the questions about emoji.
        dtype (`str`, defaults to `"auto"`): Type of the weights.
        generation: Settings of `generate()`. By default 5 beams and up to 10 new tokens, as in the paper; for
            seed-mini 1 beam. BLIP-2 takes a `length_penalty` of -1.

    Returns:
        [`EvaluationReport`]: `vqa_accuracy` where questions have the answers of several annotators, `exact_match`
        where they have one; in percent, over all and for each type of question.

    Raises:
        ValueError: An argument is wrong, or `work_dir` holds another run.

    Example:

    ```python
    >>> from seed_hf.evaluation import RunSettings, evaluate_vqa

    >>> report = evaluate_vqa("seed-mini", "emoji", "test_concepts", RunSettings(limit=32))  # doctest: +SKIP
    >>> report.scores["exact_match"]  # doctest: +SKIP
    ```
    """
    rows = load_question_rows(dataset, split, seed=seed, **settings.reading)
    counts = sorted({len(answers) for answers in rows["answers"][:]})
    if counts[:1] == [1] and len(counts) > 1:
        raise ValueError(f"`dataset` has questions with {counts} answers; allowed: one for each, or several for each.")
    asked = {"image_tokenizer": image_tokenizer, "prompt": prompt, "dtype": dtype, "generation": generation}
    written, report = write_texts("vqa", model, rows, (dataset, split), settings, **asked)
    questions = rows.remove_columns("image").select([row["row"] for row in written])
    predictions, references = [row["text"] for row in written], questions["answers"][:]
    if all(len(answers) == 1 for answers in references):
        metric, values = "exact_match", exact_match(predictions, [answers[0] for answers in references])
    else:
        metric, values = "vqa_accuracy", vqa_accuracy(predictions, references)
    by_type = defaultdict(list)
    for kind, value in zip(questions["question_type"], values, strict=True):
        by_type[kind].append(value)
    report.scores = {metric: 100 * sum(values) / len(values)}
    report.scores |= {
        f"{metric}, {kind}": 100 * sum(part) / len(part) for kind, part in sorted(by_type.items()) if kind
    }
    report.settings["seed"] = seed
    return report


__all__ = ["evaluate_vqa"]
