"""Predictions for the rows of a data set: in parts that survive a kill, by any number of processes."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.utils import find_executable_batch_size
from tqdm.auto import tqdm

from ..data.part_records import PartRecords
from ..data.reading import SkippedSamples, UnreadableSampleError, read_image_bytes, row_key
from ..data.resumable import check_description, claim_parts, write_whole
from ..models.image_processing_seed import load_rgb_image
from ..sealed_files import write_part


if TYPE_CHECKING:
    from datasets import Dataset

# Where the search for a batch size starts; it is halved until the batch fits the memory. A processor has no error for
# too little memory, and gains nothing from large batches.
_FIRST_BATCH_SIZE = {"cuda": 256, "cpu": 32}


class Predictor(ABC):
    """What a task does with pictures. Its attributes are settings; [`load`] is called in each process."""

    device: str = "cpu"

    @abstractmethod
    def load(self) -> None:
        """Loads the models onto `self.device`."""

    @abstractmethod
    def predict(self, rows: list[dict[str, Any]], numbers: list[int]) -> list[dict[str, Any]]:
        """Predicts for one batch.

        Args:
            rows (`list[dict]`): rows of the data set, `image` being the decoded RGB picture.
            numbers (`list[int]`): their numbers in the data set, for seeds.

        Returns:
            `list[dict]`: for each row what its parquet file holds: strings, numbers and lists of numbers.
        """


def run_predictor(
    predictor: Predictor,
    rows: "Dataset",
    work_dir: str | os.PathLike,
    description: dict[str, Any],
    *,
    batch_size: int | None = None,
    num_processes: int = 1,
    rows_per_part: int = 512,
    max_unreadable_share: float = 0.01,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Predicts for every row, resumable and shared between processes.

    The same call goes on with the parts that are missing, damaged, or of images that have been replaced since. Batches
    are cut the same way whoever computes them, so the result is the same to the last digit whatever the number of
    processes, and after a kill.

    Args:
        predictor ([`Predictor`]): the task.
        rows (`datasets.Dataset`): what [`~seed_hf.data.rows.load_rows`] gives, or rows with `codes` and no `image`.
        work_dir (`str` or `os.PathLike`): folder of the parts.
        description (`dict`): what decides the predictions; a folder that was made with another one is refused.
        batch_size (`int`, *optional*): pictures at once; by default found: what fits the memory.
        num_processes (`int`, defaults to 1): processes on this machine, dealt to its GPUs.
        rows_per_part (`int`, defaults to 512): what a kill can cost each process.
        max_unreadable_share (`float`, defaults to 0.01): stop beyond it.

    Returns:
        `tuple[list[dict], dict]`: what was predicted, with `row` (number in the data set), for each picture that could
        be read; and `num_images`, `num_skipped`, `batch_size` and `pictures_sha256` (hash of all picture files).

    Raises:
        ValueError: if `work_dir` holds another run, or an argument is out of range.
        TooManyUnreadableSamplesError: beyond `max_unreadable_share`.
    """
    counts = {"num_processes": num_processes, "rows_per_part": rows_per_part}
    for name, value in {**counts, "batch_size": 1 if batch_size is None else batch_size}.items():
        if value < 1:
            raise ValueError(f"`{name}` is {value}; allowed: 1 or more.")
    work_dir = Path(work_dir)
    num_parts = -(-len(rows) // rows_per_part)
    paths = [work_dir / f"part-{part:05d}-of-{num_parts:05d}.parquet" for part in range(num_parts)]
    settings = {**description, "num_rows": len(rows), "rows_per_part": rows_per_part, "batch_size": batch_size}
    check_description(work_dir / "run.json", settings)
    identity = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    records = PartRecords(rows, rows_per_part, identity, _count_rows)
    records.drop_stale(paths)
    job = partial(
        _predict_parts,
        num_processes=num_processes,
        predictor=predictor,
        rows=rows,
        records=records,
        paths=paths,
        batch_size=batch_size,
        max_unreadable_share=max_unreadable_share,
    )
    if num_processes > 1:
        torch.multiprocessing.spawn(job, nprocs=num_processes)
    elif not all(path.exists() for path in paths):
        job(int(os.environ.get("LOCAL_RANK", 0)))
    return _read_parts(paths)


def _count_rows(path: Path) -> int:
    return pq.read_metadata(path).num_rows


def _read_parts(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    tables = [pq.read_table(path) for path in paths]
    found = [row for table in tables for row in table.to_pylist()]
    good = [row for row in found if row.pop("error") is None]
    digest = hashlib.sha256()
    for row in found:
        digest.update((row.pop("sha256") or "").encode())
    sizes = [int(table.schema.metadata[b"batch_size"]) for table in tables]
    counts = {"num_images": len(good), "num_skipped": len(found) - len(good), "batch_size": min(sizes)}
    return good, {**counts, "pictures_sha256": digest.hexdigest()}


def _predict_parts(
    index: int, num_processes, predictor: Predictor, rows, records, paths, batch_size, max_unreadable_share
) -> None:
    """What one process does: parts that nobody else has, until there are none."""
    predictor.device = f"cuda:{index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    predictor.load()
    skipped = SkippedSamples(max_share=max_unreadable_share)
    progress = tqdm(desc=type(predictor).__name__, total=len(rows), unit="row", smoothing=0, disable=index > 0)

    def show_finished() -> None:
        """What other processes, or this one before a kill, have done."""
        finished = sum(path.exists() for path in paths) * records.rows_per_part
        progress.update(max(0, min(finished, len(rows)) - progress.n))

    for part in claim_parts(paths, start=index * len(paths) // num_processes):
        show_finished()
        numbers, record = records.numbers(part), records.start(part)
        first_size = batch_size or _FIRST_BATCH_SIZE[predictor.device.partition(":")[0]]

        # after running out of memory a part is done anew, in smaller batches
        @find_executable_batch_size(starting_batch_size=first_size)
        def predict(size: int, numbers: range = numbers) -> tuple[list[dict], int]:
            found = []
            for start in range(0, len(numbers), size):
                batch = list(numbers[start : start + size])
                found += _predict_batch(predictor, rows, batch, skipped)
                progress.update(len(batch))
            return found, size

        found, size = predict()
        batch_size = batch_size or size
        table = pa.Table.from_pylist(found, schema=_schema_of(found))
        table = table.replace_schema_metadata({"batch_size": str(size)})
        digests = [bytes.fromhex(row["sha256"] or "") for row in found]
        with write_whole(paths[part]) as temporary:
            write_part(temporary, table, records.finish(record, digests))
    show_finished()
    progress.close()


def _schema_of(found: list[dict]) -> pa.Schema:
    """Of all rows: those of unreadable pictures have nothing but the error."""
    names = list(dict.fromkeys(name for row in found for name in row))
    columns = {name: pa.array([row.get(name) for row in found]) for name in names}
    return pa.schema([(name, column.type) for name, column in columns.items()])


def _predict_batch(predictor: Predictor, rows: "Dataset", numbers: list[int], skipped: SkippedSamples) -> list[dict]:
    """Predictions of the pictures that can be read, and the reasons of the others."""
    found, readable = [], []
    for number, row in zip(numbers, rows.select(numbers), strict=True):
        record = {"row": number, "error": None, "sha256": None}
        skipped.num_read += 1
        try:
            if "image" in row:
                data = read_image_bytes(row)
                record["sha256"] = hashlib.sha256(data).hexdigest()
                row["image"] = _decode(data, row)
            readable.append((row, record))
        except UnreadableSampleError as error:
            skipped.add(error)
            record["error"] = str(error)
        found.append(record)
    if readable:
        predictions = predictor.predict([row for row, _ in readable], [record["row"] for _, record in readable])
        for (_, record), prediction in zip(readable, predictions, strict=True):
            record.update(prediction)
    return found


def _decode(data: bytes, row: dict):
    try:
        return load_rgb_image(data)
    except ValueError as error:
        shard = row["image"].get("path") or ""
        raise UnreadableSampleError(shard, row_key(row), str(error.__cause__ or error)) from error


__all__ = ["Predictor", "run_predictor"]
