"""Reading one image of a data set, wherever its bytes are, and what happens when it cannot be read."""

import glob
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.utils import logging

from ..models.image_limits_seed import IMAGE_LIMITS
from ..models.image_processing_seed import load_rgb_image
from .read_ahead import ReadAhead


logger = logging.get_logger(__name__)

_MIN_READS = 1000
_REMOTE_ATTEMPTS = 3
_PIECE = re.compile(r"(?P<shard>.*\.tar)#(?P<offset>\d{1,18})\+(?P<size>\d{1,18})", re.DOTALL)


class UnreadableSampleError(ValueError):
    """A sample of a data set whose image or caption cannot be read.

    Args:
        shard (`str`): File that holds it.
        key (`str`): Name of the sample in the data set.
        reason (`str`): What is wrong with the sample.
    """

    def __init__(self, shard: str, key: str, reason: str):
        super().__init__(shard, key, reason)  # all of them, so that it can be pickled between processes
        self.shard, self.key, self.reason = shard, key, reason

    def __str__(self) -> str:
        return f"sample {self.key!r} of {self.shard!r}: {self.reason}"


class TooManyUnreadableSamplesError(ValueError):
    """More samples than allowed could not be read: the data set is damaged, or is not what it seems."""


def check_share(num_bad: int, num_all: int, max_share: float, message: str) -> None:
    """Stops when too many samples are bad.

    Args:
        num_bad (`int`): Samples that could not be read.
        num_all (`int`): Samples tried; at least a thousand are assumed, so that a few bad ones that happen to come
            first do not stop a run.
        max_share (`float`): Allowed share, in `[0, 1]`.
        message (`str`): What happened, for the error.

    Raises:
        TooManyUnreadableSamplesError: If the share is larger.
    """
    if num_bad > max_share * max(num_all, _MIN_READS):
        raise TooManyUnreadableSamplesError(
            f"{message}. That is more than the allowed share of {max_share} (of at least {_MIN_READS}). Repair the "
            "data, drop what is bad with training/prepare_data.py, or allow a larger share."
        )


def tar_location(shard: str, offset: int, size: int) -> str:
    """Names a piece of a tar shard; [`read_bytes`] reads it.

    Args:
        shard (`str`): Path or URL of the shard.
        offset (`int`): First byte.
        size (`int`): Number of bytes.

    Returns:
        `str`: the location, `<shard>#<offset>+<size>`.
    """
    return f"{shard}#{offset}+{size}"


def split_location(location: str) -> tuple[str, int | None, int | None]:
    """Takes apart what [`tar_location`] made.

    Args:
        location (`str`): Location of a piece of a shard, or the path or URL of a whole file.

    Returns:
        `tuple[str, int, int]`: shard, offset and size; the last two are `None` for a whole file.
    """
    piece = _PIECE.fullmatch(location)
    if piece is None:
        return location, None, None
    return piece["shard"], int(piece["offset"]), int(piece["size"])


def is_remote(path: str) -> bool:
    """Says whether a path is a URL (`https://`, `hf://`, `s3://`, ...), which `fsspec` reads.

    Args:
        path (`str`): Path or URL.

    Returns:
        `bool`: whether it names a protocol.
    """
    return "://" in path


def read_parquet(files: list[str]):
    """Reads parquet files, memory-mapped.

    Args:
        files (`list[str]`): Paths, in whose names brackets are brackets, or URLs.

    Returns:
        `datasets.Dataset`: their rows.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset, load_dataset

    # `datasets` cannot read files without rows
    filled = [file for file in files if is_remote(file) or pq.read_metadata(file).num_rows]
    if not filled:
        return Dataset(pq.read_table(files[0]))
    # absolute, since the working directory may have brackets too
    names = [file if is_remote(file) else glob.escape(os.path.abspath(file)) for file in filled]
    return load_dataset("parquet", data_files=names, split="train")


def read_bytes(location: str) -> bytes:
    """Reads a whole file, or a piece of a tar shard without the rest of it.

    Behind a URL, pieces that follow each other come several in a request (see [`~seed_hf.data.read_ahead`]).

    Args:
        location (`str`): Path or URL, of a file or as [`tar_location`] gives it.

    Returns:
        `bytes`: the content.

    Raises:
        OSError: If the file is gone, cannot be read, or is a device or a pipe, or if the shard ends before
            the piece does.
        ValueError: If there is more to read than [`~seed_hf.models.image_limits_seed.IMAGE_LIMITS`] allows. Its
            `max_url_seconds` hold for URLs too, where the file system can be interrupted (`http`, `s3`, `gs`, ...).
    """
    path, offset, size = split_location(location)
    if not is_remote(path):
        data = _read_local(path, offset or 0, size)
    elif size is None:
        # one byte more than allowed shows that a file is too large
        data = _read_remote(path, 0, IMAGE_LIMITS.max_image_bytes + 1)
        IMAGE_LIMITS.check_bytes(len(data))
    else:
        IMAGE_LIMITS.check_bytes(size)
        data = _read_ahead.piece(path, offset, size)
    if size is not None and len(data) != size:
        raise OSError(f"{path} ends {size - len(data)} bytes before the sample does")
    return data


def _read_local(path: str, offset: int, size: int | None) -> bytes:
    """Looks at the file before it opens it: a pipe would wait, and a device never ends."""
    if "\0" in path:
        raise OSError(f"{path!r} is not a path, since it holds a NUL")
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a file")
    rest = max(0, status.st_size - offset)
    size = rest if size is None else min(rest, size)
    IMAGE_LIMITS.check_bytes(size)
    with open(path, "rb") as file:
        file.seek(min(offset, status.st_size))
        return file.read(size)


def _read_remote(path: str, start: int, end: int) -> bytes:
    """One range request; a busy server gets some time before the sample counts as unreadable."""
    import fsspec

    deadline = time.monotonic() + IMAGE_LIMITS.max_url_seconds
    for attempt in range(_REMOTE_ATTEMPTS):
        time.sleep(attempt)
        try:
            filesystem, name = fsspec.url_to_fs(path)
            return _cat(filesystem, name, start, end, deadline)
        except (FileNotFoundError, ValueError, ImportError):  # another try would not help a URL of no known kind
            raise
        except Exception as error:  # each protocol has its own errors
            last_error = error
            if time.monotonic() + attempt + 1 > deadline:
                break
    limit = f"{IMAGE_LIMITS.max_url_seconds} seconds (IMAGE_LIMITS.max_url_seconds)"
    raise OSError(f"{path} could not be read in {attempt + 1} attempts and {limit}: {last_error!r}") from last_error


_read_ahead = ReadAhead(_read_remote)


def _cat(filesystem, name: str, start: int, end: int, deadline: float) -> bytes:
    """Reads part of a remote file, until a deadline where the file system can be interrupted."""
    from fsspec.asyn import AsyncFileSystem, sync

    if not isinstance(filesystem, AsyncFileSystem) or filesystem.asynchronous:
        return filesystem.cat_file(name, start=start, end=end)
    timeout = max(deadline - time.monotonic(), 0.001)
    return sync(filesystem.loop, filesystem._cat_file, name, start=start, end=end, timeout=timeout)


def read_image_bytes(row: Mapping[str, Any]) -> bytes:
    """Reads the image file of a row, not decoded.

    Args:
        row (`Mapping`): Row with `image` as `datasets` stores it: `{"bytes": ..., "path": ...}`, the path possibly a
            piece of a tar shard; and possibly a `key`, and a `problem` for which it is not to be read.

    Returns:
        `bytes`: the image file.

    Raises:
        UnreadableSampleError: If this sample cannot be read.
        FileNotFoundError: If the whole shard is gone, which no other sample would survive either.
    """
    image = row["image"] or {}
    location = image.get("path") or ""
    shard, offset, _ = split_location(location)
    if row.get("problem"):
        raise UnreadableSampleError(shard, row_key(row), row["problem"])
    if image.get("bytes") is not None:
        return image["bytes"]
    if not location:
        raise UnreadableSampleError(shard, row_key(row), "no image")
    try:
        return read_bytes(location)
    except FileNotFoundError as error:
        if offset is not None:
            raise FileNotFoundError(f"The shard {shard} has vanished while it was being read.") from error
        raise UnreadableSampleError(shard, row_key(row), str(error)) from error
    except (OSError, ValueError, ImportError) as error:  # also what fsspec makes of a broken or unknown URL
        raise UnreadableSampleError(shard, row_key(row), str(error)) from error


def read_image(row: Mapping[str, Any]) -> Image.Image:
    """Reads the image of a row.

    Args:
        row (`Mapping`): See [`read_image_bytes`].

    Returns:
        `PIL.Image.Image`: upright RGB, see [`~seed_hf.models.image_processing_seed.load_rgb_image`].

    Raises:
        UnreadableSampleError: If this sample cannot be read or decoded.
        FileNotFoundError: If the whole shard is gone.
    """
    return _decode_image(read_image_bytes(row), row)


def try_image(row: Mapping[str, Any]) -> tuple[Image.Image | UnreadableSampleError, bytes | None]:
    """Reads the image of a row, or says why it cannot be read.

    Args:
        row (`Mapping`): See [`read_image_bytes`].

    Returns:
        `tuple`: What [`read_image`] gives or the error that it raises; and the SHA-256 of the image file (32 bytes),
        `None` where there is no file.

    Raises:
        FileNotFoundError: The whole shard is gone.
    """
    sha256 = None
    try:
        data = read_image_bytes(row)
        sha256 = hashlib.sha256(data).digest()
        return _decode_image(data, row), sha256
    except UnreadableSampleError as error:
        return error, sha256


def _decode_image(data: bytes, row: Mapping[str, Any]) -> Image.Image:
    try:
        return load_rgb_image(data)
    except ValueError as error:
        shard, _, _ = split_location((row["image"] or {}).get("path") or "")
        # The cause is Pillow's own words; the error itself lists all kinds of input, which says nothing here.
        raise UnreadableSampleError(shard, row_key(row), str(error.__cause__ or error)) from error


def row_key(row: Mapping[str, Any]) -> str:
    """Names a row in logs and outputs.

    Args:
        row (`Mapping`): A row of a data set.

    Returns:
        `str`: its `key`, else the name of its file, else `""`.
    """
    return str(row.get("key") or os.path.basename((row.get("image") or {}).get("path") or ""))


class SkippedSamples:
    """Counts and logs the samples that could not be read, and stops the run when they are too many.

    Each reader process counts its own reads; see [`check_share`] for the limit.

    Args:
        log_file (`str` or `os.PathLike`, *optional*): Gets one JSON line per skipped sample, from all processes.
        max_share (`float`, defaults to 0.01): Share of the samples read that may be bad, in `[0, 1]`.

    Attributes:
        num_read (`int`): Samples tried by this process.
        num_skipped (`int`): Those of them that could not be read.

    Example:
        ```python
        >>> from seed_hf.data.reading import SkippedSamples, UnreadableSampleError

        >>> skipped = SkippedSamples(max_share=0.01)
        >>> skipped.num_read = 500
        >>> skipped.add(UnreadableSampleError("train-00000.tar", "000000017", "image file is truncated"))
        >>> skipped.num_skipped
        1

        ```
    """

    def __init__(self, log_file: str | os.PathLike | None = None, max_share: float = 0.01):
        if not 0 <= max_share <= 1:
            raise ValueError(f"`max_share` is {max_share}; allowed: 0 to 1.")
        self.log_file = None if log_file is None else Path(log_file)
        self.max_share = max_share
        self.num_read = 0
        self.num_skipped = 0

    def add(self, error: UnreadableSampleError, **where: Any) -> None:
        """Counts and logs one sample.

        Args:
            error (`UnreadableSampleError`): Says which and why.
            where: more for the log, such as the epoch.

        Raises:
            TooManyUnreadableSamplesError: If these are now too many.
        """
        self.num_skipped += 1
        logger.warning(f"Skipped {error}")
        if self.log_file is not None:
            line = {"shard": error.shard, "key": error.key, "reason": error.reason, **where}
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("a") as file:  # short lines at the end of a file do not mix between processes
                file.write(json.dumps(line) + "\n")
        message = (
            f"{self.num_skipped} of {self.num_read} samples could not be read; the last was {error}; all are listed "
            f"in {self.log_file}"
        )
        check_share(self.num_skipped, self.num_read, self.max_share, message)


__all__ = [
    "SkippedSamples",
    "TooManyUnreadableSamplesError",
    "UnreadableSampleError",
    "read_bytes",
    "read_image",
    "read_image_bytes",
    "read_parquet",
    "try_image",
]
