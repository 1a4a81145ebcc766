"""Tar shards (the WebDataset layout) as rows: an index says where each image lies, its bytes are read on demand.

Shards are never unpacked nor copied. The index (names, captions, positions; no images) is made once for a list of
shards and kept in the cache of `datasets`, memory-mapped and shared between processes. With it the order of the data
stays a function of seed and step, so resuming and changing the number of processes are exact, where readers that
stream through buffers lose or repeat samples.
"""

import json
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..models.image_formats_seed import IMAGE_SUFFIXES
from .image_identity import file_stamp
from .reading import is_remote, tar_location
from .tables import is_utf8


NO_CAPTION = "no caption"
# In the order of preference: this package, img2dataset (CC3M), Unsplash, others.
CAPTION_FIELDS = (
    "captions",
    "caption",
    "ai_description",
    "photo_description",
    "description",
    "alt_description",
    "text",
)
_IMAGE_ENDINGS = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
# Starting a process takes as long as the headers of this many bytes of small samples.
_BYTES_PER_PROCESS = 2**23
_STAMPS_AT_ONCE = 16
# Of a shard behind a URL: few requests, and no more memory than an image may take.
_BYTES_PER_REQUEST = 2**24
# Of a file with captions; what is larger is none.
_MAX_TEXT_BYTES = 2**24


def clean_captions(value: Any) -> list[str]:
    """Brings captions in any of the usual forms into one.

    Args:
        value (`Any`): One caption, several separated by line breaks (as COCO's shards have them), a list, or a list of
            mappings with `raw` (Karpathy's COCO file). Anything else holds no caption.

    Returns:
        `list[str]`: captions that are not empty, spaces collapsed.

    Example:
        ```python
        >>> from seed_hf.data.shards import clean_captions

        >>> clean_captions("a  dog\\na brown dog\\n"), clean_captions([{"raw": "a cat"}]), clean_captions(None)
        (['a dog', 'a brown dog'], ['a cat'], [])

        ```
    """
    if isinstance(value, dict):
        value = value.get("raw")
    if isinstance(value, str):
        value = re.split(r"[\r\n]+", value)
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        return []
    texts = [part.get("raw") if isinstance(part, dict) else part for part in value]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]


def caption_of_fields(fields: Any) -> list[str]:
    """Finds the captions among the fields of a record.

    Args:
        fields (`Any`): Fields such as the JSON beside an image; anything but a `dict` holds no caption.

    Returns:
        `list[str]`: Captions in the first of `CAPTION_FIELDS` that holds any.
    """
    if not isinstance(fields, dict):
        return []
    return next((found for name in CAPTION_FIELDS if (found := clean_captions(fields.get(name)))), [])


def make_row(key: str, path: str, captions: list[str], problem: str = "") -> dict:
    """Makes a row that refers to an image.

    Args:
        key (`str`): Name of the sample.
        path (`str`): Path of the image, or of the file that should have it.
        captions (`list[str]`): Captions of the image.
        problem (`str`, defaults to `""`): Why it cannot be used; what comes before a colon is counted.

    Returns:
        `dict`: `key`, `image`, `caption` (the first), `captions`, `problem`.
    """
    # names of files in a tar can be any bytes
    key, problem = (text.encode(errors="backslashreplace").decode() for text in (key, problem))
    caption = captions[0] if captions else ""
    image = {"bytes": None, "path": path}
    return {"key": key, "image": image, "caption": caption, "captions": captions, "problem": problem}


def index_shards(shards: Sequence[str], num_processes: int | None = None):
    """Makes rows of tar shards.

    Each sample is an image with a caption in a `.txt` (one a line) or a field of a `.json` of the same name:
    `CAPTION_FIELDS`, which covers what img2dataset writes for CC3M, COCO and Unsplash. Images are not decoded here.

    Args:
        shards (`Sequence[str]`): Paths or URLs. Those behind a URL are read through once, 16 MiB a request.
        num_processes (`int`, *optional*): Number of processes that share the shards; by default one for each core, as
            far as there is work for them.

    Returns:
        `datasets.Dataset`: `key`, `image` (with `path` as [`~seed_hf.data.reading.tar_location`] gives it), `caption`
        (the first), `captions`, `problem` (why a sample is unusable: it lacks an image or a caption, or its shard
        ends early; else `""`), `shard` (number in the list).
    """
    # another shard of the same name is indexed again; where a server is asked, many shards are asked at once
    with ThreadPoolExecutor(_STAMPS_AT_ONCE) as pool:
        stamps = [stamp or (0, 0) for stamp in pool.map(file_stamp, shards)]
    stamped = [(shard, number, *stamps[number]) for number, shard in enumerate(shards)]
    if num_processes is None:
        work = 1 + sum(size for size, _ in stamps) // _BYTES_PER_PROCESS
        num_processes = min(work, _num_cores())
    from .generated import generate_rows  # imports `datasets`, which `--help` does without

    # `datasets` warns of more processes than shards
    return generate_rows(_scan_shards, {"shards": stamped}, {"shard": "int32"}, min(num_processes, len(shards)))


def _num_cores() -> int:
    """Cores that this process may use, which on a cluster are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _scan_shards(shards: list[tuple], version: int) -> Iterator[dict]:
    for path, number, *_ in shards:
        for row in scan_shard(path):
            yield {**row, "shard": number}


def scan_shard(path: str) -> Iterator[dict]:
    """Lists the samples of one shard.

    As in WebDataset, files that follow each other are one sample if their names agree up to the first dot of the base
    name. So `a.v1.jpg` and `a.v2.jpg` are two images of the sample `a`, which is then unusable.

    Args:
        path (`str`): Path or URL.

    Returns:
        `Iterator[dict]`: as [`make_row`] makes them.
    """
    key, parts = None, {}
    try:
        with _open_tar(path) as (tar, size):
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith((".", "__")):
                    continue
                stem, _, suffix = name.partition(".")
                member_key, suffix = f"{folder}/{stem}" if folder else stem, suffix.lower()
                # a second file of the same name belongs to another sample
                if parts and (member_key != key or suffix in parts):
                    yield _make_row(path, key, parts)
                    parts = {}
                key = member_key
                if size is not None and member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                parts[suffix] = _read_part(tar, member, suffix)
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged headers make `tarfile`, and broken connections fsspec, raise many types
        # what came before stays; of the sample at the break only the name is known
        yield make_row(key or "", path, [], f"the shard ends early or is damaged: {error}")
    else:
        if parts:
            yield _make_row(path, key, parts)


class _PlainHeader(tarfile.TarInfo):
    """Reads the headers that shards nearly always have in a third of the time; what else there is, as `tarfile`."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """Makes a member of 512 bytes: a file whose name and size stand in their fields, and nowhere else."""
        is_plain = len(buf) == 512 and buf[156:157] == tarfile.REGTYPE and not buf[345] and buf[124] in b"01234567"
        try:
            checksum, size = (int(field.split(b"\0", 1)[0], 8) for field in (buf[148:156], buf[124:136]))
        except ValueError:
            is_plain = False
        if not is_plain or checksum != sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
            return super().frombuf(buf, encoding, errors)
        member = cls(buf[:100].split(b"\0", 1)[0].decode(encoding, errors))
        member.size, member.chksum = size, checksum
        return member


@contextmanager
def _open_tar(path: str):
    """Opens a tar file and gives its size; behind a URL it is a stream of unknown size."""
    if is_remote(path):
        import fsspec

        with (
            fsspec.open(path, "rb", block_size=_BYTES_PER_REQUEST) as file,
            tarfile.open(fileobj=file, mode="r|", tarinfo=_PlainHeader) as tar,
        ):
            yield tar, None
    else:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait
            raise tarfile.ReadError("it is not a file")
        with tarfile.open(path, "r:", tarinfo=_PlainHeader) as tar:
            yield tar, status.st_size


def _read_part(tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str):
    """Gives the position of an image, or the content of what may hold its caption, or the problem with it."""
    if suffix.rpartition(".")[2] not in ("txt", "json"):
        return member.offset_data, member.size
    if member.size > _MAX_TEXT_BYTES:
        return f"caption unreadable: a .{suffix} of {member.size} bytes"
    # `extractfile` takes twice as long
    tar.fileobj.seek(member.offset_data)
    content = tar.fileobj.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _make_row(path: str, key: str, parts: dict) -> dict:
    """Makes the row of a sample; a plain `jpg` comes before an `input.jpg`."""
    images = [suffix for suffix in _IMAGE_ENDINGS if suffix in parts]
    images = images or [suffix for suffix in parts if suffix.rpartition(".")[2] in _IMAGE_ENDINGS]
    if not images or len(images) > 1 and "." in images[0]:
        problem = f"several images of one name up to its first dot: {', '.join(images)}" if images else "no image"
        return make_row(key, path, [], problem)
    # "a.b.jpg" goes with "a.b.txt"
    stem = images[0].rpartition(".")[0]
    texts = {name: parts.get(f"{stem}.{name}" if stem else name, parts.get(name)) for name in ("txt", "json")}
    captions, problem = [], next((text for text in texts.values() if isinstance(text, str)), "")
    if not problem:
        try:
            captions = clean_captions((texts["txt"] or b"").decode())
            captions = captions or _captions_of_json(texts["json"])
        except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, no JSON object
            problem = f"caption unreadable: {error}"
    problem = problem or ("" if captions else NO_CAPTION)
    return make_row(key, tar_location(path, *parts[images[0]]), captions, problem)


def _captions_of_json(content: bytes | None) -> list[str]:
    fields = json.loads(content or b"{}")
    captions = caption_of_fields(fields)
    if not isinstance(fields, dict) or not all(map(is_utf8, captions)):
        raise ValueError("no object with text")
    return captions


__all__ = ["caption_of_fields", "clean_captions", "index_shards", "make_row", "scan_shard"]
