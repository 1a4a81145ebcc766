"""Damaged NoCaps, VQAv2, GQA and tables of questions: what is unusable is left out and counted, files are checked."""

import json
import re

import pytest
from datasets import Dataset
from PIL import Image

from seed_hf.commands import main
from seed_hf.evaluation import caption_metrics, load_captioned_rows, load_question_rows


NOCAPS = "nocaps_val_4500_captions.json"
QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANSWERS = "v2_mscoco_val2014_annotations.json"
GQA = "testdev_balanced_questions.json"
DEEP = "[" * 100_000 + "]" * 100_000
SURROGATE = "\ud800"


def save_images(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)


def write(folder, **contents):
    """Files by name, without their ending."""
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))


def write_vqa(folder, *questions, answers=(), subtype="val2014"):
    """One good question and further ones."""
    save_images(folder, "val2014/COCO_val2014_000000000007.jpg")
    good = {"question_id": 1, "image_id": 7, "question": "what?"}
    annotations = [
        {"question_id": 1, "answer_type": None, "answers": [{"answer": "cat"}, {"answer": "dog"}]},
        *answers,
    ]
    questions = {"questions": [good, *questions], "data_subtype": subtype}
    write(folder, **{QUESTIONS[:-5]: questions, ANSWERS[:-5]: {"annotations": annotations}})


def write_gqa(folder, *records):
    save_images(folder, "images/n1.jpg")
    records = ({"imageId": "n1", "question": "Is it red?", "answer": "yes", "types": None}, *records)
    write(folder, **{GQA[:-5]: {str(200 + number): record for number, record in enumerate(records)}})


def write_nocaps(folder, images=(), annotations=()):
    save_images(folder, "images/a.jpg")
    images = [{"id": 1, "file_name": "a.jpg", "domain": None}, *images]
    annotations = [{"image_id": 1, "caption": "a cat"}, *annotations]
    write(folder, **{NOCAPS[:-5]: {"images": images, "annotations": annotations}})


@pytest.mark.parametrize(
    ("images", "annotations", "problem"),
    [
        ([], [3], "no object"),
        ([], [{"image_id": 2, "caption": "a dog"}], "unknown image"),
        ([], [{"image_id": [1], "caption": "a dog"}], "unknown image"),
        ([], [{"caption": "a dog"}], "unknown image"),
        ([], [{"image_id": 1, "caption": SURROGATE}], "no UTF-8 text"),
        ([{"id": 2, "file_name": "b.jpg"}], [{"image_id": 2, "caption": None}], "no caption"),
        ([{"id": 2, "file_name": "b.jpg"}], [], "no caption"),
        ([{"id": 2}], [{"image_id": 2, "caption": "a dog"}], "no file name"),
        ([{"id": 2, "file_name": SURROGATE}], [{"image_id": 2, "caption": "a dog"}], "no UTF-8 text"),
        ([{"id": 2, "file_name": "../b.jpg"}], [{"image_id": 2, "caption": "a dog"}], "outside of the data set"),
    ],
)
def test_records_of_nocaps(tmp_path, caplog, images, annotations, problem):
    write_nocaps(tmp_path, images, annotations)
    rows = load_captioned_rows(str(tmp_path), "val")
    assert rows["caption"][:] == ["a cat"] and rows["domain"][:] == [""]
    # an image whose name is not text is counted with its annotation
    assert re.search(rf"(1 of 2|2 of 3) samples are left out, {{'{problem}': [12]", caplog.text)


def question(**changes):
    return {"question_id": 2, "image_id": 7, "question": "where?", **changes}


def annotation(**changes):
    return {"question_id": 2, "answer_type": "other", "answers": [{"answer": "cat"}], **changes}


@pytest.mark.parametrize(
    ("record", "answers", "problem"),
    [
        (3, annotation(), "no object"),
        (question(question_id=None), annotation(), "no question_id"),
        (question(question_id=[2]), annotation(), "no question_id"),
        (question(image_id=None), annotation(), "no image_id"),
        (question(image_id="7"), annotation(), "no image_id"),
        (question(question=None), annotation(), "no question"),
        (question(question=" "), annotation(), "no question"),
        (question(question=SURROGATE), annotation(), "no UTF-8 text"),
        (question(), 3, "no answers"),
        (question(), annotation(question_id=3), "no answers"),
        (question(), annotation(answers=None), "no answers"),
        (question(), annotation(answers=[{"answer": "cat"}, {"answer": None}]), "no answers"),
        (question(), annotation(answers=[{"answer": "cat"}, 3]), "no answers"),
        (question(), annotation(answers=[{"answer": SURROGATE}]), "no UTF-8 text"),
    ],
)
def test_records_of_vqav2(tmp_path, caplog, record, answers, problem):
    write_vqa(tmp_path, record, answers=[answers])
    rows = load_question_rows(str(tmp_path), "val")
    assert (rows["key"][:], rows["answers"][:], rows["question_type"][:]) == (["1"], [["cat", "dog"]], [""])
    assert f"1 of 2 samples are left out, {{'{problem}': 1}}" in caplog.text


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ([], "no object"),
        ({"question": "where?", "answer": "yes"}, "no imageId"),
        ({"imageId": 1, "question": "where?", "answer": "yes"}, "no imageId"),
        ({"imageId": "n1", "answer": "yes"}, "no question"),
        ({"imageId": "n1", "question": "where?", "answer": None}, "no answers"),
        ({"imageId": SURROGATE, "question": "where?", "answer": "yes"}, "no UTF-8 text"),
        ({"imageId": "../../secret", "question": "where?", "answer": "yes"}, "outside of the data set"),
    ],
)
def test_records_of_gqa(tmp_path, caplog, record, problem):
    write_gqa(tmp_path, record)
    rows = load_question_rows(str(tmp_path), "testdev")
    assert rows["key"][:] == ["200"] and f"1 of 2 samples are left out, {{'{problem}': 1}}" in caplog.text


def test_missing_images_keep_their_place_and_too_many_bad_records_stop_it(tmp_path):
    write_gqa(tmp_path, {"imageId": "n" * 300, "question": "where?", "answer": "yes"})
    assert len(load_question_rows(str(tmp_path), "testdev")) == 2
    write_gqa(tmp_path, *[{}] * 11)
    with pytest.raises(ValueError, match=r"11 of 12 samples are left out, \{'no imageId': 11\}"):
        load_question_rows(str(tmp_path), "testdev")


@pytest.mark.parametrize("content", ["{", DEEP, "[]", "3", '{"questions": {}, "annotations": {}, "images": {}}'])
@pytest.mark.parametrize("name", [NOCAPS, QUESTIONS, ANSWERS, GQA])
def test_files_that_are_not_what_their_names_say(tmp_path, name, content):
    write_vqa(tmp_path) if name != GQA else None
    load = load_captioned_rows if name == NOCAPS else load_question_rows
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}, which (is not JSON|holds)|holds no sample .*'no imageId': 3"):
        load(str(tmp_path), "testdev" if name == GQA else "val")


def test_images_elsewhere(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_vqa(folder, subtype="../outside")
    with pytest.raises(ValueError, match="holds no sample that can be used: {'outside of the data set': 1}"):
        load_question_rows(str(folder), "val")
    assert len(load_question_rows(str(folder), "val", allow_outside_paths=True)) == 1
    for name in (ANSWERS, QUESTIONS):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is a link out of the data set"):
            load_question_rows(str(folder), "val")


def test_tables_of_questions(tmp_path, caplog):
    save_images(tmp_path, "secret.jpg", "set/1.jpg")
    good = {"image": {"bytes": None, "path": "1.jpg"}, "question": "what?", "answers": ["cat"]}
    outside = {"bytes": None, "path": str(tmp_path / "secret.jpg")}
    changes = [
        {},
        {"image": None},
        {"question": None},
        {"answers": None},
        {"answers": ["cat", None]},
        {"image": outside},
    ]
    Dataset.from_list([good | change for change in changes]).to_parquet(tmp_path / "set" / "val.parquet")
    pattern = str(tmp_path / "set" / "{split}.parquet")
    rows = load_question_rows(pattern, "val")
    assert rows["question"][:] == ["what?"] and rows[0]["image"]["path"] == str(tmp_path / "set" / "1.jpg")
    reasons = "{'no image': 1, 'no question': 1, 'no answers': 2, 'outside of the data set': 1}"
    assert f"5 of 6 samples are left out, {reasons}" in caplog.text
    assert len(load_question_rows(pattern, "val", allow_outside_paths=True)) == 2


def test_the_command_has_the_flag(tmp_path, capsys, monkeypatch):
    # METEOR in Java would cost more than all the rest
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)
    (tmp_path / "set").mkdir()
    write_nocaps(tmp_path / "set")
    save_images(tmp_path, "b.jpg")
    (tmp_path / "set" / "images" / "a.jpg").unlink()
    (tmp_path / "set" / "images" / "a.jpg").symlink_to(tmp_path / "b.jpg")
    command = ["eval", "caption", "seed-mini", "--dataset", str(tmp_path / "set"), "--split", "val"]
    command += ["--output", str(tmp_path / "report.json")]
    assert main(command) == 1
    assert "holds no sample that can be used: {'outside of the data set': 1}" in capsys.readouterr().err
    assert main([*command, "--allow-outside-paths"]) == 0
    assert "outside of the data set" not in capsys.readouterr().err
