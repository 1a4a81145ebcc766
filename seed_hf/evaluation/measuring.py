"""What all evaluations have in common: predictions for rows, and a report that says what they were made from."""

import functools
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..provenance import content_digest, references_digest, weights_of
from .predictor import Predictor, RunSettings, run_predictor
from .report import EvaluationReport


if TYPE_CHECKING:
    from datasets import Dataset


def timed(evaluate: Callable[..., EvaluationReport]) -> Callable[..., EvaluationReport]:
    """
    Decorates an evaluation, whose report then says how long it took.

    Args:
        evaluate (`Callable`): Gives an [`EvaluationReport`].

    Returns:
        `Callable`: the same, with `seconds`.
    """

    @functools.wraps(evaluate)
    def evaluate_and_time(*args, **kwargs) -> EvaluationReport:
        started = time.monotonic()
        report = evaluate(*args, **kwargs)
        report.seconds = time.monotonic() - started
        return report

    return evaluate_and_time


def measure(
    task: str,
    predictor: Predictor,
    rows: "Dataset",
    data: tuple[str, str],
    models: dict[str, dict[str, str | None]],
    settings: dict[str, Any],
    run: RunSettings,
    rows_per_part: int = 512,
) -> tuple[list[dict[str, Any]], EvaluationReport]:
    """
    Predicts for all rows, and starts the report.

    Args:
        task (`str`): Name of the evaluation.
        predictor ([`Predictor`]): What it does with images.
        rows (`datasets.Dataset`): The rows.
        data (`tuple[str, str]`): Names of their data set and split.
        models (`dict[str, dict]`): Descriptions from [`~seed_hf.provenance.describe_model`] by role.
        settings (`dict`): What else decides the predictions.
        run ([`RunSettings`]): How to run.
        rows_per_part (`int`, defaults to 512): Number of rows that a kill can cost each process.

    Returns:
        `tuple[list[dict], EvaluationReport]`: predictions with the number of their `row`; a report without scores.

    Raises:
        ValueError: No image can be read, or `work_dir` holds another run.
    """
    dataset, split = data
    references = references_digest(rows)
    description = {"task": task, "weights": weights_of(models), "references": references, **settings}
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = run.work_dir or temporary
        predictions, counts = run_predictor(predictor, rows, work_dir, description, run, rows_per_part)
    if not predictions:
        raise ValueError(f"`dataset` {dataset!r} has no image that can be read.")
    report = EvaluationReport(
        task=task,
        scores={},
        not_measured={},
        models=models,
        data={
            "dataset": dataset,
            "split": split,
            "num_images": counts["num_images"],
            "num_skipped": counts["num_skipped"],
            "sha256": content_digest(references, counts["pictures_sha256"]),
        },
        settings={"seed": None, **settings, "batch_size": counts["batch_size"]},
        seconds=0.0,
    )
    return predictions, report


__all__ = ["measure", "timed"]
