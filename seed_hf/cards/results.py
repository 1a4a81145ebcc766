"""Results for a card, which come from evaluation reports of the same weights only."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ..hub.files import is_hub_id
from ..provenance import describe_model


if TYPE_CHECKING:
    from ..evaluation import EvaluationReport

# the Hub's names of tasks
HUB_TASKS = {
    "retrieval": ("image-feature-extraction", "Retrieval between images and captions"),
    "reconstruction": ("image-to-image", "Reconstruction from codes"),
    "caption": ("image-to-text", "Captions"),
    "vqa": ("visual-question-answering", "Answers to questions about images"),
}
# the model in the report that a task measures; the others only help
MEASURED = {
    "retrieval": "image_tokenizer",
    "reconstruction": "pipeline",
    "caption": "language_model",
    "vqa": "language_model",
}
# the counts in a report, and how a card names them
COUNTED = {"num_images": "images", "num_texts": "texts", "num_rows": "rows"}


@dataclass(frozen=True)
class Run:
    """One evaluation of the weights of a card: the report, and its place in the repository."""

    report: "EvaluationReport"
    file: str

    @property
    def dataset(self) -> str:
        """Name of the data, without the folders of the machine that read it."""
        name = str(self.report.data.get("dataset", "unnamed"))
        return name if is_hub_id(name) else Path(name).name

    @property
    def split(self) -> str:
        """Split of the data."""
        return str(self.report.data.get("split", ""))

    @property
    def text(self) -> str:
        """What the scores depend on, in a line."""
        report, settings = self.report, self.report.settings
        words = [f"{self.dataset} {self.split}".strip(), f"content `{report.data['sha256'][:16]}`"]
        words += [f"{report.data[name]:,} {unit}" for name, unit in COUNTED.items() if name in report.data]
        words += [f"{name} {settings[name]!r}" for name in ("prompt", "seed") if settings.get(name) is not None]
        versions = [f"{name} {report.versions[name]}" for name in ("torch", "transformers") if name in report.versions]
        return ", ".join([*words, report.started[:10], report.machine, *versions])


def read_runs(paths: Sequence[str | os.PathLike], folder: Path) -> list[Run]:
    r"""
    Reads evaluation reports, and makes sure that they measured the weights in a folder.

    Args:
        paths (`Sequence[str | os.PathLike]`): Files that `seed-hf eval --output` wrote.
        folder (`Path`): Folder of the model, as it was evaluated.

    Returns:
        `list[Run]`: The evaluations, in the order given.

    Raises:
        ValueError: A file is no report, a score is no number, or a report is of other weights.
    """
    if not paths:
        return []
    # only now: a card without results needs nothing of the extra `eval`
    from ..evaluation import EvaluationReport

    own = weights_in(folder)
    runs = []
    for path in map(Path, paths):
        try:
            report = EvaluationReport.load(path)
            measured = str(report.models[MEASURED[report.task]]["sha256"])
            is_whole = len(report.data["sha256"]) > 0
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"`evaluations` has {str(path)!r}, which is no report of `seed-hf eval`: {error}."
            ) from error
        bad = {name: value for name, value in report.scores.items() if not _is_number(value)}
        if bad or not is_whole:
            raise ValueError(
                f"`evaluations` has {str(path)!r} with {bad or report.task}; allowed: scores of {HUB_TASKS}."
            )
        if measured not in own:
            raise ValueError(
                f"`evaluations` has {str(path)!r}, which measured the weights {measured}; allowed: "
                f"{sorted(own)}, those in {str(folder)!r}."
            )
        run = Run(report, "")
        words = (report.task, run.dataset, run.split)
        name = "-".join(re.sub(r"[^\w.]+", "-", word).strip("-") for word in words if word)
        runs.append(Run(report, f"evaluation/{name}.json"))
    names = [run.file for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(
            f"`evaluations` has several reports of the same task and data: {sorted(names)}; allowed: one."
        )
    return runs


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def weights_in(folder: Path) -> set[str]:
    """Hashes that evaluations have for the weights in a folder, which differ by the parts that a task uses."""
    parts = [path for path in folder.iterdir() if path.is_dir() and path.name != "evaluation"]
    used = [describe_model("", folder), describe_model("", *parts), describe_model("", folder / "image_tokenizer")]
    # a language model that was evaluated with its image tokenizer apart
    used.append(describe_model("", folder, without="image_tokenizer."))
    return {str(model["sha256"]) for model in used} - {str(describe_model("")["sha256"])}


def model_index(runs: Iterable[Run]) -> list[EvalResult]:
    """The scores, for the metadata of a card."""
    return [
        EvalResult(
            task_type=HUB_TASKS[run.report.task][0],
            task_name=HUB_TASKS[run.report.task][1],
            dataset_type=run.dataset,
            dataset_name=f"{run.dataset} {run.split}".strip(),
            dataset_split=run.split or None,
            dataset_args={"sha256": run.report.data["sha256"]},
            metric_type=re.sub(r"\W+", "_", name),
            metric_name=name,
            metric_value=score,
        )
        for run in runs
        for name, score in run.report.scores.items()
    ]


def eval_results(runs: Iterable[Run], dataset_ids: Mapping[str, str]) -> dict[str, list[dict]]:
    r"""
    Makes the entries for `.eval_results/`, which the Hub's leaderboards read.

    Args:
        runs (`Iterable[Run]`): Evaluations, as [`read_runs`] returns them.
        dataset_ids (`Mapping[str, str]`): Ids on the Hub by the name that a data set was evaluated under.

    Returns:
        `dict[str, list[dict]]`: Entries by file; data without an id on the Hub has none.

    Raises:
        ValueError: An id cannot be one.
    """
    if bad := {name: hub_id for name, hub_id in dataset_ids.items() if not is_hub_id(hub_id)}:
        raise ValueError(f"`dataset_ids` is {bad}; allowed: ids of data sets on the Hub.")
    files = {}
    for run in runs:
        dataset_id = dataset_ids.get(run.dataset, run.dataset)
        if not is_hub_id(dataset_id):
            continue
        report = run.report
        entries = [
            EvalResultEntry(
                dataset_id=dataset_id,
                task_id="_".join(re.sub(r"\W+", "_", word) for word in (report.task, run.split, name) if word),
                value=score,
                date=report.started,
                notes=f"{run.file}; {run.text}",
            )
            for name, score in report.scores.items()
        ]
        files[f".eval_results/{Path(run.file).stem}.yaml"] = eval_result_entries_to_yaml(entries)
    return files


def table_rows(runs: Iterable[Run]) -> list[dict[str, str]]:
    """The scores, for the text of a card."""
    return [
        {
            "task": HUB_TASKS[run.report.task][1],
            "data": f"{run.dataset} {run.split}".strip(),
            "name": name,
            "score": f"{score:.2f}" if isinstance(score, float) else f"{score:,}",
        }
        for run in runs
        for name, score in run.report.scores.items()
    ]


__all__ = ["Run", "eval_results", "model_index", "read_runs", "table_rows", "weights_in"]
