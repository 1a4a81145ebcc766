"""One string names any image-text data set: tar shards, parquet files, a folder of images, or an id on the Hub."""

import glob
import itertools
import os
import re
from pathlib import Path

from ..hub.fetch import emoji_folder
from ..models.image_formats_seed import IMAGE_SUFFIXES
from .captions import CAPTION_FILES, captioned_pictures, find_caption_file, picture_folders
from .columns import drop_unusable, forgive_missing_captions, name_columns, with_problems
from .image_identity import file_stamp
from .places import Places
from .reading import is_remote, read_parquet
from .resumable import check_positive
from .shards import NO_CAPTION, index_shards, make_row
from .splits import files_of_split, match_split, named_split
from .tables import is_utf8


ALLOWED = (
    "tar shards ('cc3m/cc3m-{split}-{0000..0575}.tar'), parquet files ('data/{split}-*.parquet'), a folder with "
    "shards, parquet files or images and a caption file, or the id of a data set on the Hub"
)
_SLICE = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def load_rows(
    dataset: str,
    split: str = "train",
    *,
    max_unreadable_share: float = 0.01,
    keep_unusable: bool = False,
    captions: str = "required",
    allow_outside_paths: bool = False,
    index_processes: int | None = None,
):
    r"""
    Load the rows of one split of any image-text data set, images neither decoded nor, from shards, read.

    Args:
        dataset (`str`): One of
            tar shards, a glob or a path or URL with numbers in braces, such as `"cc3m/{split}-{0000..0575}.tar"`
            (the WebDataset layout, see [`~seed_hf.data.shards.index_shards`]); parquet files, a glob; a folder that
            holds shards, parquet files or images with a caption file (COCO's `captions_*.json`, Karpathy's
            `dataset_coco.json` or `dataset_flickr30k.json`, Unsplash's `photos.tsv*`, or `metadata` / `captions` as
            `.csv`, `.tsv` or `.jsonl` with a column `file_name`); `"emoji"`, the drawings that seed-mini learned from
            (in a checkout of the repository); anything else is an id for `datasets.load_dataset`.
            `{split}` in it stands for the name of the split.
        split (`str`, *optional*, defaults to `"train"`): Name of the split, possibly with a slice, as
            `"train[:1000]"`; it counts all rows, unusable ones too. Parquet and caption files can also have a column
            `split`.
        max_unreadable_share (`float`, *optional*, defaults to 0.01): Share of samples that may be left out, because
            they lack an image or a caption, or are damaged. How many and why is logged.
        keep_unusable (`bool`, *optional*, defaults to `False`): Keep them, with a column `problem` that says why.
        captions (`str`, *optional*, defaults to `"required"`): `"optional"` keeps images without one, and takes a
            folder of images without a caption file; their `caption` is empty.
        allow_outside_paths (`bool`, *optional*, defaults to `False`): Also read images that the data set names by a
            path or URL outside of its own folder or source, or through a link that leads there.
        index_processes (`int`, *optional*): Number of processes that index tar shards; by default one for each core,
            as far as there is work for them.

    Returns:
        `datasets.Dataset`: with `image` (`bytes` or `path`, not decoded) and `caption`; `captions` where images can
        have several; `key` where they have names; `shard` for tar shards; whatever other columns there are.

    Raises:
        ValueError: If nothing is found, columns are missing, nothing says which rows belong to the split, or a file
            as a whole is damaged.
        TooManyUnreadableSamplesError: If more than `max_unreadable_share` is left out.

    Example:

    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from seed_hf.data.rows import load_rows

    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (8, 8), "red").save(folder / "1.png")
    >>> _ = (folder / "captions.csv").write_text("file_name,caption\n1.png,a red square\n")
    >>> load_rows(str(folder))["caption"][:]
    ['a red square']

    ```
    """
    if dataset == "emoji":
        dataset = str(emoji_folder() / "*.parquet")
    match = _SLICE.fullmatch(split)
    if match is None:
        raise ValueError(f"`split` is {split!r}; allowed: a name, or a name and a slice of rows as 'train[:1000]'.")
    if captions not in ("required", "optional"):
        raise ValueError(f"`captions` is {captions!r}; allowed: 'required' or 'optional'.")
    check_positive(index_processes=index_processes)
    name, start, stop = match["name"], match["start"], match["stop"]
    source = dataset.replace("{split}", name)
    rows = _find_rows(dataset, source, name, captions == "required", allow_outside_paths, index_processes)
    if captions == "optional" and NO_CAPTION in rows["problem"][:]:
        rows = forgive_missing_captions(rows)
    if start or stop:
        # before any row is left out, so that slices which do not overlap never share a row
        rows = rows.select(range(len(rows))[slice(int(start) if start else None, int(stop) if stop else None)])
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {dataset!r}.")
    return drop_unusable(rows, dataset, max_unreadable_share, keep_unusable)


def _find_rows(
    dataset: str, source: str, split: str, needs_captions: bool, allow_outside: bool, index_processes: int | None
):
    """Rows of whatever `source` names, with a column `problem`."""
    is_named = "{split}" in dataset
    if source.endswith(".tar"):
        _check_split_is_known(dataset, split)
        return index_shards(expand_files(source), index_processes)
    if source.endswith(".parquet"):
        files = expand_files(source)
        places = Places(sorted({_folder_of(file) for file in files}), allow_outside)
        return _load_parquet(files, dataset, split, is_named, places, needs_captions)
    if os.path.isdir(source):
        return _load_folder(Path(source), split, is_named, needs_captions, allow_outside, index_processes)
    if os.path.exists(source) or any(mark in source for mark in "*?{}"):
        raise ValueError(f"`dataset` is {dataset!r}; allowed: {ALLOWED}.")
    return name_columns(_load_from_hub(source, split), dataset, _hub_places(source, allow_outside), needs_captions)


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
    >>> from seed_hf.data.rows import expand_files

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
    # a name with brackets is a pattern, too, of which it is no case
    files = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise ValueError(f"{pattern!r} names no file; allowed: {ALLOWED}.")
    return files


def _check_split_is_known(dataset: str | Path, split: str) -> None:
    """Refuses to give the training rows for validation where nothing distinguishes the two."""
    if "{split}" not in str(dataset) and split != "train":
        raise ValueError(
            f"`split` is {split!r}, but nothing in {str(dataset)!r} says which rows belong to it. Allowed: a "
            "`dataset` with '{split}' in it, or slices of the one split, as 'train[1000:]' and 'train[:1000]'."
        )


def _folder_of(file: str) -> str:
    return file.rpartition("/")[0] if is_remote(file) else os.path.dirname(os.path.abspath(file))


def _load_parquet(files: list[str], dataset: str, split: str, is_named: bool, places: Places, needs_captions: bool):
    rows = name_columns(_read_parquet(files, dataset, split), dataset, places, needs_captions)
    if "split" in rows.column_names:
        names = [name for name in rows.unique("split") if isinstance(name, str) and name]
        matching = sorted(match_split(split, names))  # sets have no order that a cache could go by
        if not matching:
            found = sorted({*map(str, rows.unique("split"))} - {"None"})
            raise ValueError(f"`split` {split!r} leaves no row of {dataset!r}; allowed: {found[:20]}.")
        # rows of no split could be of any: they are counted
        found = zip(rows["problem"][:], rows["split"][:], strict=True)
        rows = with_problems(rows, [problem or ("" if name else "no split") for problem, name in found])
        return rows.filter(lambda value: not value or value in matching, input_columns="split")
    if not is_named:
        _check_split_is_known(dataset, split)
    return rows


def _read_parquet(files: list[str], dataset: str, split: str):
    if wrong := [file for file in files if not is_remote(file) and not os.path.isfile(file)]:
        raise ValueError(
            f"`dataset` {dataset!r} cannot be read as parquet, since it has what is not a file: {wrong[:3]}."
        )
    try:
        rows = read_parquet(files)
    except Exception as error:  # Arrow, `datasets` and file systems raise many types
        raise ValueError(f"`dataset` {dataset!r} cannot be read as parquet: {error.__cause__ or error}") from error
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {dataset!r}.")
    return rows


def _find_shards(folder: Path, suffix: str) -> list[str]:
    """Lists dangling links, pipes and devices too, so that they are reported."""
    found = [path for path in folder.rglob(f"*.{suffix}") if not path.name.startswith(".") and not path.is_dir()]
    if found:
        # not the codes of these images, which `seed-hf encode` has put among them
        codes = {path.parent for path in folder.rglob("encoding-*.json")} - {folder}
        found = [path for path in found if codes.isdisjoint(path.parents)]
    return sorted(str(path.relative_to(folder)) for path in found)


def _has_split_column(file: Path) -> bool:
    import pyarrow.parquet as pq

    try:
        return file.is_file() and "split" in pq.read_schema(file).names
    except Exception:  # it is reported when it is read
        return False


def _load_from_hub(name: str, split: str):
    from datasets import load_dataset

    try:
        return load_dataset(name, split=split)
    except Exception as error:  # of the Hub, the network, Arrow and `datasets`
        raise ValueError(
            f"`dataset` is {name!r} and `split` {split!r}; no file or folder has this name, and the Hub says: {error}"
        ) from error


def _hub_places(name: str, allow_outside: bool) -> Places:
    """Lists where a data set of the Hub lies: its repository, and the files that `datasets` downloads for it."""
    from datasets import config
    from huggingface_hub import constants

    cached = os.path.join(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}")
    roots = [f"hf://datasets/{name}", cached, str(config.DOWNLOADED_DATASETS_PATH)]
    return Places(roots, allow_outside)


def _load_folder(
    folder: Path, split: str, is_named: bool, needs_captions: bool, allow_outside: bool, index_processes: int | None
):
    places = Places([str(folder)], allow_outside)
    for suffix in ("tar", "parquet"):
        found = _find_shards(folder, suffix)
        if not found:
            continue
        has_column = suffix == "parquet" and _has_split_column(folder / found[0])
        named = None if is_named else files_of_split(found, split, must=not has_column)
        if named is None and not is_named and suffix == "tar":
            _check_split_is_known(folder, split)
        files = [str(folder / path) for path in (found if named is None else named)]
        if outside := [file for file in files if not places.hold(file)]:
            raise ValueError(
                f"`dataset` {str(folder)!r} has files that are links out of it: {outside[:3]}; allowed with "
                "`allow_outside_paths`, or where `dataset` names them itself."
            )
        if suffix == "tar":
            return index_shards(files, index_processes)
        return _load_parquet(files, str(folder), split, is_named or named is not None, places, needs_captions)
    return _load_pictures(folder, split, is_named, needs_captions, places)


def _load_pictures(folder: Path, split: str, is_named: bool, needs_captions: bool, places: Places):
    """Images with a caption file, or without one where none is needed."""
    from .generated import generate_rows  # imports `datasets`, which `--help` does without

    found = find_caption_file(folder, split)
    if found is not None:
        file, is_of_split = found
        if not places.hold(str(file)):
            raise ValueError(f"The caption file {file} is a link out of {folder}; allowed with `allow_outside_paths`.")
        # what has changed is read again
        changing = [file, *picture_folders(str(folder), str(file), split)]
        arguments = {"folder": str(folder), "file": str(file), "split": split, "is_named": is_named or is_of_split}
        arguments |= {"stamp": tuple(file_stamp(str(path)) for path in changing)}
        return generate_rows(captioned_pictures, {**arguments, "allow_outside_paths": places.allow_outside})
    files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".")
    names = sorted(str(path.relative_to(folder)) for path in files if path.is_file())
    if not names or needs_captions:
        pictures = f" for {split!r}: {len(names)} images, but no caption file ({CAPTION_FILES})" if names else ""
        raise ValueError(
            f"`dataset` is the folder {str(folder)!r}, which holds no data{pictures}; allowed: {ALLOWED}."
        )
    named = None if is_named else _split_folders(names, split)
    if named is None and not is_named:
        _check_split_is_known(folder, split)
    arguments = {"folder": os.path.abspath(folder), "names": names if named is None else named}
    # where links lead decides what may be read
    links = [name for name in arguments["names"] if os.path.islink(folder / name)]
    arguments["stamp"] = tuple((name, os.path.realpath(folder / name)) for name in links)
    return generate_rows(_bare_pictures, {**arguments, "allow_outside_paths": places.allow_outside})


def _split_folders(names: list[str], split: str) -> list[str] | None:
    """
    Pictures of a split where all of them lie in folders that are named after splits.

    Words in the names of pictures say nothing: there a train is a thing. Nor do folders where only some are splits.
    """
    folders = [os.path.dirname(name) for name in names]
    if not all(folder and named_split(folder, split) for folder in folders):
        return None
    of_split = set(files_of_split(folders, split))
    return [name for name, folder in zip(names, folders, strict=True) if folder in of_split]


def _bare_pictures(folder: str, names: list[str], allow_outside_paths: bool, **_):
    places = Places([folder], allow_outside_paths)
    for name in names:
        path = os.path.join(folder, name)
        # Arrow cannot hold other names
        problem = places.check(path) if is_utf8(name) else "no UTF-8 text"
        yield make_row(name, path if is_utf8(name) else "", [], problem or NO_CAPTION)


__all__ = ["expand_files", "load_rows"]
