"""Tar shards (the WebDataset layout) as rows: an index says where each picture lies, its bytes are read on demand.

Shards are never unpacked nor copied. The index (names, captions, positions; no pictures) is made once for a list of
shards and kept in the cache of `datasets`, memory-mapped and shared between processes. With it the order of the data
stays a function of seed and step, so resuming and changing the number of processes are exact, where readers that
stream through buffers lose or repeat samples.
"""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from transformers.utils import logging

from .data_reading import check_share, is_remote, tar_location
from .image_identity import file_stamp


logger = logging.get_logger(__name__)

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
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
# Raise when rows of the index change, so that old ones in the cache are not used.
_INDEX_VERSION = 1
_SHARDS_PER_PROCESS = 4
_STAMPS_AT_ONCE = 16


def clean_captions(value: str | Iterable | None) -> list[str]:
    """Brings captions in any of the usual forms into one.

    Args:
        value (`str` or `Iterable`, *optional*): one caption, several separated by line breaks (as COCO's shards have
            them), a list, or a list of mappings with `raw` (Karpathy's COCO file).

    Returns:
        `list[str]`: captions that are not empty, spaces collapsed.

    Example:
        ```python
        >>> from seed_hf.data_shards import clean_captions

        >>> clean_captions("a  dog\\na brown dog\\n"), clean_captions([{"raw": "a cat"}]), clean_captions(None)
        (['a dog', 'a brown dog'], ['a cat'], [])

        ```
    """
    parts = value.splitlines() if isinstance(value, str) else list(value or [])
    texts = [part.get("raw") if isinstance(part, dict) else part for part in parts]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]


def caption_of_fields(fields: dict) -> list[str]:
    """Finds the captions among the fields of a record.

    Args:
        fields (`dict`): such as the JSON beside a picture.

    Returns:
        `list[str]`: of the first of `CAPTION_FIELDS` that holds any.
    """
    return next((found for name in CAPTION_FIELDS if (found := clean_captions(fields.get(name)))), [])


def index_shards(shards: Sequence[str], max_unreadable_share: float = 0.01, keep_unusable: bool = False):
    """Makes rows of tar shards.

    Each sample is a picture with a caption in a `.txt` (one a line) or a field of a `.json` of the same name:
    `CAPTION_FIELDS`, which covers what img2dataset writes for CC3M, COCO and Unsplash. Pictures are not decoded here.

    Args:
        shards (`Sequence[str]`): paths or URLs. Those behind a URL are read through once.
        max_unreadable_share (`float`, defaults to 0.01): share of samples that may be left out, because they lack a
            picture or a caption or because their shard ends early.
        keep_unusable (`bool`, defaults to `False`): keep them, with a column `problem` that says why.

    Returns:
        `datasets.Dataset`: `key`, `image` (with `path` as [`~seed_hf.data_reading.tar_location`] gives it), `caption`
        (the first), `captions`, `shard` (number in the list).

    Raises:
        ValueError: if no sample is left.
        TooManyUnreadableSamplesError: if too many are left out.
    """
    # another shard of the same name is indexed again; where a server is asked, many shards are asked at once
    with ThreadPoolExecutor(_STAMPS_AT_ONCE) as pool:
        stamps = [stamp or (0, 0) for stamp in pool.map(file_stamp, shards)]
    stamped = [(shard, number, *stamps[number], _INDEX_VERSION) for number, shard in enumerate(shards)]
    num_processes = min(len(shards) // _SHARDS_PER_PROCESS, os.cpu_count() or 1) or None
    rows = generate_rows(_scan_shards, {"shards": stamped}, {"problem": "string", "shard": "int32"}, num_processes)
    problems = rows["problem"][:]
    bad = [index for index, problem in enumerate(problems) if problem]
    if bad:
        reasons = dict(Counter(problems[index].partition(":")[0] for index in bad))
        examples = [f"{row['key']!r} of {row['image']['path']}: {row['problem']}" for row in rows.select(bad[:5])]
        message = f"{len(bad)} of {len(rows)} samples are left out, {reasons}; for example {'; '.join(examples)}"
        check_share(len(bad), len(rows), max_unreadable_share, message)
        if keep_unusable:
            return rows
        logger.warning(message)
        rows = rows.select([index for index, problem in enumerate(problems) if not problem])
    if not len(rows):
        raise ValueError(f"`shards` {list(shards)[:3]} hold no sample with a picture and a caption.")
    return rows.remove_columns("problem")


def generate_rows(generator, arguments: dict, more_columns: dict[str, str] | None = None, num_processes=None):
    """Writes rows that refer to pictures to a memory-mapped table in the cache of `datasets`, or finds them there.

    Several processes can ask at once: one writes, the others wait.

    Args:
        generator (`Callable`): yields rows with `key`, `image`, `caption` and `captions`.
        arguments (`dict`): of the generator; with its code they are what the cache goes by. A list is split between
            processes.
        more_columns (`dict[str, str]`, *optional*): types of further columns.
        num_processes (`int`, *optional*): that write.

    Returns:
        `datasets.Dataset`: the rows.
    """
    from datasets import Dataset, Features, Image, List, Value
    from datasets.exceptions import DatasetGenerationError

    features = {"key": Value("string"), "image": Image(decode=False), "caption": Value("string")}
    features |= {"captions": List(Value("string"))}
    features |= {name: Value(dtype) for name, dtype in (more_columns or {}).items()}
    try:
        return Dataset.from_generator(
            generator, features=Features(features), gen_kwargs=arguments, num_proc=num_processes
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None  # our own words say what is wrong with which file


def _scan_shards(shards: list[tuple]) -> Iterator[dict]:
    for path, number, *_ in shards:
        for row in scan_shard(path):
            yield {**row, "shard": number}


def scan_shard(path: str) -> Iterator[dict]:
    """Lists the samples of one shard.

    Args:
        path (`str`): path or URL.

    Returns:
        `Iterator[dict]`: `key`, `image`, `caption`, `captions`, and `problem`: why the sample is of no use, else `""`.
    """
    key, parts = None, {}
    try:
        with _open_tar(path) as (tar, size):
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith((".", "__")):
                    continue
                stem, _, suffix = name.partition(".")
                member_key = f"{folder}/{stem}" if folder else stem
                if parts and member_key != key:
                    yield _make_row(path, key, parts)
                    parts = {}
                key = member_key
                if size is not None and member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                parts[suffix.lower()] = _read_part(tar, member, suffix.lower())
    except (tarfile.TarError, OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        # what came before stays; of the sample at the break only the name is known
        yield _make_row(path, key or "", {}, f"the shard ends early or is damaged: {error}")
    else:
        if parts:
            yield _make_row(path, key, parts)


@contextmanager
def _open_tar(path: str):
    """A tar file and its size; one behind a URL is read as a stream, and its size stays unknown."""
    if is_remote(path):
        import fsspec

        with fsspec.open(path, "rb", block_size=2**22) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            yield tar, None
    else:
        with tarfile.open(path, "r:") as tar:
            yield tar, os.stat(path).st_size


def _read_part(tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str):
    """Position of a picture; content of what may hold its caption."""
    if suffix in ("txt", "json"):
        return tar.extractfile(member).read()
    return member.offset_data, member.size


def _make_row(path: str, key: str, parts: dict, problem: str = "") -> dict:
    captions, location = [], path
    position = next((parts[suffix] for suffix in IMAGE_SUFFIXES if suffix in parts), None)
    if position:
        location = tar_location(path, *position)
    if not problem:
        try:
            captions = clean_captions(parts.get("txt", b"").decode())
            captions = captions or caption_of_fields(json.loads(parts.get("json", b"{}")))
        except (ValueError, AttributeError) as error:  # no UTF-8, no JSON, no JSON object
            problem = f"caption unreadable: {error}"
        else:
            problem = "no picture" if position is None else "" if captions else "no caption"
    return {
        "key": key,
        "image": {"bytes": None, "path": location},
        "caption": captions[0] if captions else "",
        "captions": captions,
        "problem": problem,
    }


__all__ = ["caption_of_fields", "clean_captions", "index_shards", "scan_shard"]
