"""Which rows and images the parts of a long job were made from, and whether that still holds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.utils import logging

from ..sealed_files import DamagedFileError, read_part_record, write_part
from .image_identity import image_digest, image_stamp, join_digests
from .resumable import drop_parts, write_whole


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.get_logger(__name__)


def count_rows(path: Path) -> int:
    """Counts the rows of a parquet file.

    Args:
        path (`Path`): The file.

    Returns:
        `int`: their number.
    """
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


class PartRecords:
    """Makes and compares the records of parts.

    Args:
        rows (`datasets.Dataset`): Rows that the parts are made from.
        rows_per_part (`int`): Number of rows in each part but the last.
        identity (`str`): Stands for all else that decides their content, such as weights and settings.
        count (`Callable[[Path], int]`, *optional*): Says how many rows a finished part accounts for.
    """

    def __init__(self, rows: "Dataset", rows_per_part: int, identity: str, count: Callable[[Path], int] = count_rows):
        self.rows, self.rows_per_part, self.identity, self.count = rows, rows_per_part, identity, count

    def numbers(self, part: int) -> range:
        """Numbers of the rows of a part."""
        return range(part * self.rows_per_part, min((part + 1) * self.rows_per_part, len(self.rows)))

    def part_of(self, number: int) -> int:
        """Number of the part that a row belongs to."""
        return number // self.rows_per_part

    @property
    def sizes(self) -> list[int]:
        """Number of rows of each part."""
        return [len(self.numbers(part)) for part in range(-(-len(self.rows) // self.rows_per_part))]

    def start(self, part: int) -> dict:
        """Records what is known of a part before its images are read.

        An image that changes between this and its reading is then noticed at the next look.

        Args:
            part (`int`): Number of the part.

        Returns:
            `dict`: to be completed with [`PartRecords.finish`].
        """
        return {**self._place(part), "stamp": image_stamp(self.rows, self.numbers(part))}

    @staticmethod
    def finish(record: dict, digests: Sequence[bytes | None]) -> dict:
        """Adds what is known once its images have been read.

        Args:
            record (`dict`): Record from [`PartRecords.start`].
            digests (`Sequence[bytes]`): Hashes of the image files in order, `None` where one could not be read.

        Returns:
            `dict`: for [`~seed_hf.sealed_files.write_part`].
        """
        images, num_unreadable = join_digests(digests)
        return {**record, "images": images, "num_unreadable": num_unreadable}

    def _place(self, part: int) -> dict:
        return {"made_from": self.identity, "part": part, "num_source_rows": len(self.numbers(part))}

    def drop_stale(self, paths: Sequence[Path]) -> None:
        """Removes the parts that are damaged, belong elsewhere, or whose images have changed, and says so.

        Args:
            paths (`Sequence[Path]`): Files of all parts, finished or not.
        """
        unsealed: list[int] = []
        drop_parts(
            paths,
            lambda part: self._looks_good(paths[part], part, unsealed),
            lambda part: self._is_good(paths[part], part),
        )
        if unsealed:
            logger.warning(
                f"{len(unsealed)} of {len(paths)} parts in {paths[0].parent} have no checksums, as in older versions: "
                "changed images or bytes would not be noticed. Remove them to have them made anew."
            )

    def drop_if_stale(self, path: Path, part: int) -> None:
        """As [`PartRecords.drop_stale`] for a part that nobody else looks at, without locks.

        Args:
            path (`Path`): File of the part.
            part (`int`): Its number.
        """
        if path.exists() and not self._looks_good(path, part, []) and not self._is_good(path, part):
            path.unlink()

    def _looks_good(self, path: Path, part: int, unsealed: list[int]) -> bool:
        try:
            record = read_part_record(path)
        except DamagedFileError:
            return False
        if self.count(path) != len(self.numbers(part)):
            return False
        if record is None:
            unsealed.append(part)
            return True
        return all(record.get(name) == value for name, value in self.start(part).items())

    def _is_good(self, path: Path, part: int) -> bool:
        try:
            record = read_part_record(path) or {}
        except DamagedFileError as error:
            logger.warning(f"{error}; it is made anew.")
            return False
        if self.count(path) != len(self.numbers(part)):
            logger.warning(
                f"{path} accounts for {self.count(path)} of {len(self.numbers(part))} rows; it is made anew."
            )
            return False
        if any(record.get(name) != value for name, value in self._place(part).items()):
            logger.warning(f"{path} was made from other rows or settings than its place says; it is made anew.")
            return False
        return "image" not in self.rows.column_names or self._has_same_images(path, part, record)

    def _has_same_images(self, path: Path, part: int, record: dict) -> bool:
        """Compares the bytes of all images: the files may have been copied, or replaced."""
        import pyarrow.parquet as pq

        start = self.start(part)
        current = self.finish(start, [image_digest(row) for row in self.rows.select(self.numbers(part))])
        if current["num_unreadable"] > record["num_unreadable"]:
            logger.warning(f"Some images of {path} cannot be read any more; what was made from them before is kept.")
            return True
        if current["images"] != record["images"]:
            logger.warning(f"The images of {path} have changed; it is made anew.")
            return False
        with write_whole(path) as temporary:
            write_part(temporary, pq.read_table(path), {**record, "stamp": start["stamp"]})
        return True


__all__ = ["PartRecords"]
