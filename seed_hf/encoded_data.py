"""A data set of codes on disk: its files, what they say about themselves, and reading them.

encoding-<split>.json                          what was encoded, with which weights and settings
data/<split>-00000-of-00610.parquet            key, caption, codes
skipped/<split>-00000-of-00610.jsonl           pictures that could not be read
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import snapshot_download
from transformers.utils import logging

from .training_checkpoint import package_versions


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.get_logger(__name__)

# They name things; what the things are is hashed.
_NAMES_ONLY = ("source", "image_tokenizer")


def split_name(split: str) -> str:
    """Name of a split, possibly with a slice, as a part of file names.

    Args:
        split (`str`): such as `"train"` or `"train[:1000]"`.

    Returns:
        `str`: letters, digits and underscores.

    Example:
        ```python
        >>> from seed_hf.encoded_data import split_name

        >>> split_name("train[:1000]")
        'train_1000'

        ```
    """
    return re.sub(r"\W+", "_", split).strip("_")


def part_paths(folder: Path, split: str, num_rows: int, rows_per_file: int) -> list[Path]:
    """Names the files of a split, so that `datasets` finds them by itself.

    Args:
        folder (`Path`): of the output.
        split (`str`): its name.
        num_rows (`int`): of the split.
        rows_per_file (`int`): of each file but the last.

    Returns:
        `list[Path]`: `data/<split>-00000-of-00610.parquet` ...
    """
    count = -(-num_rows // rows_per_file)
    return [folder / "data" / f"{split_name(split)}-{part:05d}-of-{count:05d}.parquet" for part in range(count)]


def skipped_path(path: Path) -> Path:
    """Names the list of skipped pictures of a part.

    Args:
        path (`Path`): parquet file of the part.

    Returns:
        `Path`: `skipped/<split>-00000-of-00610.jsonl`.
    """
    return path.parent.with_name("skipped") / f"{path.stem}.jsonl"


def count_encoded(paths: list[Path]) -> tuple[int, int]:
    """Counts what is finished.

    Args:
        paths (`list[Path]`): of [`part_paths`].

    Returns:
        `tuple[int, int]`: images with codes, skipped images.
    """
    import pyarrow.parquet as pq

    finished = [path for path in paths if path.exists()]
    skipped = [skipped_path(path).read_text().count("\n") for path in finished if skipped_path(path).exists()]
    return sum(pq.read_metadata(path).num_rows for path in finished), sum(skipped)


def find_image_tokenizer(name: str | os.PathLike, revision: str | None = None) -> tuple[Path, Path]:
    """Finds the weights of an image tokenizer, downloading them if need be.

    Args:
        name (`str` or `os.PathLike`): folder or Hub id, of an image tokenizer or of a pipeline.
        revision (`str`, *optional*): for a Hub id.

    Returns:
        `tuple[Path, Path]`: folder of the model, folder of its image processor.

    Raises:
        ValueError: if there is no image tokenizer with its processor.
    """
    folder = Path(name)
    if not folder.is_dir():
        others = ["unet/*", "vae/*", "text_encoder/*", "*.bin", "*.pth"]
        folder = Path(snapshot_download(str(name), revision=revision, ignore_patterns=others))
    is_pipeline = (folder / "image_tokenizer").is_dir()
    found = (folder / "image_tokenizer", folder / "image_processor") if is_pipeline else (folder, folder)
    if not (found[0] / "config.json").is_file() or not (found[1] / "preprocessor_config.json").is_file():
        raise ValueError(
            f"`image_tokenizer` is {str(name)!r}; allowed: a folder or Hub id with the config.json of an image "
            "tokenizer and the preprocessor_config.json of its image processor."
        )
    return found


def weights_digest(*folders: Path) -> str:
    """Hashes the weights and settings in folders.

    Args:
        folders (`Path`): of an image tokenizer and its image processor.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted({path for folder in folders for path in Path(folder).glob("*")}):
        if path.suffix == ".safetensors" or path.name in ("config.json", "preprocessor_config.json"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def rows_digest(rows: "Dataset") -> str:
    """Hashes names and captions of rows in their order; pictures are not read.

    Args:
        rows (`datasets.Dataset`): the rows.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    names = [name for name in ("key", "caption") if name in rows.column_names]
    for batch in rows.select_columns(names).iter(10_000):
        digest.update(json.dumps(batch).encode())
    return digest.hexdigest()[:16]


def check_description(path: Path, description: dict) -> None:
    """Writes what a folder is to hold, or refuses to mix it with something else.

    Args:
        path (`Path`): JSON file.
        description (`dict`): what decides the content; `source` and `image_tokenizer` are only names and may differ.

    Raises:
        ValueError: if the file says something else.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # several processes may come here at once, with the same content
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps({**description, "versions": package_versions()}, indent=2))
        os.replace(temporary, path)
    found = json.loads(path.read_text())
    wanted = {name: value for name, value in description.items() if name not in _NAMES_ONLY}
    other = {name: found.get(name) for name, value in wanted.items() if found.get(name) != value}
    if other:
        asked = {name: wanted[name] for name in other}
        raise ValueError(f"`output_dir` {str(path.parent)!r} was made with {other}; allowed: that, not {asked}.")


def read_codes(codes: str | os.PathLike, split: str = "train", image_tokenizer: str | os.PathLike | None = None):
    """Reads the codes of a split, memory-mapped.

    Args:
        codes (`str` or `os.PathLike`): folder that [`~seed_hf.encoding_seed.encode_rows`] wrote, a data set with such
            files on the Hub, or one parquet file.
        split (`str`, defaults to `"train"`): its name; in a single file the value of a column `split`, if it has one.
        image_tokenizer (`str` or `os.PathLike`, *optional*): folder whose weights the codes should come from; others
            are warned of.

    Returns:
        `datasets.Dataset`: `key`, `caption`, `codes` (`num_query_tokens` integers) and what else was kept.

    Raises:
        ValueError: if there are no codes, no such split, or some parts have not been encoded yet.
    """
    from datasets import load_dataset

    folder = Path(codes)
    if folder.is_dir():
        description_path = folder / f"encoding-{split_name(split)}.json"
        if not description_path.is_file():
            found = sorted(path.stem.removeprefix("encoding-") for path in folder.glob("encoding-*.json"))
            raise ValueError(f"`split` is {split!r}; allowed in {str(folder)!r}: {found}.")
        description = json.loads(description_path.read_text())
        paths = part_paths(folder, split, description["num_rows"], description["rows_per_file"])
        missing = sum(not path.exists() for path in paths)
        if missing:
            raise ValueError(
                f"`codes` {str(folder)!r} lacks {missing} of {len(paths)} parts of split {split!r}: the same "
                "`seed-hf encode` command as before goes on with them."
            )
        if image_tokenizer is not None:
            _warn_of_other_weights(description, image_tokenizer)
        rows = load_dataset("parquet", data_files=[str(path) for path in paths], split="train")
    elif folder.is_file():
        rows = load_dataset("parquet", data_files=str(folder), split="train")
        if "split" in rows.column_names:
            rows = rows.filter(lambda value: value == split, input_columns="split")
    else:
        rows = load_dataset(str(codes), split=split)
    if "codes" not in rows.column_names:
        raise ValueError(f"`codes` {str(codes)!r} has the columns {rows.column_names}; a column 'codes' is needed.")
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {str(codes)!r}.")
    return rows


def _warn_of_other_weights(description: dict, image_tokenizer: str | os.PathLike) -> None:
    if weights_digest(*find_image_tokenizer(image_tokenizer)) != description["weights"]:
        logger.warning(
            f"The codes were made by {description['image_tokenizer']}, whose files differ from those of "
            f"{image_tokenizer}. If the weights differ too, the codes mean something else."
        )


__all__ = ["count_encoded", "find_image_tokenizer", "read_codes"]
