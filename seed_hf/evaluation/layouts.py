"""NoCaps, VQAv2 and GQA as their releases unpack: rows of every record, with what is wrong with it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.captions import json_records, read_json
from ..data.columns import drop_unusable
from ..data.places import Places
from ..data.shards import NO_CAPTION, make_row
from ..data.tables import is_utf8


if TYPE_CHECKING:
    from datasets import Dataset

# as the releases name their files
_NOCAPS = ("nocaps_{split}_4500_captions.json", "nocaps_{split}.json")
_VQA_QUESTIONS = ("v2_OpenEnded_mscoco_{split}2014_questions.json",)
_VQA_ANSWERS = "v2_mscoco_{split}2014_annotations.json"
_GQA_QUESTIONS = ("{split}_balanced_questions.json", "{split}_all_questions.json")


def load_nocaps(
    dataset: str, split: str, *, allow_outside_paths: bool = False, max_unreadable_share: float = 0.01
) -> "Dataset | None":
    """Loads the captions of NoCaps with their domains.

    Args:
        dataset (`str`): Folder of the data set.
        split (`str`): A split such as `"val"`.
        allow_outside_paths (`bool`, defaults to `False`): Whether to read images outside of the folder.
        max_unreadable_share (`float`, defaults to 0.01): Share of records that may be unusable.

    Returns:
        `datasets.Dataset`: `key`, `image` (not decoded), `caption`, `captions` and `domain`; `None` where the folder
        has no such file.

    Raises:
        ValueError: If the file is not what its name says, or too many of its records are unusable.
    """
    rows = _load(dataset, split, allow_outside_paths, {_NOCAPS: _nocaps_rows}, "caption", "domain", lists="captions")
    return None if rows is None else drop_unusable(rows, dataset, max_unreadable_share)


def load_questions(
    dataset: str, split: str, *, allow_outside_paths: bool = False, max_unreadable_share: float = 0.01
) -> "Dataset | None":
    """Loads the questions and answers of VQAv2 or GQA.

    Args:
        dataset (`str`): Folder of the data set.
        split (`str`): A split such as `"val"` or `"testdev"`.
        allow_outside_paths (`bool`, defaults to `False`): Whether to read images outside of the folder.
        max_unreadable_share (`float`, defaults to 0.01): Share of records that may be unusable.

    Returns:
        `datasets.Dataset`: `key`, `image` (not decoded), `question`, `answers` and `question_type`; `None` where the
        folder has no such file.

    Raises:
        ValueError: If a file is not what its name says, or too many of its records are unusable.
    """
    readers = {_VQA_QUESTIONS: _vqa_rows, _GQA_QUESTIONS: _gqa_rows}
    rows = _load(dataset, split, allow_outside_paths, readers, "question", "question_type", lists="answers")
    return None if rows is None else drop_unusable(rows, dataset, max_unreadable_share)


def question_problem(question: Any, answers: list[str]) -> str:
    """Says why a question cannot be used.

    Args:
        question (`Any`): Question of the record, if it is one.
        answers (`list[str]`): Answers from [`answer_texts`].

    Returns:
        `str`: the reason, or `""`.
    """
    if not isinstance(question, str) or not question.strip():
        return "no question"
    if not answers:
        return "no answers"
    return "" if all(map(is_utf8, [question, *answers])) else "no UTF-8 text"


def answer_texts(value: Any) -> list[str]:
    """Brings answers in any of the usual forms into one.

    Args:
        value (`Any`): One answer, a list of them, VQAv2's list of `{"answer": ...}`, or `{"answer": [...]}`, as some
            data sets store that.

    Returns:
        `list[str]`: all of them; none where one is not text, since a score counts how many annotators agree.
    """
    values = value.get("answer") if isinstance(value, dict) else value
    values = [values] if isinstance(values, str) else values if isinstance(values, list) else []
    texts = [entry.get("answer") if isinstance(entry, dict) else entry for entry in values]
    return texts if all(isinstance(text, str) for text in texts) else []


def _load(dataset: str, split: str, allow_outside: bool, readers: dict, *texts: str, lists: str) -> "Dataset | None":
    """Loads the first file that is there."""
    from datasets import Dataset, Features, Image, List, Value

    found = ((_find(dataset, patterns, split), reader) for patterns, reader in readers.items())
    file, reader = next(((file, reader) for file, reader in found if file), (None, None))
    if file is None:
        return None
    rows = list(reader(file, split, _Pictures(file, Places([dataset], allow_outside))))
    features = {name: Value("string") for name in ("key", *texts, "problem")}
    features |= {lists: List(Value("string")), "image": Image(decode=False)}
    # unusable rows lack columns
    columns = {name: [row.get(name) for row in rows] for name in features}
    return Dataset.from_dict(columns, features=Features(features))


def _find(dataset: str, patterns: tuple[str, ...], split: str) -> Path | None:
    """The first of these files in a folder, or in its `annotations` or `questions`."""
    folder = Path(dataset)
    if not folder.is_dir():
        return None
    places = [folder, folder / "annotations", folder / "questions"]
    files = (place / pattern.format(split=split) for place in places for pattern in patterns)
    return next((file for file in files if os.path.isfile(file)), None)


class _Pictures:
    """Finds the images that the records of a file name."""

    def __init__(self, file: Path, places: Places):
        self.folders, self.places = (file.parent, file.parent.parent), places
        self.check_file(file)

    def check_file(self, file: Path) -> None:
        if not self.places.hold(str(file)):
            raise ValueError(f"The file {file} is a link out of the data set; allowed with `allow_outside_paths`.")

    def make_row(self, key: str, names: list[str], problem: str = "", **columns) -> dict[str, Any]:
        """Makes the row of an image; a missing image keeps its place and is reported when it is read."""
        if "\0" in names[0] or not is_utf8(names[0]):
            return _broken(key, "no UTF-8 text")
        paths = [os.path.join(folder, name) for folder in self.folders for name in names]
        path = next((path for path in paths if os.path.isfile(path)), paths[0])
        row = make_row(key, path, columns.pop("captions", []), problem or self.places.check(path))
        return row | ({} if problem else columns)


def _broken(key: str, problem: str) -> dict[str, Any]:
    return make_row(key, "", [], problem)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and is_utf8(value) else ""


def _read_list(file: Path, name: str) -> dict[str, Any]:
    """Reads a JSON file of VQAv2, which holds one list."""
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get(name), list):
        raise ValueError(f"`dataset` has the file {file}, which holds no list {name!r}; allowed: that of VQAv2.")
    return content


def _nocaps_rows(file: Path, split: str, picture: _Pictures) -> Iterator[dict[str, Any]]:
    content = read_json(file)
    records = list(json_records(content, file))
    images = [image for image in content["images"] if isinstance(image, dict)]
    images = {name: image for image in images if isinstance(name := image.get("file_name"), str)}
    captions = {name: [] for name in images}
    for record in records:
        if record.problem:
            yield _broken(record.where, f"{record.problem}: {record.where}")
        else:
            captions.setdefault(record.name, []).extend(record.captions)
    for name, texts in captions.items():
        image = images.get(name, {})
        columns = {"captions": texts, "domain": _text(image.get("domain"))}
        problem = "" if texts else NO_CAPTION
        yield picture.make_row(str(image.get("id", name)), [name, f"images/{name}", f"val/{name}"], problem, **columns)


def _vqa_rows(questions: Path, split: str, picture: _Pictures) -> Iterator[dict[str, Any]]:
    answers = questions.parent / _VQA_ANSWERS.format(split=split)
    if not answers.is_file():
        raise ValueError(f"`dataset` has {questions.name} but not {answers}; allowed: both.")
    picture.check_file(answers)
    annotations = [record for record in _read_list(answers, "annotations")["annotations"] if isinstance(record, dict)]
    annotations = {key: record for record in annotations if isinstance(key := record.get("question_id"), int | str)}
    content = _read_list(questions, "questions")
    subtype = content.get("data_subtype", "val2014")
    for number, record in enumerate(content["questions"]):
        where = f"question {number}"
        if not isinstance(record, dict):
            yield _broken(where, f"no object: {where}")
        elif not isinstance(key := record.get("question_id"), int | str):
            yield _broken(where, f"no question_id: {where}")
        elif type(image := record.get("image_id")) is not int:
            yield _broken(str(key), f"no image_id: {where}")
        else:
            name = f"COCO_{subtype}_{image:012d}.jpg"
            names = [f"{subtype}/{name}", f"images/{subtype}/{name}", name]
            annotation = annotations.get(key, {})
            columns = _question_columns(record, annotation.get("answers"), annotation.get("answer_type"))
            yield picture.make_row(str(key), names, **columns)


def _gqa_rows(file: Path, split: str, picture: _Pictures) -> Iterator[dict[str, Any]]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise ValueError(f"`dataset` has the file {file}, which holds no object; allowed: GQA's questions by id.")
    for key, record in content.items():
        if not isinstance(record, dict):
            yield _broken(key, "no object")
        elif not isinstance(image := record.get("imageId"), str):
            yield _broken(key, "no imageId")
        else:
            types = record.get("types")
            kind = types.get("structural") if isinstance(types, dict) else ""
            columns = _question_columns(record, record.get("answer"), kind)
            yield picture.make_row(key, [f"images/{image}.jpg"], **columns)


def _question_columns(record: dict, answers: Any, kind: Any) -> dict[str, Any]:
    question, texts = record.get("question"), answer_texts(answers)
    problem = question_problem(question, texts)
    return {"problem": problem, "question": question, "answers": texts, "question_type": _text(kind)}


__all__ = ["answer_texts", "load_nocaps", "load_questions", "question_problem"]
