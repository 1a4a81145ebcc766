"""Tables of any data set with the columns that everything here uses, and what is wrong with their rows."""

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.utils import logging

from ..models.image_formats_seed import IMAGE_SUFFIXES
from .places import Places
from .reading import check_share
from .shards import NO_CAPTION, caption_of_fields, clean_captions
from .tables import is_utf8


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.get_logger(__name__)

_IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "img")
_IMAGE_COLUMNS += tuple(name for suffix in IMAGE_SUFFIXES if (name := suffix.removeprefix(".")) not in _IMAGE_COLUMNS)
_CAPTION_COLUMNS = ("caption", "captions", "annotations_captions", "text", "txt", "sentences", "sentence", "raw")


def name_columns(rows: "Dataset", dataset: str, places: Places, needs_captions: bool = True) -> "Dataset":
    """Gives image and caption the names that everything here uses, and says what is wrong with each row.

    Args:
        rows (`datasets.Dataset`): Rows of parquet files or the Hub.
        dataset (`str`): Name of the data set, for messages.
        places (`Places`): Where the images of the data set may lie.
        needs_captions (`bool`, defaults to `True`): Whether captions must be there.

    Returns:
        `datasets.Dataset`: with `image` (not decoded), `caption`, `captions` where images can have several, and
        `problem`.

    Raises:
        ValueError: If columns are missing, or hold something else.
    """
    from datasets import Image

    _check_text(rows, dataset)
    images = [name for name in _IMAGE_COLUMNS if name in rows.column_names]
    captions = [name for name in (*_CAPTION_COLUMNS, "json") if name in rows.column_names]
    if not images or needs_captions and not captions:
        raise ValueError(
            f"`dataset` {dataset!r} has the columns {rows.column_names}; allowed: an image in one of "
            f"{_IMAGE_COLUMNS[:7]} and its caption in one of {_CAPTION_COLUMNS}, or in a 'json' with such a field."
        )
    try:
        rows = rows.rename_column(images[0], "image") if images[0] != "image" else rows
        rows = rows.cast_column("image", Image(decode=False))
    except Exception as error:  # Arrow and `datasets` raise many types
        raise ValueError(
            f"`dataset` {dataset!r} has no images in the column {images[0]!r}: {error}. Allowed: files as `datasets` "
            "stores them, as bytes, or as paths."
        ) from error
    for name, feature in rows.features.items():  # other images, and sounds, are none of our business
        if getattr(feature, "decode", False):
            rows = rows.cast_column(name, dataclasses.replace(feature, decode=False))
    if "__key__" in rows.column_names and "key" not in rows.column_names:
        rows = rows.rename_column("__key__", "key")
    rows = _find_files(rows, places)
    rows, no_captions = _name_captions(rows, captions, dataset, needs_captions)
    problems = _image_problems(rows, places)
    return with_problems(
        rows,
        [
            found or (NO_CAPTION if missing and needs_captions else "")
            for found, missing in zip(problems, no_captions, strict=True)
        ],
    )


def drop_unusable(rows: "Dataset", dataset: str, max_share: float, keep: bool = False) -> "Dataset":
    """Leaves out rows with a problem, and says how many and why.

    Args:
        rows (`datasets.Dataset`): Rows with a column `problem`.
        dataset (`str`): Name of the data set, for messages.
        max_share (`float`): Share of rows that may be left out, see [`~seed_hf.data.reading.check_share`].
        keep (`bool`, defaults to `False`): Keep them, and the column.

    Returns:
        `datasets.Dataset`: the rows.

    Raises:
        TooManyUnreadableSamplesError: If too many are left out.
        ValueError: If none is left.
    """
    problems = rows["problem"][:]
    bad = [index for index, problem in enumerate(problems) if problem]
    reasons = dict(Counter(problems[index].partition(":")[0] for index in bad))
    if bad:
        names = [name for name in ("key", "image") if name in rows.column_names]
        shown = zip(bad, rows.select_columns(names).select(bad[:5]), strict=False)
        examples = [
            f"{row.get('key') or f'row {index}'!r} of {(row['image'] or {}).get('path') or dataset}: {problems[index]}"
            for index, row in shown
        ]
        message = f"{len(bad)} of {len(rows)} samples are left out, {reasons}; for example {'; '.join(examples)}"
        check_share(len(bad), len(rows), max_share, message)
    if keep:
        return rows
    if bad:
        logger.warning(message)
        rows = rows.select([index for index, problem in enumerate(problems) if not problem])
    if not len(rows):
        raise ValueError(f"`dataset` {dataset!r} holds no sample that can be used: {reasons}.")
    return rows.remove_columns("problem")


def forgive_missing_captions(rows: "Dataset") -> "Dataset":
    """Makes rows that lack nothing but a caption usable.

    Args:
        rows (`datasets.Dataset`): Rows with a column `problem`.

    Returns:
        `datasets.Dataset`: the same rows.
    """
    return with_problems(rows, ["" if problem == NO_CAPTION else problem for problem in rows["problem"]])


def with_problems(rows: "Dataset", problems: list[str]) -> "Dataset":
    """Replaces what is said to be wrong with rows.

    Args:
        rows (`datasets.Dataset`): Rows with any columns.
        problems (`list[str]`): One for each row, `""` where nothing is wrong.

    Returns:
        `datasets.Dataset`: with them as the column `problem`.
    """
    from datasets import concatenate_datasets

    others = rows.remove_columns("problem") if "problem" in rows.column_names else rows
    return concatenate_datasets([others, _text_column("problem", problems)], axis=1)


def _text_column(name: str, values: list[str]) -> "Dataset":
    from datasets import Dataset, Features, Value

    return Dataset.from_dict({name: values}, features=Features({name: Value("string")}))


def _check_text(rows: "Dataset", dataset: str) -> None:
    """Checks for text that is not UTF-8, which would end a job when its row is read."""
    import pyarrow as pa

    for name in rows.column_names:
        try:
            rows.data.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError(f"`dataset` {dataset!r} has a column {name!r} that is damaged: {error}") from error


def _paths_without_bytes(rows: "Dataset") -> tuple[list[int], list[str | None]]:
    """Lists the rows whose image lies in a file, and the paths; bytes are not read."""
    import pyarrow.compute as pc

    column = rows.data.column("image")
    numbers = np.flatnonzero(pc.is_null(pc.struct_field(column, "bytes")).to_numpy())
    return numbers.tolist(), pc.struct_field(column, "path").take(numbers).to_pylist()


def _image_problems(rows: "Dataset", places: Places) -> list[str]:
    problems = [""] * len(rows)
    for number, path in zip(*_paths_without_bytes(rows), strict=True):
        problems[number] = places.check(path) if path else "no image"
    return problems


def _find_files(rows: "Dataset", places: Places) -> "Dataset":
    """Makes relative paths start where the data set lies."""
    from datasets import concatenate_datasets

    if all(path is None or places.find(path) == path for path in _paths_without_bytes(rows)[1]):
        return rows
    settings = {"input_columns": "image", "fn_kwargs": {"places": places}, "load_from_cache_file": False}
    images = rows.select_columns("image").map(_find_file, **settings)
    return concatenate_datasets([rows.remove_columns("image"), images], axis=1)


def _find_file(image: dict | None, places: Places) -> dict:
    if image and image["bytes"] is None and image["path"]:
        image = {**image, "path": places.find(image["path"])}
    return {"image": image}


def _name_captions(rows: "Dataset", names: list[str], dataset: str, needed: bool) -> tuple["Dataset", list[bool]]:
    """Makes the column `caption`, and says which rows have none."""
    from datasets import concatenate_datasets

    types = {name: rows.data.column(name).type for name in names}
    source = next((name for name, kind in types.items() if _holds_captions(name, kind)), None)
    if source is None:
        if needed:
            found = {name: str(kind) for name, kind in types.items()}
            raise ValueError(
                f"`dataset` {dataset!r} has the columns {found}; allowed for captions: text, or lists of it."
            )
        others = rows.remove_columns([name for name in ("caption", "captions") if name in rows.column_names])
        return concatenate_datasets([others, _text_column("caption", [""] * len(rows))], axis=1), [True] * len(rows)
    if _is_text(types[source]) and source not in ("txt", "json"):
        return _rename_caption(rows, source, types)
    texts = _read_captions(rows, source)
    others = rows.remove_columns([name for name in rows.column_names if name in (source, "caption", "captions")])
    return concatenate_datasets([others, texts], axis=1), [not caption for caption in texts["caption"]]


def _read_captions(rows: "Dataset", source: str) -> "Dataset":
    """The columns `caption` and `captions` alone: a map over the whole table would copy every image."""
    from datasets import Features, List, Value

    texts = rows.select_columns(source).rename_column(source, "source")
    features = Features({"caption": Value("string"), "captions": List(Value("string"))})
    settings = {"input_columns": "source", "remove_columns": "source", "features": features}
    return texts.map(_to_captions, fn_kwargs={"is_json": source == "json"}, **settings)


def _rename_caption(rows: "Dataset", source: str, types: dict) -> tuple["Dataset", list[bool]]:
    """Only renames a column where each image has one text."""
    import pyarrow.compute as pc
    from datasets import concatenate_datasets

    # a column of this name with anything else would be taken for several captions of an image
    wrong = [name for name in ("caption", "captions") if name != source and name in types]
    rows = rows.remove_columns(
        [
            name
            for name in wrong
            if name == "caption" or not _holds_captions(name, types[name]) or _is_text(types[name])
        ]
    )
    if (
        source != "captions"
        and "captions" in rows.column_names
        and not _is_text(getattr(types["captions"], "value_type", None))
    ):
        several = _read_captions(rows, "captions").select_columns("captions")
        rows = concatenate_datasets([rows.remove_columns("captions"), several], axis=1)
    blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(rows.data.column(source), "")), "").to_pylist()
    return rows if source == "caption" else rows.rename_column(source, "caption"), blank


def _is_text(kind) -> bool:
    import pyarrow as pa

    return kind in (pa.string(), pa.large_string())


def _holds_captions(name: str, kind) -> bool:
    """Accepts text, lists of text, lists of mappings with `raw`, and the mapping that a `json` is."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_text(kind.value_type) or pa.types.is_struct(kind.value_type)
    return _is_text(kind) or pa.types.is_struct(kind) and (name == "json" or kind.get_field_index("raw") >= 0)


def _to_captions(value: Any, is_json: bool) -> dict:
    if is_json and isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    captions = caption_of_fields(value) if is_json else clean_captions(value)
    captions = [caption for caption in captions if is_utf8(caption)]
    return {"caption": captions[0] if captions else "", "captions": captions}


__all__ = ["drop_unusable", "forgive_missing_captions", "name_columns", "with_problems"]
