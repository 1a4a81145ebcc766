"""Tables with one row, or one column, that is not what it should be."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from tiny.shards import picture_bytes

from seed_hf.data.captioned_images import all_captions
from seed_hf.data.reading import UnreadableSampleError, read_image
from seed_hf.data.rows import load_rows


PICTURE = {"bytes": picture_bytes(0), "path": None}
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(folder, name="a.parquet", **columns):
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


@pytest.mark.parametrize("column", ["caption", "text", "captions", "json"])
def test_rows_without_a_caption_are_left_out_and_counted(tmp_path, caplog, column):
    texts = ["red", None, "", " \n", "blue"]
    if column == "captions":
        texts = [["red"], None, [], [None, " "], ["blue", None]]
    if column == "json":
        texts = ['{"caption": "red"}', None, "5", "[" * 100_000, '{"text": "blue"}']
    file = write(tmp_path, image=[PICTURE] * 5, **{column: texts})
    assert load_rows(file)["caption"][:] == ["red", "blue"]
    assert "3 of 5 samples are left out, {'no caption': 3}; for example 'row 1' of " in caplog.text
    rows = load_rows(file, captions="optional")
    assert len(rows) == 5 and "problem" not in rows.column_names
    kept = load_rows(file, keep_unusable=True)
    assert [bool(problem) for problem in kept["problem"]] == [False, True, True, True, False]


def test_rows_without_a_split_are_left_out_and_counted(tmp_path, caplog):
    splits = ["train", None, "validation", "", "train", "train"]
    images = [PICTURE] * 4 + [None, PICTURE]
    file = write(tmp_path, image=images, caption=list("abcdef"), split=splits)
    assert load_rows(file)["caption"][:] == ["a", "f"]
    assert "3 of 5 samples are left out, {'no split': 2, 'no image': 1}" in caplog.text
    assert load_rows(file, "validation")["caption"][:] == ["c"]
    with pytest.raises(ValueError, match=r"'no split': 2"):
        load_rows(file, max_unreadable_share=0.001)
    numbers = write(tmp_path, image=[PICTURE] * 2, caption=["a", "b"], split=[0, None], name="numbers.parquet")
    with pytest.raises(ValueError, match=r"leaves no row .* allowed: \['0'\]"):
        load_rows(numbers)


def test_rows_without_an_image_are_left_out_and_counted(tmp_path, caplog):
    missing = [None, {"bytes": None, "path": None}, {"bytes": None, "path": ""}]
    broken = [{"bytes": b"", "path": "1.jpg"}, {"bytes": None, "path": "a\0b.jpg"}, {"bytes": None, "path": "x" * 300}]
    images = pa.array([PICTURE, *missing, *broken], IMAGE_TYPE)
    file = write(tmp_path, image=images, caption=[f"c{number}" for number in range(7)])
    (tmp_path / "1.jpg").write_bytes(picture_bytes(0))  # what has bytes is not looked for elsewhere
    rows = load_rows(file)
    assert rows["caption"][:] == ["c0", "c4", "c6"]
    assert "'no image': 3" in caplog.text
    assert read_image(rows[0]).size
    for row in rows.select([1, 2]):
        with pytest.raises(UnreadableSampleError):
            read_image(row)
    for row in load_rows(file, keep_unusable=True).select(range(1, 7)):
        with pytest.raises(UnreadableSampleError):
            read_image(row)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [PICTURE], "caption": [5]}, r"has the columns \{'caption': 'int64'\}; allowed for captions: text"),
        ({"image": [PICTURE], "caption": [[5]]}, "allowed for captions: text"),
        ({"image": [PICTURE], "caption": [None]}, "allowed for captions: text"),
        ({"image": [PICTURE], "json": [5]}, "allowed for captions: text"),
        ({"image": [5], "caption": ["a"]}, "has no images in the column 'image'"),
        ({"image": [True], "caption": ["a"]}, "has no images in the column 'image'"),
        ({"image": [[["a"]]], "caption": ["a"]}, "has no images in the column 'image'"),
        ({"image": [{"bytes": 5}], "caption": ["a"]}, "has no images in the column 'image'"),
        ({"image": pa.array([], IMAGE_TYPE), "caption": pa.array([], pa.string())}, "leaves no row"),
    ],
)
def test_tables_of_something_else_are_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        load_rows(write(tmp_path, **columns))


def test_text_that_is_no_utf8_is_refused(tmp_path):
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"\xed\xa0\x80"))
    with pytest.raises(ValueError, match="column 'notes' that is damaged: .*UTF8"):
        load_rows(write(tmp_path, image=[PICTURE], caption=["a"], notes=text))


def test_files_that_are_no_parquet_are_refused(tmp_path):
    for content in (b"", b"PAR1", b"no parquet", b"PAR1" + bytes(20) + b"PAR1"):
        (tmp_path / "a.parquet").write_bytes(content)
        for dataset in (str(tmp_path), str(tmp_path / "a.parquet")):
            with pytest.raises(ValueError, match="cannot be read as parquet"):
                load_rows(dataset)


def test_files_without_rows_beside_others(tmp_path):
    write(tmp_path, "0.parquet", image=pa.array([], IMAGE_TYPE), caption=pa.array([], pa.string()))
    write(tmp_path, "1.parquet", image=pa.array([PICTURE], IMAGE_TYPE), caption=["a"])
    assert load_rows(str(tmp_path))["caption"][:] == ["a"]


def test_captions_beside_a_caption_are_a_list_or_nothing(tmp_path):
    for value, kept in ((5, False), ("text", False), (["one", "two"], True)):
        rows = load_rows(write(tmp_path, image=[PICTURE], caption=["a"], captions=[value]))
        assert rows["caption"][:] == ["a"] and ("captions" in rows.column_names) == kept
    for value in ([{"raw": "one"}, {"raw": " two "}, {"raw": None}], {"raw": "one\ntwo"}):
        rows = load_rows(write(tmp_path, image=[PICTURE] * 2, caption=["a", "b"], captions=[value, None]))
        assert all_captions(rows) == ["one", "two", "b"]
    assert load_rows(write(tmp_path, image=[PICTURE], captions=["a"]))["caption"][:] == ["a"]
    # the first column that holds text
    assert load_rows(write(tmp_path, image=[PICTURE], caption=[5], text=["a"]))["caption"][:] == ["a"]


def test_other_images_of_a_row_are_not_opened(tmp_path):
    features = Features({"image": Image(), "thumbnail": Image(), "caption": Value("string")})
    row = {"image": PICTURE, "thumbnail": {"bytes": b"no image", "path": None}, "caption": "a"}
    Dataset.from_list([row], features=features).to_parquet(tmp_path / "a.parquet")
    assert read_image(load_rows(str(tmp_path / "a.parquet"))[0]).size


def test_a_table_of_images_alone(tmp_path):
    file = write(tmp_path, image=[PICTURE] * 2)
    with pytest.raises(ValueError, match=r"columns \['image'\]; allowed"):
        load_rows(file)
    assert load_rows(file, captions="optional")["caption"][:] == ["", ""]


def test_what_is_on_no_disk_and_no_hub_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`dataset` is 'nothing-here'.*no file or folder has this name"):
        load_rows("nothing-here")
