"""A data set of codes on disk: its files, what they say about themselves, and reading them.

encoding-<split>.json                          what was encoded, with which weights and settings
data/<split>-00000-of-00610.parquet            key, caption, codes; in its metadata what it was made from, and its hash
skipped/<split>-00000-of-00610.jsonl           images that could not be read
"""

import hashlib
import json
import os
import re
from pathlib import Path

from transformers.utils import logging

from ..image_tokenizers import find_image_tokenizer_files
from ..provenance import weights_digest
from ..sealed_files import read_part_record
from .outputs import local_copy, local_path
from .reading import is_remote, read_parquet
from .resumable import read_description
from .splits import files_of_split


logger = logging.get_logger(__name__)


def split_name(split: str) -> str:
    """Turns the name of a split, possibly with slices, into a part of file names that `datasets` takes as a split.

    Args:
        split (`str`): A split such as `"train"`, `"train[:1000]"`, `"train[-10%:]"` or `"train+validation"`.

    Returns:
        `str`: letters, digits and underscores; other ones for other slices.

    Example:
        ```python
        >>> from seed_hf.data.codes import split_name

        >>> split_name("train[:1000]"), split_name("train[1000:]"), split_name("train[-10%:]+test")
        ('train_to_1000', 'train_from_1000', 'train_from_minus_10_percent_plus_test')

        ```
    """
    split = re.sub(r"\[([^\[\]:]*):([^\[\]:]*)\]", _slice_name, split)
    return re.sub(r"\W+", "_", split.replace("+", "_plus_")).strip("_")


def _slice_name(match: re.Match) -> str:
    ends = {"from": match[1].strip(), "to": match[2].strip()}
    words = [f"_{word}_{end}" for word, end in ends.items() if end]
    return "".join(words).replace("-", "minus_").replace("%", "_percent")


def description_path(folder: Path, split: str) -> Path:
    """Names the description of a split.

    Args:
        folder (`Path`): Output folder.
        split (`str`): Name of the split.

    Returns:
        `Path`: `encoding-<split>.json`.
    """
    return folder / f"encoding-{split_name(split)}.json"


def part_paths(folder: Path, split: str, num_rows: int, rows_per_file: int) -> list[Path]:
    """Names the files of a split, so that `datasets` finds them by itself.

    Args:
        folder (`Path`): Output folder.
        split (`str`): Name of the split.
        num_rows (`int`): Number of rows in the split.
        rows_per_file (`int`): Number of rows in each file but the last.

    Returns:
        `list[Path]`: `data/<split>-00000-of-00610.parquet` ...
    """
    count = -(-num_rows // rows_per_file)
    return [folder / "data" / f"{split_name(split)}-{part:05d}-of-{count:05d}.parquet" for part in range(count)]


def skipped_path(path: Path) -> Path:
    """Names the list of skipped images of a part.

    Args:
        path (`Path`): Parquet file of the part.

    Returns:
        `Path`: `skipped/<split>-00000-of-00610.jsonl`.
    """
    return path.parent.with_name("skipped") / f"{path.stem}.jsonl"


def count_encoded(paths: list[Path]) -> tuple[int, int]:
    """Counts what is finished.

    Args:
        paths (`list[Path]`): Files that [`part_paths`] names.

    Returns:
        `tuple[int, int]`: images with codes, skipped images.
    """
    import pyarrow.parquet as pq

    finished = [path for path in paths if path.exists()]
    lists = [skipped_path(path) for path in finished]
    skipped = [path.read_bytes().count(b"\n") for path in lists if path.exists()]
    return sum(pq.read_metadata(path).num_rows for path in finished), sum(skipped)


def count_part(path: Path) -> int:
    """Counts the rows that a finished part accounts for.

    Args:
        path (`Path`): Parquet file of the part.

    Returns:
        `int`: images with codes and skipped images.
    """
    return sum(count_encoded([path]))


def codes_identity(description: dict) -> str:
    """Hashes all that decides the content of parts.

    Args:
        description (`dict`): Description of the codes, as their folder has it.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    names = ["rows", "weights", "dtype", "num_codes", "codebook_size", "augmented_views", "rows_per_file", "columns"]
    names += ["values"] if "values" in description else []
    return hashlib.sha256(json.dumps([description.get(name) for name in names]).encode()).hexdigest()[:16]


def read_codes(codes: str | os.PathLike, split: str = "train", image_tokenizer: str | os.PathLike | None = None):
    """Reads the codes of a split, memory-mapped.

    Args:
        codes (`str` or `os.PathLike`): Folder that [`~seed_hf.data.encode.encode_rows`] wrote, also behind a URL
            (`s3://`, `hf://`, ...); a data set with such files on the Hub; or one parquet file. What lies behind a
            URL is copied into the cache of `datasets`, once for each version of it.
        split (`str`, defaults to `"train"`): Name of the split; in a single file the value of its column `split`, or
            what the file is named after. A file where nothing speaks of a split is `"train"`.
        image_tokenizer (`str` or `os.PathLike`, *optional*): Folder whose weights the codes should come from; others
            are warned of.

    Returns:
        `datasets.Dataset`: `key`, `caption`, `codes` (`num_query_tokens` integers) and what else was kept.

    Raises:
        ValueError: If there are no codes, no such split, or some parts are damaged or have not been encoded yet.
    """
    codes = local_path(codes)
    if is_remote(str(codes)):
        with local_copy(str(codes), lambda name: _is_of_split(name, split)) as folder:
            return read_codes(folder, split, image_tokenizer)
    folder = Path(codes)
    if folder.is_dir():
        file = description_path(folder, split)
        if not file.is_file():
            splits = sorted(path.stem.removeprefix("encoding-") for path in folder.glob("encoding-*.json"))
            raise ValueError(f"`split` is {split!r}; allowed in {str(folder)!r}: {splits}.")
        description = read_description(file)
        written = description.get("split", split)
        if split not in (written, split_name(written)):
            raise ValueError(f"`split` is {split!r}, but {file} is of the split {written!r}.")
        paths = part_paths(folder, split, description["num_rows"], description["rows_per_file"])
        _check_parts(folder, split, paths, description)
        if image_tokenizer is not None:
            _warn_of_other_weights(description, image_tokenizer)
        rows = read_parquet([str(path) for path in paths])
    elif folder.is_file():
        read_part_record(folder)
        rows = read_parquet([str(folder)])
        if "split" in rows.column_names:
            rows = rows.filter(lambda value: value == split, input_columns="split")
        elif (
            not folder.name.startswith(f"{split_name(split)}-")
            and files_of_split([folder.name], split) is None
            and split != "train"
        ):
            raise ValueError(
                f"`split` is {split!r}, but neither a column 'split' of {str(folder)!r} nor its name says which split "
                "it is of. Allowed: 'train', which is all of it."
            )
    else:
        from datasets import load_dataset

        rows = load_dataset(str(codes), split=split)
    if "codes" not in rows.column_names:
        raise ValueError(f"`codes` {str(codes)!r} has the columns {rows.column_names}; a column 'codes' is needed.")
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {str(codes)!r}.")
    return rows


def _is_of_split(name: str, split: str) -> bool:
    """Whether a file belongs to a split; the descriptions of others say which there are."""
    folder, _, file = name.rpartition("/")
    is_part = folder in ("data", "skipped") and file.startswith(f"{split_name(split)}-")
    return is_part or not folder and file.startswith("encoding-")


def _check_parts(folder: Path, split: str, paths: list[Path], description: dict) -> None:
    """Refuses parts that are missing, damaged, or belong elsewhere."""
    again = "the same `seed-hf encode` command as before goes on with them."
    if missing := sum(not path.exists() for path in paths):
        raise ValueError(f"`codes` {str(folder)!r} lacks {missing} of {len(paths)} parts of split {split!r}: {again}")
    unsealed, rows_per_file = 0, description["rows_per_file"]
    for part, path in enumerate(paths):
        record = read_part_record(path)
        num_rows = min(rows_per_file, description["num_rows"] - part * rows_per_file)
        if (count := count_part(path)) != num_rows:
            raise ValueError(f"{path} and its list of skipped images account for {count} of {num_rows} rows: {again}")
        unsealed += record is None
        place = {"made_from": codes_identity(description), "part": part}
        if record is not None and any(record.get(name) != value for name, value in place.items()):
            raise ValueError(
                f"{path} was made from other rows or settings than {description_path(folder, split)} says."
            )
    if unsealed:
        logger.warning(f"{unsealed} of {len(paths)} parts of {folder} have no checksums: damage would not be noticed.")


def _warn_of_other_weights(description: dict, image_tokenizer: str | os.PathLike) -> None:
    if weights_digest(*find_image_tokenizer_files(image_tokenizer).folders) != description["weights"]:
        logger.warning(
            f"The codes were made by {description['image_tokenizer']}, whose files differ from those of "
            f"{image_tokenizer}. If the weights differ too, the codes mean something else."
        )


__all__ = ["count_encoded", "read_codes", "split_name"]
