"""Predictions for the rows of a data set: in parts that survive a kill, by any number of processes."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.part_records import PartRecords
from ..data.resumable import check_description, check_positive, run_parts
from ..data.row_parts import RowParts, Sample


if TYPE_CHECKING:
    from datasets import Dataset

# Where the search for a batch size starts; it is halved until the batch fits the memory. A processor has no error for
# too little memory, and gains nothing from large batches.
_FIRST_BATCH_SIZE = {"cuda": 256, "cpu": 32}


@dataclass(frozen=True)
class RunSettings:
    r"""
    How an evaluation runs, whatever it measures.

    Args:
        limit (`int`, *optional*): Number of rows to evaluate, from the first; by default all.
        revision (`str`, *optional*): Commit, branch or tag of the model, for a Hub id.
        work_dir (`str` or `os.PathLike`, *optional*): Folder that keeps what is computed, so that the same call after
            a kill goes on. By default nothing is kept.
        batch_size (`int`, *optional*): Number of images at once; by default what fits the memory.
        num_processes (`int`, defaults to 1): Number of processes on this machine, dealt to its GPUs.
        allow_outside_paths (`bool`, defaults to `False`): Whether to read images that the data set names by a path or
            URL outside of its own folder or source.
        max_unreadable_share (`float`, defaults to 0.01): Share of rows in `[0, 1]` that may be left out, because they
            cannot be read or half precision has no room for them; with more of them the evaluation stops.

    Example:

    ```python
    >>> from seed_hf.evaluation import RunSettings

    >>> RunSettings(limit=100, work_dir="run").num_processes
    1

    ```
    """

    limit: int | None = None
    revision: str | None = None
    work_dir: str | os.PathLike | None = None
    batch_size: int | None = None
    num_processes: int = 1
    allow_outside_paths: bool = False
    max_unreadable_share: float = 0.01

    @property
    def reading(self) -> dict[str, Any]:
        """Settings that loading rows needs, as keyword arguments."""
        return {name: getattr(self, name) for name in ("limit", "allow_outside_paths", "max_unreadable_share")}


DEFAULT_SETTINGS = RunSettings()


class Predictor(ABC):
    """What a task does with images. Its attributes are settings; [`load`] is called in each process."""

    device: str = "cpu"

    @abstractmethod
    def load(self) -> None:
        """Loads the models onto `self.device`."""

    @abstractmethod
    def predict(self, rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
        """Predicts for one batch.

        Args:
            rows (`list[dict]`): Rows of the data set, `image` being the decoded RGB image.
            numbers (`list[int]`): Their numbers in the data set, for seeds.

        Returns:
            `list[dict]`: for each row what its parquet file holds: strings, numbers and lists of numbers; or a text
            that says why there is no prediction.
        """


def run_predictor(
    predictor: Predictor,
    rows: "Dataset",
    work_dir: str | os.PathLike,
    description: dict[str, Any],
    run: RunSettings = DEFAULT_SETTINGS,
    rows_per_part: int = 512,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Predicts for every row, resumable and shared between processes.

    The same call goes on with the parts that are missing, damaged, or of images that have been replaced since. Batches
    are cut the same way whoever computes them, so the result is the same to the last digit whatever the number of
    processes, and after a kill.

    Args:
        predictor ([`Predictor`]): The task.
        rows (`datasets.Dataset`): Rows from [`~seed_hf.data.rows.load_rows`], or rows with `codes` and no `image`.
        work_dir (`str` or `os.PathLike`): Folder of the parts.
        description (`dict`): What decides the predictions; a folder that was made with another one is refused.
        run ([`RunSettings`], *optional*): Batch size, number of processes and share of unreadable rows.
        rows_per_part (`int`, defaults to 512): Number of rows that a kill can cost each process.

    Returns:
        `tuple[list[dict], dict]`: what was predicted, with `row` (number in the data set), for each image that could
        be read; and `num_images`, `num_skipped`, `batch_size` and `pictures_sha256` (hash of all image files).

    Raises:
        ValueError: `work_dir` holds another run, or an argument is out of range.
        TooManyUnreadableSamplesError: More rows than allowed have no prediction.
    """
    check_positive(num_processes=run.num_processes, rows_per_part=rows_per_part, batch_size=run.batch_size)
    work_dir = Path(work_dir)
    settings = {**description, "num_rows": len(rows), "rows_per_part": rows_per_part, "batch_size": run.batch_size}
    check_description(work_dir / "run.json", settings)
    identity = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    records = PartRecords(rows, rows_per_part, identity)
    num_parts = len(records.sizes)
    paths = [work_dir / f"part-{part:05d}-of-{num_parts:05d}.parquet" for part in range(num_parts)]
    records.drop_stale(paths)
    predictions = _PredictionParts(predictor, records, run.batch_size, max_unreadable_share=run.max_unreadable_share)
    run_parts(predictions, paths, records.sizes, run.num_processes)
    return _read_parts(paths)


def _read_parts(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    tables = [pq.read_table(path) for path in paths]
    rows = [row for table in tables for row in table.to_pylist()]
    good = [row for row in rows if row.pop("error") is None]
    digest = hashlib.sha256()
    for row in rows:
        digest.update((row.pop("sha256") or "").encode())
    sizes = [int(table.schema.metadata[b"batch_size"]) for table in tables]
    counts = {"num_images": len(good), "num_skipped": len(rows) - len(good), "batch_size": min(sizes)}
    return good, {**counts, "pictures_sha256": digest.hexdigest()}


class _PredictionParts(RowParts):
    """Predictions for all rows, or the reasons why there are none."""

    unit = "row"

    def __init__(self, predictor: Predictor, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.predictor, self.title = predictor, type(predictor).__name__

    def load(self, device: str) -> None:
        """Loads the predictor."""
        self.predictor.device = device
        self.predictor.load()
        self.batch_size = self.batch_size or _FIRST_BATCH_SIZE[device.partition(":")[0]]

    def predict(self, samples: list[Sample]) -> list[dict[str, Any]]:
        """Asks the predictor."""
        return self.predictor.predict([sample.row for sample in samples], [sample.number for sample in samples])

    def to_table(self, samples: list[Sample]) -> pa.Table:
        """Makes a row for each sample; those without a prediction have only the error."""
        records = [
            {
                "row": sample.number,
                "error": sample.error and str(sample.error),
                "sha256": sample.sha256 and sample.sha256.hex(),
                **(sample.prediction or {}),
            }
            for sample in samples
        ]
        names = list(dict.fromkeys(name for row in records for name in row))
        table = pa.table({name: pa.array([row.get(name) for row in records]) for name in names})
        return table.replace_schema_metadata({"batch_size": str(self.batch_size)})


__all__ = ["DEFAULT_SETTINGS", "Predictor", "RunSettings", "run_predictor"]
