"""The data sets of the paper's tables, and seed-mini's own, as rows."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from ..data.codes import read_codes
from ..data.rows import load_rows
from ..data.seeds import derive_seed
from ..hub.fetch import emoji_folder
from ..mini.emoji import make_questions


if TYPE_CHECKING:
    from datasets import Dataset

ALLOWED = (
    "'emoji' (in a checkout of this repository), a folder in the usual layout of COCO, Flickr30K, NoCaps, VQAv2 or "
    "GQA, parquet files or tar shards, or the id of a data set on the Hub"
)
# as the releases name their files
_VQA_QUESTIONS = "v2_OpenEnded_mscoco_{split}2014_questions.json"
_VQA_ANSWERS = "v2_mscoco_{split}2014_annotations.json"
_GQA_QUESTIONS = ("{split}_balanced_questions.json", "{split}_all_questions.json")
_NOCAPS = ("nocaps_{split}_4500_captions.json", "nocaps_{split}.json")


def load_captioned_rows(dataset: str, split: str, limit: int | None = None) -> "Dataset":
    """
    Pictures with their captions.

    Args:
        dataset (`str`): `"emoji"` for seed-mini's own data (without flags, which look the same in all styles); a
            folder with NoCaps' `nocaps_val_4500_captions.json`, whose domains are kept; codes that `seed-hf encode`
            wrote, or a parquet file with a column `codes`, for captions alone; or what
            [`~seed_hf.data.rows.load_rows`] takes, which includes folders with the Karpathy files of COCO and
            Flickr30K (`dataset_coco.json`, `dataset_flickr30k.json`).
        split (`str`): its name, possibly with a slice, as `"test[:100]"`.
        limit (`int`, *optional*): the first rows only.

    Returns:
        `datasets.Dataset`: `image` (not decoded) or `codes`, `caption`, and where there are several `captions`;
        perhaps `key` and `domain`.

    Raises:
        ValueError: if nothing is found.
    """
    if dataset == "emoji":
        rows = load_rows(str(emoji_folder() / "*.parquet"), split)
        rows = rows.filter(lambda is_flag: not is_flag, input_columns="is_flag")
    elif _holds_codes(dataset):
        rows = read_codes(dataset, split)
    elif file := _find(dataset, _NOCAPS, split):
        rows = _rows_of(_nocaps_rows(file), limit)
    else:
        rows = load_rows(dataset, split)
    if "image_domain" in rows.column_names:
        rows = rows.rename_column("image_domain", "domain")
    return _first(rows, limit)


def load_question_rows(dataset: str, split: str, limit: int | None = None, seed: int = 0) -> "Dataset":
    """
    Pictures with questions and answers.

    Args:
        dataset (`str`): `"emoji"` for seed-mini's own data, with one rule-made question for each drawing; a folder
            with the files of VQAv2 (questions, annotations and `val2014/`) or of GQA (`images/` and
            `testdev_balanced_questions.json`); or parquet files or a Hub id with the columns `image`, `question` and
            `answers` or `answer`.
        split (`str`): `"val"` (VQAv2), `"testdev"` (GQA) or what the data set has.
        limit (`int`, *optional*): the first rows only.
        seed (`int`, defaults to 0): chooses the questions about emoji.

    Returns:
        `datasets.Dataset`: `key`, `image` (not decoded), `question`, `answers` (`list[str]`: of the annotators, or
        one) and `question_type`.

    Raises:
        ValueError: if nothing is found.
    """
    if dataset == "emoji":
        return _emoji_questions(load_captioned_rows(dataset, split, limit), seed)
    if file := _find(dataset, (_VQA_QUESTIONS,), split):
        return _rows_of(_vqa_rows(file, file.parent / _VQA_ANSWERS.format(split=split)), limit)
    if file := _find(dataset, _GQA_QUESTIONS, split):
        return _rows_of(_gqa_rows(file), limit)
    from datasets import load_dataset

    if dataset.endswith(".parquet"):
        rows = load_dataset("parquet", data_files=dataset.replace("{split}", split), split="train")
    elif os.path.exists(dataset):
        raise ValueError(f"`dataset` is {dataset!r}; allowed: {ALLOWED}.")
    else:
        rows = load_dataset(dataset, split=split)
    return _first(_name_question_columns(rows, dataset), limit)


def references_of(row: dict[str, Any]) -> list[str]:
    """All captions of a row.

    Args:
        row (`dict`): with `caption`, and `captions` where there are several.

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


def _find(dataset: str, patterns: tuple[str, ...], split: str) -> Path | None:
    """The first of these files in a folder, or in its `annotations` or `questions`."""
    folder = Path(dataset)
    if not folder.is_dir():
        return None
    places = [folder, folder / "annotations", folder / "questions"]
    files = (place / pattern.format(split=split) for place in places for pattern in patterns)
    return next((file for file in files if file.is_file()), None)


def _rows_of(records: Iterator[dict[str, Any]], limit: int | None) -> "Dataset":
    from datasets import Dataset, Image

    return _first(Dataset.from_list(list(records)).cast_column("image", Image(decode=False)), limit)


def _picture(folder: Path, names: list[str]) -> dict[str, Any]:
    """Path of a picture; one that is missing keeps its place and is reported when it is read."""
    places = (folder, folder.parent)
    paths = [place / name for place in places for name in names]
    return {"bytes": None, "path": str(next((path for path in paths if path.is_file()), paths[0]))}


def _nocaps_rows(file: Path) -> Iterator[dict[str, Any]]:
    content = json.loads(file.read_text())
    captions: dict[int, list[str]] = {}
    for record in content["annotations"]:
        captions.setdefault(record["image_id"], []).append(record["caption"])
    for image in content["images"]:
        name = image["file_name"]
        found = _picture(file.parent, [name, f"images/{name}", f"val/{name}"])
        texts = captions[image["id"]]
        row = {"key": str(image["id"]), "image": found, "caption": texts[0], "captions": texts}
        yield row | {"domain": image.get("domain", "")}


def _vqa_rows(questions: Path, answers: Path) -> Iterator[dict[str, Any]]:
    if not answers.is_file():
        raise ValueError(f"`dataset` has {questions.name} but not {answers}; allowed: both.")
    annotations = {record["question_id"]: record for record in json.loads(answers.read_text())["annotations"]}
    content = json.loads(questions.read_text())
    subtype = content.get("data_subtype", "val2014")
    for record in content["questions"]:
        annotation = annotations[record["question_id"]]
        name = f"COCO_{subtype}_{record['image_id']:012d}.jpg"
        yield {
            "key": str(record["question_id"]),
            "image": _picture(questions.parent, [f"{subtype}/{name}", f"images/{subtype}/{name}", name]),
            "question": record["question"],
            "answers": [answer["answer"] for answer in annotation["answers"]],
            "question_type": annotation.get("answer_type", ""),
        }


def _gqa_rows(file: Path) -> Iterator[dict[str, Any]]:
    for key, record in json.loads(file.read_text()).items():
        yield {
            "key": key,
            "image": _picture(file.parent, [f"images/{record['imageId']}.jpg"]),
            "question": record["question"],
            "answers": [record["answer"]],
            "question_type": record.get("types", {}).get("structural", ""),
        }


def _name_question_columns(rows: "Dataset", dataset: str) -> "Dataset":
    from datasets import Image, concatenate_datasets

    source = next((name for name in ("answers", "answer") if name in rows.column_names), None)
    if source is None or not {"image", "question"} <= set(rows.column_names):
        raise ValueError(
            f"`dataset` {dataset!r} has the columns {rows.column_names}; allowed: 'image', 'question' and "
            "'answers' or 'answer'."
        )
    types = [name for name in ("question_type", "answer_type") if name in rows.column_names][-1:]
    keys = [name for name in ("question_id", "id", "key") if name in rows.column_names][:1]

    def to_texts(value, *others):
        # VQAv2's own form is a list of {"answer": ...}, which some data sets store as {"answer": [...]}
        values = value["answer"] if isinstance(value, dict) else [value] if isinstance(value, str) else value
        texts = [entry["answer"] if isinstance(entry, dict) else entry for entry in values]
        named = dict(zip(["question_type"] * len(types) + ["key"] * len(keys), map(str, others), strict=True))
        return {"question_type": "", "key": "", **named, "answers": texts}

    # only the texts are rewritten: a map over the whole table would copy every picture
    texts = rows.select_columns([source, *types, *keys])
    texts = texts.map(to_texts, input_columns=[source, *types, *keys], remove_columns=texts.column_names)
    rows = rows.select_columns(["image", "question"]).cast_column("image", Image(decode=False))
    return concatenate_datasets([rows, texts], axis=1)


def _emoji_questions(rows: "Dataset", seed: int) -> "Dataset":
    """One question for each drawing, made by the rules that training uses."""
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
