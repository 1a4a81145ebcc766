"""Files that hold their own hash, so that damage is noticed when they are read, wherever they were copied."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import pyarrow as pa

_MARK = "seed_hf_sha256:"
# stands in a file while it is hashed, and is as long as the seal that takes its place
UNSEALED = _MARK + "0" * 64
_SEAL = re.compile(rb"seed_hf_sha256:([0-9a-f]{64})")
_RECORD = b"seed_hf"


class DamagedFileError(ValueError):
    """Raised for a file that is not what was written: truncated, or with other bytes."""


def seal(content: bytes) -> bytes:
    """Puts the hash of a file in its last place that says `UNSEALED`.

    Args:
        content (`bytes`): Content of the file.

    Returns:
        `bytes`: The content with the hash, of the same length.

    Raises:
        ValueError: There is no such place.
    """
    before, mark, after = content.rpartition(UNSEALED.encode())
    if not mark:
        raise ValueError(f"`content` has no place for its hash; allowed: one that holds {UNSEALED[:20]!r} ...")
    return before + f"{_MARK}{hashlib.sha256(content).hexdigest()}".encode() + after


def has_whole_seal(content: bytes | memoryview) -> bool | None:
    """Says whether a file is what was sealed.

    Args:
        content (`bytes` or `memoryview`): Content of the file.

    Returns:
        `bool` or `None`: Whether the hash is right; `None` for a file that was never sealed, by an older version.
    """
    seals = list(_SEAL.finditer(content))
    if not seals:
        return None
    start, end = seals[-1].span()
    digest = hashlib.sha256(content[:start])
    digest.update(UNSEALED.encode())
    digest.update(content[end:])
    return digest.hexdigest().encode() == seals[-1][1]


def file_digest(path: Path) -> str:
    """Hashes a file without holding it in memory.

    Args:
        path (`Path`): The file.

    Returns:
        `str`: The SHA-256 hash, as 64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(path: Path, record: dict) -> None:
    """Writes a JSON file with its own hash as the last entry.

    Args:
        path (`Path`): File to write.
        record (`dict`): Its other entries.
    """
    path.write_bytes(seal(json.dumps({**record, "seal": UNSEALED}, indent=2).encode()))


def read_record(path: Path) -> tuple[dict, bool]:
    """Reads a JSON file that [`write_record`] or an older version wrote.

    Args:
        path (`Path`): The file.

    Returns:
        `tuple[dict, bool]`: Its entries, and whether it was sealed.

    Raises:
        DamagedFileError: The file is not what was written.
    """
    try:
        content = path.read_bytes()
        record = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path.name} cannot be read: {error}") from error
    is_whole = has_whole_seal(content)
    if not isinstance(record, dict) or is_whole is False or (is_whole is None and "seal" in record):
        raise DamagedFileError(f"{path.name} is damaged: its hash is not the one that it states")
    return {name: value for name, value in record.items() if name != "seal"}, is_whole is not None


def write_part(path: Path, table: "pa.Table", record: dict) -> None:
    """Writes a parquet file with checksums of its pages, a record, and the hash of it all.

    Args:
        path (`Path`): File to write.
        table (`pa.Table`): Rows of the file.
        record (`dict`): Record that [`read_part_record`] returns.
    """
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, table.schema, write_page_checksum=True) as writer:
        if len(table):  # `datasets` cannot read a row group without rows
            writer.write_table(table)
        writer.add_key_value_metadata({_RECORD: json.dumps({**record, "seal": UNSEALED})})
    path.write_bytes(seal(path.read_bytes()))


def read_part_record(path: Path) -> dict | None:
    """Reads the record of a parquet file, after a check of all of its bytes.

    Args:
        path (`Path`): The file.

    Returns:
        `dict` or `None`: The record; `None` for a file without one, whose pages could all be read.

    Raises:
        DamagedFileError: The file is not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # mapped, since a file of another program can be large
    with pa.memory_map(str(path)) as file:
        is_whole = has_whole_seal(memoryview(file.read_buffer()))
    if is_whole is False:
        raise DamagedFileError(f"{path} is damaged: its hash is not the one that it states")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            record = (file.metadata.metadata or {}).get(_RECORD)
            for _ in file.iter_batches() if is_whole is None else ():
                pass  # each page is decoded
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error
    if record is not None and is_whole is None:
        raise DamagedFileError(f"{path} is damaged: it has lost its hash")
    return None if record is None else json.loads(record)


__all__ = [
    "UNSEALED",
    "DamagedFileError",
    "file_digest",
    "has_whole_seal",
    "read_part_record",
    "read_record",
    "seal",
    "write_part",
    "write_record",
]
