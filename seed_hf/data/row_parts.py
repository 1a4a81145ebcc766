"""Predictions for the rows of a data set, part by part: read, batched, and one table written for each part."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import find_executable_batch_size
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..sealed_files import write_part
from .part_records import PartRecords
from .reading import SkippedSamples, UnreadableSampleError, row_key, split_location, try_image
from .resumable import PartMaker


if TYPE_CHECKING:
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


class RowParts(PartMaker):
    """Makes a table of predictions from each part of the rows.

    After running out of memory a part is done anew, in smaller batches.

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

    def make(self, part: int, path: Path, progress: tqdm) -> None:
        """Makes one part, see [`~seed_hf.data.resumable.PartMaker`]."""
        record = self.records.start(part)
        samples = find_executable_batch_size(self.predict_part, self.batch_size)(part, progress)
        digests = [sample.sha256 for sample in samples]
        write_part(path, self.to_table(samples), self.records.finish(record, digests))

    def predict_part(self, batch_size: int, part: int, progress: tqdm) -> list[Sample]:
        """Predicts for all rows of a part.

        Args:
            batch_size (`int`): Number of images at once, which later parts keep to.
            part (`int`): Number of the part.
            progress (`tqdm`): Progress bar.

        Returns:
            `list[Sample]`: one for each row.
        """
        self.batch_size, done = batch_size, []
        reader = _Reader(self.records, part, self.prepare)
        for samples in DataLoader(reader, batch_size, num_workers=self.num_workers, collate_fn=list):
            self._predict_batch(samples)
            progress.update(len(samples))
            done += samples
        return done

    def _predict_batch(self, samples: list[Sample]) -> None:
        self.skipped.num_read += len(samples)
        readable = [sample for sample in samples if sample.error is None]
        for sample, prediction in zip(readable, self.predict(readable) if readable else [], strict=True):
            if isinstance(prediction, str):
                sample.error = UnreadableSampleError(sample.shard, sample.row["key"], prediction)
            else:
                sample.prediction = prediction
        for sample in samples:
            # images of a whole part may not fit the memory
            sample.row.pop("image", None)
            if sample.error is not None:
                self.skipped.add(sample.error)


class _Reader(Dataset):
    """The samples of a part."""

    def __init__(self, records: PartRecords, part: int, prepare):
        self.rows, self.numbers, self.prepare = records.rows, records.numbers(part), prepare

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        number = self.numbers[index]
        row = self.rows[number]
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
