"""Predictions for the rows of a data set, part by part: read, batched, and one table written for each part."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from ..sealed_files import write_part
from .part_records import PartRecords
from .reading import SkippedSamples, UnreadableSampleError, row_key, split_location, try_image
from .resumable import Claims, PartMaker, Progress, write_whole


if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


@dataclass
class Sample:
    """A row on its way to a prediction.

    Args:
        number (`int`): Number of the row in the data set.
        row (`dict`): Columns of the row, always with a `key`. Until the prediction `image` is what
            [`RowParts.prepare`] gives.
        shard (`str`): File that holds the image.
        sha256 (`bytes`, *optional*): Hash of the image file, if it could be read.
        error (`UnreadableSampleError`, *optional*): Why there is no prediction.
        prediction (*optional*): Prediction from [`RowParts.predict`].
    """

    number: int
    row: dict[str, Any]
    shard: str = ""
    sha256: bytes | None = None
    error: UnreadableSampleError | None = None
    prediction: Any = None


class RowParts(PartMaker, ABC):
    """Makes a table of predictions from each part of the rows.

    After running out of memory a batch is done anew in halves, as are those that follow.

    Args:
        records ([`PartRecords`]): The rows, and how they are cut into parts.
        batch_size (`int`): Number of images at once.
        num_workers (`int`, defaults to 0): Number of further processes that read images.
        max_unreadable_share (`float`, defaults to 0.01): Share of images that may be left without a prediction.
    """

    def __init__(
        self, records: PartRecords, batch_size: int, num_workers: int = 0, max_unreadable_share: float = 0.01
    ):
        self.records, self.batch_size, self.num_workers = records, batch_size, num_workers
        self.skipped = SkippedSamples(max_share=max_unreadable_share)

    def prepare(self, image: Image.Image, number: int) -> Any:
        """Turns an image into what the prediction needs, in the process that reads images.

        Args:
            image (`PIL.Image.Image`): Decoded and upright, in RGB.
            number (`int`): Number of its row.

        Returns:
            `Any`: by default the image.
        """
        return image

    @abstractmethod
    def predict(self, samples: list[Sample]) -> list[Any]:
        """Predicts for one batch.

        Args:
            samples (`list[Sample]`): Those whose image could be read.

        Returns:
            `list`: a prediction for each, or a text that says why there is none.
        """

    @abstractmethod
    def to_table(self, samples: list[Sample]) -> "pa.Table":
        """Makes the table of a part.

        Args:
            samples (`list[Sample]`): All of the part.

        Returns:
            `pa.Table`: what the file is to hold.
        """

    def begin(self, part: int) -> None:  # noqa: B027
        """Is told which part the samples that follow are of.

        Args:
            part (`int`): Number of the part.
        """

    def stage(self, samples: list[Sample]) -> None:  # noqa: B027
        """Brings the images of a batch to where they are computed with, while the batch before it is.

        Args:
            samples (`list[Sample]`): Those whose image could be read.
        """

    def make_parts(self, claims: Claims, progress: Progress) -> None:
        """Reads, computes and writes at once: a thread reads ahead into the parts that follow, another writes."""
        source = _PartBatches(self.records, claims, self.batch_size)
        loader = DataLoader(
            _Reader(self.records.rows, self.prepare),
            batch_sampler=source,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=list,
        )
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            writing, is_left = None, True
            while is_left:
                for part, samples in self._predict_parts(_read_ahead(loader, self._stage_readable, reader), progress):
                    # one part waits at most, and what went wrong with the one before stops the work
                    writing = writing and writing.result()
                    writing = writer.submit(self._write, part, samples, source.records.pop(part), claims)
                writing = writing and writing.result()
                is_left = claims.wait()

    def _stage_readable(self, samples: list[Sample]) -> list[Sample]:
        self.stage([sample for sample in samples if sample.error is None])
        return samples

    def _predict_parts(
        self, batches: Iterable[list[Sample]], progress: Progress
    ) -> Iterator[tuple[int, list[Sample]]]:
        """Predicts for batches, none of which is of two parts; gives each part once it is complete."""
        for part, batches_of_part in groupby(batches, lambda samples: self.records.part_of(samples[0].number)):
            progress.catch_up()
            self.begin(part)
            done = []
            for samples in batches_of_part:
                self._predict_batch(samples)
                progress.update(len(samples))
                done += samples
            yield part, done

    def _write(self, part: int, samples: list[Sample], record: dict, claims: Claims) -> None:
        with write_whole(claims.paths[part]) as temporary:
            digests = [sample.sha256 for sample in samples]
            write_part(temporary, self.to_table(samples), self.records.finish(record, digests))
        claims.release(part)

    def _predict_batch(self, samples: list[Sample]) -> None:
        self.skipped.num_read += len(samples)
        readable = [sample for sample in samples if sample.error is None]
        for sample, prediction in zip(readable, self._predict_pieces(readable), strict=True):
            if isinstance(prediction, str):
                sample.error = UnreadableSampleError(sample.shard, sample.row["key"], prediction)
            else:
                sample.prediction = prediction
        for sample in samples:
            # images of a whole part may not fit the memory
            sample.row.pop("image", None)
            if sample.error is not None:
                self.skipped.add(sample.error)

    def _predict_pieces(self, samples: list[Sample]) -> list[Any]:
        """Predicts for a batch, in halves where the memory has no room for it, and from then on."""
        while True:
            try:
                starts = range(0, len(samples), self.batch_size)
                pieces = (samples[start : start + self.batch_size] for start in starts)
                return [prediction for piece in pieces for prediction in self.predict(piece)]
            except Exception as error:
                if self.batch_size == 1 or not should_reduce_batch_size(error):
                    raise
                self.batch_size //= 2
            clear_device_cache(garbage_collection=True)


def _read_ahead(batches: Iterable, stage: Callable, reader: Executor) -> Iterator:
    """Lets a thread read the batch that follows while the caller computes with one."""
    # workers are started here and not in the thread: a fork copies the locks that other threads hold
    staged = map(stage, batches)
    coming = reader.submit(next, staged, None)
    while (batch := coming.result()) is not None:
        coming = reader.submit(next, staged, None)
        yield batch


class _PartBatches(Sampler):
    """Numbers of the rows of each batch, of one part after the other, while there are parts that nobody else has.

    Attributes:
        records (`dict[int, dict]`): For each part that was begun, what was known before its images are read.
    """

    def __init__(self, all_records: PartRecords, claims: Claims, batch_size: int):
        self.all_records, self.claims, self.batch_size = all_records, claims, batch_size
        self.records: dict[int, dict] = {}

    def __iter__(self) -> Iterator[range]:
        while (part := self.claims.take()) is not None:
            self.records[part] = self.all_records.start(part)
            numbers = self.all_records.numbers(part)
            yield from (numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size))


class _Reader(Dataset):
    """The samples of all rows."""

    def __init__(self, rows: "datasets.Dataset", prepare: Callable):
        self.rows, self.prepare = rows, prepare

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: range) -> list[Sample]:
        """A batch at once: looking up rows one by one costs as much as decoding a small image."""
        columns = self.rows[numbers]
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [self._read(number, row) for number, row in zip(numbers, rows, strict=True)]

    def _read(self, number: int, row: dict[str, Any]) -> Sample:
        sample = Sample(number, row | {"key": row_key(row) or f"{number:09d}"})
        if "image" in row:
            sample.shard = split_location((row["image"] or {}).get("path") or "")[0]
            image, sample.sha256 = try_image(sample.row)
            if isinstance(image, UnreadableSampleError):
                sample.error = image
                del sample.row["image"]
            else:
                sample.row["image"] = self.prepare(image, number)
        return sample


def without_codes(predictions: list[Any], codes: torch.LongTensor, dtype: torch.dtype) -> list[Any]:
    """Replaces what was predicted for images without codes by the reason.

    Args:
        predictions (`list`): A prediction for each image.
        codes (`torch.LongTensor` of shape `(num_images, ...)`): Codes as [`SeedImageTokenizer.try_encode`] gives them.
        dtype (`torch.dtype`): Type that they were computed with.

    Returns:
        `list`: for [`RowParts.predict`].
    """
    reason = f"no codes: NaN or infinity in what it computes with {dtype}; `dtype` float32 has more room"
    is_missing = (codes < 0).flatten(1).any(1).tolist()
    return [reason if missing else found for missing, found in zip(is_missing, predictions, strict=True)]


__all__ = ["RowParts", "Sample", "without_codes"]
