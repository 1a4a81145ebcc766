"""Caption files beside images: COCO's, Karpathy's, Unsplash's, and tables with a column `file_name`."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .places import Places
from .shards import NO_CAPTION, caption_of_fields, clean_captions, make_row
from .splits import known_split, match_split, split_words
from .tables import is_utf8, open_text, read_table


CAPTION_FILES = "metadata.csv or captions.csv with the columns file_name,text, likewise .tsv and .jsonl"
# "restval" are the images of the validation set that everybody trains on
_KARPATHY_SPLITS = {"restval": "train", "val": "validation"}


@dataclass
class Record:
    """One entry of a caption file.

    Args:
        where (`str`): Place of the entry in the file.
        name (`str`, *optional*): File of the image.
        captions (`list[str]`, *optional*): Captions of the image.
        split (`str`, *optional*): Split of the entry, where the file names one.
        problem (`str`, *optional*): Why it cannot be used, else `""`.
    """

    where: str
    name: str = ""
    captions: list[str] | tuple = ()
    split: str | None = None
    problem: str = ""


def find_caption_file(folder: Path, split: str) -> tuple[Path, bool] | None:
    """Finds the caption file of a split.

    Args:
        folder (`Path`): Folder of the data set.
        split (`str`): Name of the split.

    Returns:
        `tuple[Path, bool]`: the file, and whether its place or name says that it is of this split alone.
    """
    words = split_words(split)
    named = [f"captions_{word}*.json" for word in words]
    common = ["dataset_*.json", "photos.tsv*", "photos.csv*"]
    common += [f"{name}.{suffix}" for name in ("metadata", "captions") for suffix in ("jsonl", "csv", "tsv")]
    inner = [folder / word for word in words]
    for place in (*inner, folder, folder / "annotations"):
        for pattern in (*named, *common):
            if files := sorted(path for path in place.glob(pattern) if path.is_file()):
                return files[0], place in inner or pattern in named
    return None


def read_records(file: Path) -> list[Record]:
    """Reads a caption file of any kind.

    Args:
        file (`Path`): The file.

    Returns:
        `list[Record]`: all entries, the broken ones with their `problem`.

    Raises:
        ValueError: If the file as a whole is not what its name says.
    """
    if file.suffix == ".json":
        return list(json_records(read_json(file, "caption file"), file))
    with open_text(file) as lines:
        records = list(_jsonl_records(lines) if file.suffix == ".jsonl" else _table_records(lines, file))
    if not any(record.name for record in records):
        found = f"whose {records[0].where} is unusable: {records[0].problem}" if records else "which is empty"
        raise ValueError(f"`dataset` has the caption file {file}, {found}; allowed: 'file_name' and a caption.")
    return records


def read_json(file: Path, role: str = "file") -> Any:
    """Reads a JSON file of a data set.

    Args:
        file (`Path`): The file, with or without a byte order mark.
        role (`str`, defaults to `"file"`): What it is, for messages.

    Returns:
        `Any`: the content.

    Raises:
        ValueError: If it is not JSON, or nested too deeply.
    """
    with open_text(file) as lines:
        try:
            return _parse_json(lines.read())
        except ValueError as error:
            raise ValueError(f"`dataset` has the {role} {file}, which is not JSON: {error}") from error


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _record(where: str, name: Any, captions: list[str], split: Any = None) -> Record:
    """Checks an entry."""
    split = None if split in (None, "") else str(split)
    if not isinstance(name, str) or not name:
        return Record(where, split=split, problem="no file name")
    if "\0" in name or not all(map(is_utf8, [name, *captions])):
        return Record(where, name.encode(errors="backslashreplace").decode(), split=split, problem="no UTF-8 text")
    return Record(where, name, captions, split)


def _fields_record(where: str, fields: Any) -> Record:
    if not isinstance(fields, dict):
        return Record(where, problem=f"no object: {str(fields)[:80]!r}")
    name = fields.get("file_name") or (f"{fields['photo_id']}.jpg" if fields.get("photo_id") else None)
    if name is None:
        return Record(where, problem=f"no file name: {dict(fields)}"[:200])
    return _record(where, name, caption_of_fields(fields), fields.get("split"))


def _jsonl_records(lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                fields = _parse_json(line)
            except ValueError as error:
                yield Record(f"line {number}", problem=f"no JSON: {error}")
            else:
                yield _fields_record(f"line {number}", fields)


def _table_records(lines: Iterator[str], file: Path) -> Iterator[Record]:
    # Unsplash gives its tables numbered endings: photos.tsv000
    table = read_table(lines, "\t" if ".tsv" in file.name else ",")
    _, header = next(table, (1, []))
    header = [name.strip() for name in header] if isinstance(header, list) else [header]
    if not {"file_name", "photo_id"} & set(header):
        raise ValueError(f"{file} has the columns {header}"[:500] + "; allowed: 'file_name' and a caption.")
    for number, fields in table:
        where = f"line {number}"
        if isinstance(fields, str):
            yield Record(where, problem=fields)
        elif len(fields) > len(header):
            yield Record(where, problem=f"too many fields: {len(fields)}, and {len(header)} columns")
        else:
            yield _fields_record(where, dict(zip(header, fields, strict=False)))


def json_records(content: Any, file: Path) -> Iterator[Record]:
    """Lists the entries of COCO's and Karpathy's files.

    Args:
        content (`Any`): Content of the file.
        file (`Path`): The file, for messages.

    Returns:
        `Iterator[Record]`: all entries, the broken ones with their `problem`.

    Raises:
        ValueError: If it is neither.
    """
    lists = {name: content.get(name) for name in ("images", "annotations")} if isinstance(content, dict) else {}
    kinds = {name: type(value).__name__ for name, value in lists.items() if value is not None}
    if kinds not in ({"images": "list"}, {"images": "list", "annotations": "list"}):
        raise ValueError(
            f"`dataset` has the caption file {file}, which holds {kinds or type(content).__name__}; allowed: a list "
            "'images' with 'sentences' (Karpathy), or lists 'images' and 'annotations' (COCO)."
        )
    if lists["annotations"] is not None:
        return _coco_records(lists["images"], lists["annotations"])
    return _karpathy_records(lists["images"])


def _coco_records(images: list, annotations: list) -> Iterator[Record]:
    images = [image for image in images if isinstance(image, dict) and isinstance(image.get("id"), int | str)]
    names = {image["id"]: image.get("file_name") for image in images}
    for number, found in enumerate(annotations):
        where = f"annotation {number}"
        if not isinstance(found, dict):
            yield Record(where, problem="no object")
        elif not isinstance(image := found.get("image_id"), int | str) or image not in names:
            yield Record(where, problem=f"unknown image: no image has the id {str(image)[:80]}")
        else:
            yield _record(where, names[image], clean_captions(found.get("caption")))


def _karpathy_records(images: list) -> Iterator[Record]:
    for number, image in enumerate(images):
        where = f"image {number}"
        if isinstance(image, dict):
            split = str(image.get("split") or "")
            captions = clean_captions(image.get("sentences"))
            yield _record(where, image.get("filename"), captions, _KARPATHY_SPLITS.get(split, split))
        else:
            yield Record(where, problem="no object")


def records_of_split(records: list[Record], split: str, file: Path, is_named: bool) -> list[Record]:
    """Picks the entries of one split; an entry that could belong to any gets a problem.

    Args:
        records (`list[Record]`): Entries from [`read_records`].
        split (`str`): Name of the split.
        file (`Path`): The file, for messages.
        is_named (`bool`): Whether the file is of this split alone; what its entries say counts all the same.

    Returns:
        `list[Record]`: Records of the split.

    Raises:
        ValueError: If nothing says which entries belong to the split.
    """
    splits = {record.split for record in records if record.split}
    if not splits and not is_named:
        # folders within the names are splits where all of them are
        folders = [Path(record.name).parts[:1] if "/" in record.name else () for record in records if record.name]
        if folders and all(part and known_split(part[0]) for part in folders):
            records = [Record(r.where, r.name, r.captions, r.name.split("/")[0] or None, r.problem) for r in records]
            splits = {record.split for record in records if record.split}
    if not splits:
        if not is_named and split != "train":
            raise ValueError(
                f"`split` is {split!r}, but nothing in {str(file)!r} says which rows belong to it. Allowed: 'train', "
                "slices of it as 'train[1000:]' and 'train[:1000]', or a column 'split'."
            )
        return records
    matching = match_split(split, splits)
    if not matching:
        raise ValueError(f"`split` is {split!r}; allowed in {str(file)!r}: {sorted(splits)[:20]}.")
    for record in records:
        if record.split is None and not is_named:
            record.problem = record.problem or "no split"
    return [record for record in records if record.split is None or record.split in matching]


def captioned_pictures(folder: str, file: str, split: str, is_named: bool, allow_outside_paths: bool, **_):
    """Makes rows of a caption file; an image with several entries becomes one row with several captions.

    Args:
        folder (`str`): Folder of the data set.
        file (`str`): The caption file.
        split (`str`): Name of the split.
        is_named (`bool`): Whether the file is of this split alone.
        allow_outside_paths (`bool`): Whether images may lie outside of the folder.
        _: what the cache goes by beside these.

    Returns:
        `Iterator[dict]`: as [`~seed_hf.data.shards.make_row`] makes them; unusable entries come last.
    """
    records = records_of_split(read_records(Path(file)), split, Path(file), is_named)
    captions = defaultdict(list)
    for record in records:
        if not record.problem:
            captions[record.name].extend(record.captions)
    places, allowed = picture_folders(folder, file, split), Places([folder], allow_outside_paths)
    for name, texts in captions.items():
        # a missing image keeps its place and is reported when it is read
        paths = [os.path.join(place, name) for place in places]
        path = next((path for path in paths if os.path.isfile(path)), os.path.join(folder, name))
        problem = allowed.check(path)
        yield make_row(name, path, texts, problem or ("" if texts else NO_CAPTION))
    for record in records:
        if not record.problem and not record.captions and captions[record.name]:
            record.problem = "one caption of several is empty"
        if record.problem:
            yield make_row(record.name or record.where, file, [], f"{record.problem}: {record.where}")


def picture_folders(folder: str, file: str, split: str) -> list[str]:
    """Lists where the images of a caption file are looked for.

    Args:
        folder (`str`): Folder of the data set.
        file (`str`): The caption file.
        split (`str`): Folders of other splits come last.

    Returns:
        `list[str]`: folders, the likeliest first.
    """
    words = {known_split(word) for word in split_words(split)} - {None}
    inner = sorted(str(path) for path in Path(folder).iterdir() if path.is_dir())
    inner.sort(key=lambda path: known_split(Path(path).name) not in words)
    return [str(Path(file).parent), folder, *inner]


__all__ = [
    "CAPTION_FILES",
    "captioned_pictures",
    "find_caption_file",
    "json_records",
    "picture_folders",
    "read_json",
    "read_records",
]
