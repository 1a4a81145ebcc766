"""The data sets of the paper's tables, and seed-mini's own, as rows."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from ..data.codes import read_codes
from ..data.columns import drop_unusable
from ..data.rows import load_rows
from ..data.seeds import derive_seed
from ..mini.emoji import make_questions
from .layouts import answer_texts, load_nocaps, load_questions, question_problem


if TYPE_CHECKING:
    from datasets import Dataset

ALLOWED = (
    "'emoji' (in a checkout of this repository), a folder in the usual layout of COCO, Flickr30K, NoCaps, VQAv2 or "
    "GQA, parquet files or tar shards, or the id of a data set on the Hub"
)


def load_captioned_rows(
    dataset: str, split: str, limit: int | None = None, needs_images: bool = False, **reading
) -> "Dataset":
    """
    Loads images with their captions.

    Args:
        dataset (`str`): `"emoji"` for seed-mini's own data (without flags, which look the same in all styles); a
            folder with NoCaps' `nocaps_val_4500_captions.json`, whose domains are kept; codes that `seed-hf encode`
            wrote, or a parquet file with a column `codes`, for captions alone; or what
            [`~seed_hf.data.rows.load_rows`] takes, which includes folders with the Karpathy files of COCO and
            Flickr30K (`dataset_coco.json`, `dataset_flickr30k.json`).
        split (`str`): Name of the split, possibly with a slice, as `"test[:100]"`.
        limit (`int`, *optional*): Number of rows to load, from the first; by default all.
        needs_images (`bool`, defaults to `False`): Whether codes alone will not do.
        reading: `allow_outside_paths` and `max_unreadable_share` of [`~seed_hf.data.rows.load_rows`].

    Returns:
        `datasets.Dataset`: `image` (not decoded) or `codes`, `caption`, and where there are several `captions`;
        perhaps `key` and `domain`.

    Raises:
        ValueError: If nothing is found.
    """
    if dataset == "emoji":
        rows = load_rows(dataset, split).filter(lambda is_flag: not is_flag, input_columns="is_flag")
    elif _holds_codes(dataset):
        rows = read_codes(dataset, split)
    elif (rows := load_nocaps(dataset, split, **reading)) is None:
        rows = load_rows(dataset, split, **reading)
    if needs_images and "image" not in rows.column_names:
        raise ValueError(f"`dataset` {dataset!r} has the columns {rows.column_names}; a column 'image' is needed.")
    if "image_domain" in rows.column_names:
        rows = rows.rename_column("image_domain", "domain")
    return _first(rows, limit)


def load_question_rows(dataset: str, split: str, limit: int | None = None, seed: int = 0, **reading) -> "Dataset":
    """
    Loads images with questions and answers.

    Args:
        dataset (`str`): `"emoji"` for seed-mini's own data, with one rule-made question for each drawing; a folder
            with the files of VQAv2 (questions, annotations and `val2014/`) or of GQA (`images/` and
            `testdev_balanced_questions.json`); or what [`~seed_hf.data.rows.load_rows`] takes, with the columns
            `image`, `question` and `answers` or `answer`.
        split (`str`): `"val"` (VQAv2), `"testdev"` (GQA) or what the data set has.
        limit (`int`, *optional*): Number of rows to load, from the first; by default all.
        seed (`int`, defaults to 0): Chooses the questions about emoji.
        reading: `allow_outside_paths` and `max_unreadable_share` of [`~seed_hf.data.rows.load_rows`].

    Returns:
        `datasets.Dataset`: `key`, `image` (not decoded), `question`, `answers` (`list[str]`: of the annotators, or
        one) and `question_type`.

    Raises:
        ValueError: If nothing is found.
    """
    if dataset == "emoji":
        return _emoji_questions(load_captioned_rows(dataset, split, limit), seed)
    rows = load_questions(dataset, split, **reading)
    if rows is None:
        rows = load_rows(dataset, split, keep_unusable=True, captions="optional", **reading)
        rows = _name_question_columns(rows, dataset)
        rows = drop_unusable(rows, dataset, reading.get("max_unreadable_share", 0.01))
    return _first(rows, limit)


def references_of(row: dict[str, Any]) -> list[str]:
    """Lists all captions of a row.

    Args:
        row (`dict`): Row with `caption`, and `captions` where there are several.

    Returns:
        `list[str]`: the captions.
    """
    return list(row.get("captions") or [row["caption"]])


def _holds_codes(dataset: str) -> bool:
    if Path(dataset).is_dir():
        return any(Path(dataset).glob("encoding-*.json"))
    if not (dataset.endswith(".parquet") and Path(dataset).is_file()):
        return False
    names = pq.read_schema(dataset).names
    return "codes" in names and "image" not in names


def _first(rows: "Dataset", limit: int | None) -> "Dataset":
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` is {limit}; allowed: 1 or more, or None for all rows.")
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _name_question_columns(rows: "Dataset", dataset: str) -> "Dataset":
    """Gives the columns of questions their names, and says what is wrong with each row."""
    from datasets import Features, List, Value, concatenate_datasets

    source = next((name for name in ("answers", "answer") if name in rows.column_names), None)
    if source is None or "question" not in rows.column_names:
        raise ValueError(
            f"`dataset` {dataset!r} has the columns {rows.column_names}; allowed: 'image', 'question' and "
            "'answers' or 'answer'."
        )
    types = [name for name in ("question_type", "answer_type") if name in rows.column_names][-1:]
    keys = [name for name in ("question_id", "id", "key") if name in rows.column_names][:1]

    def to_texts(problem, question, value, *others):
        named = dict(zip(["question_type"] * len(types) + ["key"] * len(keys), map(str, others), strict=True))
        texts = answer_texts(value)
        columns = {
            "question": str(question),
            "answers": texts,
            "problem": problem or question_problem(question, texts),
        }
        return {"question_type": "", "key": "", **named, **columns}

    # only the texts are rewritten: a map over the whole table would copy every image
    names = ["problem", "question", source, *types, *keys]
    texts = rows.select_columns(names)
    features = {name: Value("string") for name in ("question_type", "key", "question", "problem")}
    features = Features(features | {"answers": List(Value("string"))})
    texts = texts.map(to_texts, input_columns=names, remove_columns=texts.column_names, features=features)
    return concatenate_datasets([rows.select_columns("image"), texts], axis=1)


def _emoji_questions(rows: "Dataset", seed: int) -> "Dataset":
    """Makes one question for each drawing by the rules that training uses."""
    pairs = []
    for number, row in enumerate(rows.select_columns(["caption", "subgroup"])):
        draw = random.Random(derive_seed(seed, number))
        pairs.append(draw.choice(make_questions(row, draw)))
    kinds = ["yes/no" if answer in ("yes", "no") else question for question, answer in pairs]
    columns = {
        "key": [str(number) for number in range(len(rows))],
        "question": [question for question, _ in pairs],
        "answers": [[answer] for _, answer in pairs],
        "question_type": kinds,
    }
    rows = rows.select_columns("image")
    for name, values in columns.items():
        rows = rows.add_column(name, values)
    return rows


__all__ = ["load_captioned_rows", "load_question_rows", "references_of"]
