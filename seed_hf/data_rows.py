"""One string names any image-text data set: tar shards, parquet files, a folder of pictures, or an id on the Hub."""

import csv
import glob
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from .data_reading import is_remote
from .data_shards import IMAGE_SUFFIXES, caption_of_fields, clean_captions, generate_rows, index_shards


ALLOWED = (
    "tar shards ('cc3m/cc3m-{split}-{0000..0575}.tar'), parquet files ('data/{split}-*.parquet'), a folder with "
    "shards, parquet files or pictures and a caption file, or the id of a data set on the Hub"
)
_SLICE = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_IMAGE_COLUMNS = ("image", *IMAGE_SUFFIXES, "image_bytes", "img")
_CAPTION_COLUMNS = ("caption", "captions", "annotations_captions", "text", "txt", "sentences", "sentence", "raw")


def load_rows(dataset: str, split: str = "train", *, max_unreadable_share: float = 0.01, keep_unusable: bool = False):
    r"""
    Load the rows of one split of any image-text data set, pictures neither decoded nor, from shards, read.

    Args:
        dataset (`str`): One of
            tar shards, a glob or a path or URL with numbers in braces, such as `"cc3m/{split}-{0000..0575}.tar"`
            (the WebDataset layout, see [`~seed_hf.data_shards.index_shards`]); parquet files, a glob; a folder that
            holds shards, parquet files or pictures with a caption file (COCO's `captions_*.json`, Karpathy's
            `dataset_coco.json` or `dataset_flickr30k.json`, Unsplash's `photos.tsv*`, or `metadata` / `captions` as
            `.csv`, `.tsv` or `.jsonl` with a column `file_name`); anything else is an id for `datasets.load_dataset`.
            `{split}` in it stands for the name of the split.
        split (`str`, *optional*, defaults to `"train"`): Name of the split, possibly with a slice, as
            `"train[:1000]"`. Parquet and caption files can also have a column `split`.
        max_unreadable_share (`float`, *optional*, defaults to 0.01): Share of samples that may be left out.
        keep_unusable (`bool`, *optional*, defaults to `False`): Keep samples of shards that lack a picture or a
            caption, with a column `problem` that says so.

    Returns:
        `datasets.Dataset`: with `image` (`bytes` or `path`, not decoded) and `caption`; `captions` where pictures can
        have several; `key` where they have names; `shard` for tar shards; whatever other columns there are.

    Raises:
        ValueError: If nothing is found, columns are missing, or nothing says which rows belong to the split.

    Example:

    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from seed_hf.data_rows import load_rows

    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (8, 8), "red").save(folder / "1.png")
    >>> _ = (folder / "captions.csv").write_text("file_name,caption\n1.png,a red square\n")
    >>> load_rows(str(folder))["caption"][:]
    ['a red square']

    ```
    """
    match = _SLICE.fullmatch(split)
    if match is None:
        raise ValueError(f"`split` is {split!r}; allowed: a name, or a name and a slice of rows as 'train[:1000]'.")
    name, start, stop = match["name"], match["start"], match["stop"]
    source = dataset.replace("{split}", name)
    if source.endswith(".tar"):
        _check_split_is_known(dataset, name)
        rows = index_shards(expand_files(source), max_unreadable_share, keep_unusable)
    elif source.endswith(".parquet"):
        rows = _load_parquet(expand_files(source), dataset, name)
    elif os.path.isdir(source):
        rows = _load_folder(Path(source), name, max_unreadable_share, keep_unusable)
    elif os.path.exists(source) or any(mark in source for mark in "*?{}"):
        raise ValueError(f"`dataset` is {dataset!r}; allowed: {ALLOWED}.")
    else:
        from datasets import load_dataset

        rows = load_dataset(source, split=name)
    rows = _name_columns(rows, dataset)
    if start or stop:
        rows = rows.select(range(len(rows))[slice(int(start) if start else None, int(stop) if stop else None)])
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {dataset!r}.")
    return rows


def expand_files(pattern: str) -> list[str]:
    r"""
    List the files that a pattern names.

    Args:
        pattern (`str`): Path, glob or URL; `{0000..0575}` stands for these numbers.

    Returns:
        `list[str]`: In order.

    Raises:
        ValueError: If there is none.

    Example:

    ```python
    >>> from seed_hf.data_rows import expand_files

    >>> expand_files("https://host/cc3m-{08..10}.tar")
    ['https://host/cc3m-08.tar', 'https://host/cc3m-09.tar', 'https://host/cc3m-10.tar']

    ```
    """
    match = _BRACES.search(pattern)
    if match:
        first, last = match.groups()
        numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
        parts = (expand_files(pattern[: match.start()] + number + pattern[match.end() :]) for number in numbers)
        return list(itertools.chain.from_iterable(parts))
    if is_remote(pattern):
        return [pattern]
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise ValueError(f"{pattern!r} names no file; allowed: {ALLOWED}.")
    return files


def _check_split_is_known(dataset: str | Path, split: str) -> None:
    """Where nothing tells validation from training, asking for validation must not give the training rows."""
    if "{split}" not in str(dataset) and split != "train":
        raise ValueError(
            f"`split` is {split!r}, but nothing in {str(dataset)!r} says which rows belong to it. Allowed: a "
            "`dataset` with '{split}' in it, or slices of the one split, as 'train[1000:]' and 'train[:1000]'."
        )


def _load_parquet(files: list[str], dataset: str | Path, split: str):
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=files, split="train")
    if "split" in rows.column_names:
        return rows.filter(lambda value: value == split, input_columns="split")
    _check_split_is_known(dataset, split)
    return rows


def _load_folder(folder: Path, split: str, *shard_settings):
    for suffix in ("tar", "parquet"):
        files = sorted(str(path) for path in folder.rglob(f"*.{suffix}") if not path.name.startswith("."))
        named = [file for file in files if split in re.split(r"[-_./]", os.path.relpath(file, folder))]
        # files named after the split are as good as a pattern with it
        dataset = folder / "{split}" if named else folder
        if files and suffix == "parquet":
            return _load_parquet(named or files, dataset, split)
        if files:
            _check_split_is_known(dataset, split)
            return index_shards(named or files, *shard_settings)
    return _load_captioned_pictures(folder, split)


def _name_columns(rows, dataset: str):
    """Gives picture and caption the names that everything here uses; pictures stay undecoded."""
    from datasets import Image, concatenate_datasets

    images = [name for name in _IMAGE_COLUMNS if name in rows.column_names]
    captions = [name for name in _CAPTION_COLUMNS if name in rows.column_names]
    if not images or not captions and "json" not in rows.column_names:
        raise ValueError(
            f"`dataset` {dataset!r} has the columns {rows.column_names}; allowed: a picture in one of "
            f"{_IMAGE_COLUMNS} and its caption in one of {_CAPTION_COLUMNS}, or in a 'json' with such a field."
        )
    if images[0] != "image":
        rows = rows.rename_column(images[0], "image")
    rows = rows.cast_column("image", Image(decode=False))
    if "__key__" in rows.column_names and "key" not in rows.column_names:
        rows = rows.rename_column("__key__", "key")
    source = captions[0] if captions else "json"
    if source != "txt" and getattr(rows.features[source], "dtype", None) in ("string", "large_string"):
        return rows if source == "caption" else rows.rename_column(source, "caption")

    def to_captions(value):
        found = caption_of_fields(value) if source == "json" else clean_captions(value)
        return {"caption": found[0] if found else "", "captions": found}

    # only the captions are rewritten: a map over the whole table would copy every picture
    texts = rows.select_columns(source).rename_column(source, "source")
    texts = texts.map(to_captions, input_columns="source", remove_columns="source")
    others = rows.remove_columns([name for name in rows.column_names if name in (source, "caption", "captions")])
    return concatenate_datasets([others, texts], axis=1)


def _load_captioned_pictures(folder: Path, split: str):
    file = _find_caption_file(folder, split)
    if file is None:
        raise ValueError(f"`dataset` is the folder {str(folder)!r}, which holds no data; allowed: {ALLOWED}.")
    stamp = (file.stat().st_size, file.stat().st_mtime_ns)  # a changed file is read again
    arguments = {"folder": str(folder), "file": str(file), "split": split, "stamp": stamp}
    return generate_rows(_captioned_pictures, arguments)


def _find_caption_file(folder: Path, split: str) -> Path | None:
    patterns = [f"captions_{split}*.json", "dataset_*.json", "photos.tsv*", "photos.csv*"]
    patterns += [f"{name}.{suffix}" for name in ("metadata", "captions") for suffix in ("jsonl", "csv", "tsv")]
    places = (folder / split, folder, folder / "annotations")
    return next((file for place in places for pattern in patterns for file in sorted(place.glob(pattern))), None)


def _captioned_pictures(folder: str, file: str, split: str, stamp: tuple) -> Iterator[dict]:
    """Rows of a caption file; a picture with several lines becomes one row with several captions."""
    captions = defaultdict(list)
    for name, texts, row_split in _read_captions(Path(file), split):
        if row_split in (None, split):
            captions[name].extend(texts)
    places = [Path(file).parent, Path(folder), *(path for path in sorted(Path(folder).iterdir()) if path.is_dir())]
    for name, texts in captions.items():
        # a missing picture keeps its place and is reported when it is read
        path = next((place / name for place in places if (place / name).is_file()), Path(folder) / name)
        if texts:
            image = {"bytes": None, "path": str(path)}
            yield {"key": name, "image": image, "caption": texts[0], "captions": texts}


def _read_captions(file: Path, split: str) -> Iterable[tuple[str, list[str], str | None]]:
    """(picture, captions, split) of each record of a caption file."""
    if file.suffix == ".json":
        content = json.loads(file.read_text())
        if "annotations" in content:  # COCO
            names = {image["id"]: image["file_name"] for image in content["images"]}
            for record in content["annotations"]:
                yield names[record["image_id"]], clean_captions(record["caption"]), None
        else:  # Karpathy: "restval" are the pictures of the validation set that everybody trains on
            for record in content["images"]:
                record_split = {"restval": "train", "val": "validation"}.get(record["split"], record["split"])
                yield record["filename"], clean_captions(record["sentences"]), record_split
        return
    # Unsplash gives its tables numbered endings: photos.tsv000
    with file.open(newline="", encoding="utf-8") as lines:
        if file.suffix == ".jsonl":
            records = (json.loads(line) for line in lines if line.strip())
        else:
            records = csv.DictReader(lines, delimiter="\t" if ".tsv" in file.name else ",")
        for record in records:
            name = record.get("file_name") or (f"{record['photo_id']}.jpg" if record.get("photo_id") else None)
            if name is None:
                raise ValueError(f"{file} has the columns {list(record)}; allowed: 'file_name' and a caption.")
            yield name, caption_of_fields(record), record.get("split") or None


__all__ = ["expand_files", "load_rows"]
