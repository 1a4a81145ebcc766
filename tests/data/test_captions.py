"""Caption files beside images: every kind, and every way in which an entry of one can be broken."""

import json

import pytest
from tiny.shards import picture_bytes

from seed_hf.data.captions import read_records
from seed_hf.data.reading import TooManyUnreadableSamplesError, UnreadableSampleError, read_image
from seed_hf.data.rows import load_rows
from seed_hf.data.shards import clean_captions


DEEP = "[" * 100_000  # no JSON parser goes so deep


def write_images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture_bytes(len(name)))


def write_table(folder, *lines, name="metadata.csv", encoding="utf-8"):
    write_images(folder, *(f"{number}.jpg" for number in range(1, 5)))
    (folder / name).write_bytes("\n".join(lines).encode(encoding))
    return str(folder)


def write_coco(folder, **changes):
    write_images(folder, "1.jpg", "2.jpg")
    annotations = [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}, {"image_id": 1, "caption": "c"}]
    content = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)], "annotations": annotations}
    (folder / "annotations").mkdir(exist_ok=True)
    content = {name: value for name, value in {**content, **changes}.items() if value is not None}
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    return str(folder)


# Tables


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_quotes_that_nothing_closes_cost_no_other_row(tmp_path, suffix):
    mark = "," if suffix == "csv" else "\t"
    rows = ['1.jpg,"Hello" she said', '2.jpg,"Wow; a pipe', "3.jpg,a mug", '4.jpg,a 5" pipe']
    lines = ["file_name,caption", *rows]
    rows = load_rows(write_table(tmp_path, *(line.replace(",", mark) for line in lines), name=f"metadata.{suffix}"))
    assert rows["key"][:] == [f"{number}.jpg" for number in range(1, 5)]
    # in a tab-separated file quotes are letters
    first = ["Hello she said", "Wow; a pipe"] if suffix == "csv" else ['"Hello" she said', '"Wow; a pipe']
    assert rows["caption"][:] == [*first, "a mug", 'a 5" pipe']


def test_quotes_as_spreadsheets_and_databases_write_them(tmp_path):
    lines = ["file_name,caption", '1.jpg,"one, ""two"""', '2.jpg,"first', 'second"']
    rows = load_rows(write_table(tmp_path / "csv", *lines))
    assert rows["captions"][:] == [['one, "two"'], ["first", "second"]]
    lines = ["photo_id\tphoto_description", '1\t"He said ""hi"" to', 'all"', "2\tsnow"]
    rows = load_rows(write_table(tmp_path / "tsv", *lines, name="photos.tsv000"))
    assert rows["captions"][:] == [['He said "hi" to', "all"], ["snow"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    folder = write_table(tmp_path / "csv", "file_name,caption", "1.jpg,café", encoding=encoding)
    assert load_rows(folder)["caption"][:] == ["café"]
    line = json.dumps({"file_name": "1.jpg", "text": "café"}, ensure_ascii=False)
    assert load_rows(write_table(tmp_path / "jsonl", line, name="metadata.jsonl", encoding=encoding))["key"][:]
    coco = write_coco(tmp_path / "coco")
    file = tmp_path / "coco" / "annotations" / "captions_train2017.json"
    file.write_bytes(file.read_text().encode(encoding))
    assert load_rows(coco)["key"][:] == ["1.jpg", "2.jpg"]


def test_a_broken_row_of_a_table_is_left_out_and_named(tmp_path, caplog):
    lines = [
        "file_name,caption",
        "1.jpg,good",
        "2.jpg, ",
        ",no name",
        "3.jpg,a comma, too many",
        f"4.jpg,{'long ' * 40_000}",
    ]
    folder = write_table(tmp_path, *lines)
    with (tmp_path / "metadata.csv").open("ab") as file:
        file.write(b"\n4.jpg,latin \xe9")
    assert load_rows(folder)["key"][:] == ["1.jpg"]
    assert "5 of 6 samples are left out" in caplog.text
    for reason in ("'no caption': 1", "'no file name': 1", "'too many fields': 1", "'no UTF-8 text': 1"):
        assert reason in caplog.text
    assert f"'line 4' of {tmp_path / 'metadata.csv'}: no file name: " in caplog.text
    kept = load_rows(folder, keep_unusable=True)
    assert sum(bool(problem) for problem in kept["problem"]) == 5
    with pytest.raises(UnreadableSampleError, match="line 4"):
        read_image(next(row for row in kept if row["key"] == "line 4"))
    with pytest.raises(TooManyUnreadableSamplesError, match="5 of 6 samples"):
        load_rows(folder, max_unreadable_share=0.004)


def test_a_broken_line_of_json_is_left_out_and_named(tmp_path, caplog):
    bad = ["5", "true", "[]", '"text"', "null", "{", DEEP, '{"file_name": "2.jpg", "text": "\\ud800"}']
    bad += ['{"file_name": 7, "text": "a"}', '{"text": "a"}', '{"file_name": "a\\u0000.jpg", "text": "a"}']
    bad += [json.dumps({"file_name": "3.jpg", "text": value}) for value in (5, True, None, [[["deep"]]], {"raw": 5})]
    good = json.dumps({"file_name": "1.jpg", "text": "good"})
    folder = write_table(tmp_path, *bad, good, name="metadata.jsonl")
    rows = load_rows(folder, max_unreadable_share=0.1)
    assert rows["caption"][:] == ["good"]
    # the five without a caption are of one image
    assert "12 of 13 samples are left out" in caplog.text and f"'line 1' of {tmp_path}" in caplog.text


def test_captions_of_every_kind():
    assert clean_captions("a\u2028b\n c\r\nd") == ["a b", "c", "d"]
    assert clean_captions({"raw": "a cat"}) == ["a cat"] == clean_captions(({"raw": "a cat"}, 5, None, [], {}))
    assert not any(map(clean_captions, (5, 1.5, True, None, b"bytes", {}, {"raw": 5}, [], "", " \n ", [["deep"]])))


# JSON


@pytest.mark.parametrize(
    ("bad", "captions"),
    [
        ({"image_id": 3, "caption": "of another file"}, [["a", "c"], ["b"]]),
        ({"image_id": [1], "caption": "no id"}, [["a", "c"], ["b"]]),
        ({"image_id": 1}, [["a", "c"], ["b"]]),
        ({"image_id": 1, "caption": None}, [["a", "c"], ["b"]]),
        ({"caption": "of nothing"}, [["a", "c"], ["b"]]),
        ("no object", [["a", "c"], ["b"]]),
    ],
)
def test_a_broken_annotation_of_coco_is_left_out_and_named(tmp_path, caplog, bad, captions):
    annotations = [{"image_id": 1, "caption": "a"}, bad, {"image_id": 2, "caption": "b"}]
    folder = write_coco(tmp_path, annotations=[*annotations, {"image_id": 1, "caption": "c"}])
    assert load_rows(folder)["captions"][:] == captions
    assert "1 of 3 samples are left out" in caplog.text and "annotation 1" in caplog.text


def test_an_image_of_coco_without_a_file_name(tmp_path, caplog):
    assert load_rows(write_coco(tmp_path, images=[{"id": 1}, {"id": 2, "file_name": "2.jpg"}, 5]))["key"][:] == [
        "2.jpg"
    ]
    assert "'no file name': 2" in caplog.text


@pytest.mark.parametrize(
    "content",
    ["5", "[]", "{", DEEP, "{}", '{"images": 5}', '{"annotations": []}', '{"images": [], "annotations": {}}'],
)
@pytest.mark.parametrize("name", ["annotations/captions_train2017.json", "dataset_coco.json"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, content, name):
    write_coco(tmp_path)
    (tmp_path / "annotations" / "captions_train2017.json").unlink()
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"(caption file .*(not JSON|allowed: a list))"):
        load_rows(str(tmp_path))


def test_images_of_karpathy_without_a_split(tmp_path, caplog):
    records = [{"filename": f"{i}.jpg", "split": "train", "sentences": [{"raw": f"text {i}"}]} for i in range(3)]
    del records[1]["split"]
    write_images(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": records}))
    assert load_rows(str(tmp_path))["key"][:] == ["0.jpg", "2.jpg"]
    assert "'no split': 1" in caplog.text and "image 1" in caplog.text
    with pytest.raises(ValueError, match=r"`split` is 'validation'; allowed in .*\['train'\]"):
        load_rows(str(tmp_path), "validation")


def test_caption_files_without_names_are_refused(tmp_path):
    for line in ("", "file,caption", "5"):
        write_table(tmp_path, line, "1.jpg,a")
        with pytest.raises(ValueError, match="allowed: 'file_name' and a caption"):
            read_records(tmp_path / "metadata.csv")
    write_table(tmp_path, "5", "{}", name="metadata.jsonl")
    with pytest.raises(ValueError, match="metadata.jsonl.*allowed: 'file_name' and a caption"):
        read_records(tmp_path / "metadata.jsonl")


# Images


def test_changed_images_and_captions_are_seen(tmp_path):
    folder = write_table(tmp_path, "file_name,caption", "a.jpg,a")
    with pytest.raises(UnreadableSampleError, match="No such file"):
        read_image(load_rows(folder)[0])
    write_images(tmp_path, "inner/a.jpg")
    assert read_image(load_rows(folder)[0]).size


def test_images_without_captions(tmp_path):
    write_images(tmp_path, "b.JPG", "inner/a.png", ".hidden.png")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"2 images, but no caption file \(metadata.csv .* file_name,text"):
        load_rows(str(tmp_path))
    rows = load_rows(str(tmp_path), captions="optional")
    assert rows["key"][:] == ["b.JPG", "inner/a.png"] and rows["caption"][:] == ["", ""]
    assert read_image(rows[1]).size
    with pytest.raises(ValueError, match="`split` is 'validation', but nothing"):
        load_rows(str(tmp_path), "validation", captions="optional")
    with pytest.raises(ValueError, match="`captions` is 'none'; allowed: 'required' or 'optional'"):
        load_rows(str(tmp_path), captions="none")


def test_optional_captions_keep_images_and_slices(tmp_path):
    folder = write_table(tmp_path, "file_name,caption", "1.jpg,a", "2.jpg,", "3.jpg,c", "3.jpg,", ",no name")
    rows = load_rows(folder, captions="optional")
    assert rows["caption"][:] == ["a", "", "c"] and rows["captions"][:] == [["a"], [], ["c"]]
    assert load_rows(folder)["key"][:] == ["1.jpg", "3.jpg"]
    # slices count all rows, whatever is left out of them
    for settings in ({}, {"captions": "optional"}, {"keep_unusable": True}):
        parts = [load_rows(folder, split, **settings)["key"][:] for split in ("train[:2]", "train[2:]")]
        assert parts[0] + parts[1] == load_rows(folder, **settings)["key"][:] and "3.jpg" in parts[1]
