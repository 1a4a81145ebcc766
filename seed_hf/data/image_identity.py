"""What shows whether the images of a data set are still those that something was computed from.

A stamp (size and time of change of the files) is cheap: where it is the same nothing is read. Where it differs, as
after copying a folder, the hash of the image files decides, which is taken while they are read anyway.
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .reading import UnreadableSampleError, is_remote, read_image_bytes, split_location


if TYPE_CHECKING:
    from datasets import Dataset

# by which the file systems of fsspec say that a file was replaced
_VERSIONS = ("ETag", "etag", "Content-MD5", "Digest", "blob_id", "generation", "md5Hash")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "modified", "created")
_UNREADABLE = bytes(32)


def file_stamp(path: str) -> tuple[int, int | str] | None:
    """Gives size and time of change of a file; behind a URL, its size and the version that the server reports.

    Args:
        path (`str`): Path or URL.

    Returns:
        `tuple[int, int | str]` or `None`: `None` where there is no such file, or its server does not say.
    """
    if is_remote(path):
        return _remote_stamp(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a name with a NUL is a ValueError
        return None
    return status.st_size, status.st_mtime_ns


def _remote_stamp(url: str) -> tuple[int, str] | None:
    import fsspec

    try:
        filesystem, name = fsspec.url_to_fs(url)
        filesystem.invalidate_cache()
        info = filesystem.info(name)
    except Exception:  # each protocol has its own errors; whoever reads the file reports them
        return None
    return info.get("size") or 0, version_of(info)


def version_of(info: Mapping[str, Any]) -> str:
    """Says which version of a file a file system of fsspec has.

    Args:
        info (`Mapping`): What the file system says about the file.

    Returns:
        `str`: the same text for the same version, or `""` where its server does not say.
    """
    # a time may be that of another copy of the same version
    names = [name for name in _VERSIONS if info.get(name)] or [name for name in _TIMES if info.get(name)]
    return " ".join(str(info[name]) for name in names)


def image_stamp(rows: "Dataset", numbers: range) -> str:
    """Identifies the images of rows cheaply. Folders can be moved: paths do not count.

    Args:
        rows (`datasets.Dataset`): Rows with or without an `image`, which is not decoded.
        numbers (`range`): Numbers of the rows in question.

    Returns:
        `str`: 32 hexadecimal digits; where the same ones come again the images are the same.
    """
    digest, stamp_of = hashlib.sha256(), functools.cache(file_stamp)
    # images inside the table are not read for this: one of them stands for all
    is_outside = "image" in rows.column_names and not (rows[numbers.start]["image"] or {}).get("bytes")
    for path in _image_paths(rows, numbers) if is_outside else ():
        file, offset, size = split_location(path or "")
        # images that each have a URL of their own would take a request each
        stamp = None if is_remote(file) and offset is None else stamp_of(file)
        is_outside = is_outside and stamp is not None
        digest.update(f"{stamp} {offset} {size}\n".encode())
    if not is_outside:
        # the fingerprint follows from the files of the data set and from what was done to them
        digest.update(f"{rows._fingerprint} {numbers}".encode())
    return digest.hexdigest()[:32]


def _image_paths(rows: "Dataset", numbers: range) -> list[str | None]:
    """Lists paths without reading the images, which may lie beside them in the table."""
    flat = rows.select_columns("image").flatten()
    return flat.select_columns("image.path").select(numbers)["image.path"][:]


def image_digest(row: dict) -> bytes:
    """Hashes the image file of a row.

    Args:
        row (`dict`): Row of a data set.

    Returns:
        `bytes`: 32; zeros for one that cannot be read.
    """
    try:
        return hashlib.sha256(read_image_bytes(row)).digest()
    except (UnreadableSampleError, FileNotFoundError):
        return _UNREADABLE


def join_digests(digests: Iterable[bytes | None]) -> tuple[str, int]:
    """Joins the hashes of many images into one.

    Args:
        digests (`Iterable[bytes]`): Hashes in order; `None` or zeros for images that cannot be read.

    Returns:
        `tuple[str, int]`: 64 hexadecimal digits, and the number of images that cannot be read.
    """
    digests = [digest or _UNREADABLE for digest in digests]
    return hashlib.sha256(b"".join(digests)).hexdigest(), digests.count(_UNREADABLE)


__all__ = ["file_stamp", "image_digest", "image_stamp", "join_digests", "version_of"]
