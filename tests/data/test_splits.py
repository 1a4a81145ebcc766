"""No split is ever made of the rows of another."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny.shards import picture_bytes, sample, write_shard

from seed_hf.data.rows import load_rows
from seed_hf.data.splits import match_split, named_split


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".tar"):
            write_shard(folder / name, [sample(0, txt=name)])
        else:
            table = pa.table({"image": [{"bytes": picture_bytes(0), "path": None}], "caption": [name]})
            pq.write_table(table, folder / name)
    return str(folder)


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (("train2017-0.tar", "val2017-0.tar"), "train", ["train2017-0.tar"]),
        (("train2017-0.tar", "val2017-0.tar"), "validation", ["val2017-0.tar"]),
        (("train2014-0.tar", "train2017-0.tar"), "train2017", ["train2017-0.tar"]),
        (("train-0.tar", "train2017-0.tar"), "train", ["train-0.tar"]),
        (("cc3m/training_0.parquet", "cc3m/dev_0.parquet"), "validation", ["cc3m/dev_0.parquet"]),
        (("test/train-like-0.tar", "test/0.tar"), "test", ["test/0.tar"]),
        (("de-0.tar", "en-0.tar"), "en", ["en-0.tar"]),
        (("0.tar", "1.tar"), "train", ["0.tar", "1.tar"]),
    ],
)
def test_files_of_a_split(tmp_path, names, split, found):
    assert load_rows(write(tmp_path, *names), split)["caption"][:] == found


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        (("val2017-0.tar",), "train", r"`split` is 'train'; allowed .*\['val2017'\]"),
        (("0.tar", "val-0.tar"), "train", r"`split` is 'train'; allowed .*\['val'\]"),
        (("train2017-0.parquet",), "test", r"`split` is 'test'; allowed .*\['train2017'\]"),
        (("train2014-0.tar",), "train2017", r"allowed .*\['train2014'\]"),
        (("0.parquet",), "validation", r"nothing in .* says which rows"),
    ],
)
def test_a_split_that_nothing_names_is_refused(tmp_path, names, split, message):
    with pytest.raises(ValueError, match=message):
        load_rows(write(tmp_path, *names), split)


def test_shards_that_are_no_files_are_refused(tmp_path):
    for suffix, message in {"tar": "no sample that can be used", "parquet": "what is not a file"}.items():
        (tmp_path / suffix / f"train.{suffix}.{suffix}").mkdir(parents=True)  # a folder is looked into
        os.mkfifo(tmp_path / suffix / f"train-0.{suffix}")
        for dataset in (tmp_path / suffix, tmp_path / suffix / f"train-0.{suffix}"):
            with pytest.raises(ValueError, match=message):
                load_rows(str(dataset))


def test_a_pattern_names_the_split_of_whatever_is_in_its_folder(tmp_path):
    write(tmp_path, "validation/0.tar", "train/0.tar")
    rows = load_rows(str(tmp_path / "{split}"), "validation")
    assert len(rows) == 1 and "/validation/" in rows["image"][0]["path"]


def test_a_column_names_its_splits(tmp_path):
    table = pa.table({"image": [{"bytes": picture_bytes(0), "path": None}] * 2, "caption": ["a", "b"]})
    pq.write_table(table.append_column("split", pa.array(["train", "val"])), tmp_path / "all.parquet")
    assert load_rows(str(tmp_path / "all.parquet"), "validation")["caption"][:] == ["b"]
    with pytest.raises(ValueError, match=r"`split` 'test' leaves no row .* allowed: \['train', 'val'\]"):
        load_rows(str(tmp_path / "all.parquet"), "test")


def write_captions(folder, *names, column=()):
    lines = ["file_name,caption,split"] if column else ["file_name,caption"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture_bytes(number))
        lines.append(f"{name},{name},{column[number]}" if column else f"{name},{name}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return str(folder)


def test_a_caption_file_without_splits_is_the_training_data_alone(tmp_path):
    folder = write_captions(tmp_path, "1.jpg", "cars/2.jpg")
    assert len(load_rows(folder)) == 2
    for split in ("validation", "test", "val"):
        with pytest.raises(
            ValueError, match=rf"`split` is '{split}', but nothing in .*metadata.csv.*Allowed: 'train'"
        ):
            load_rows(folder, split)


def test_folders_in_a_caption_file_are_splits_where_all_are(tmp_path):
    folder = write_captions(tmp_path / "a", "train/1.jpg", "val/2.jpg", "val/3.jpg")
    assert load_rows(folder)["caption"][:] == ["train/1.jpg"] and len(load_rows(folder, "validation")) == 2
    with pytest.raises(ValueError, match=r"`split` is 'test'; allowed in .*\['train', 'val'\]"):
        load_rows(folder, "test")
    # here a train is a thing
    assert len(load_rows(write_captions(tmp_path / "b", "train/1.jpg", "car/2.jpg"))) == 2


def test_rows_without_a_split_are_of_none(tmp_path, caplog):
    folder = write_captions(tmp_path, "1.jpg", "2.jpg", "3.jpg", column=("train", "", "validation"))
    assert load_rows(folder)["key"][:] == ["1.jpg"] and load_rows(folder, "validation")["key"][:] == ["3.jpg"]
    assert "'no split': 1" in caplog.text


def test_years_and_synonyms_of_caption_files_and_folders(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.jpg").write_bytes(picture_bytes(1))
        annotations = [{"image_id": 1, "caption": split}]
        content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": annotations}
        (tmp_path / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
    for split, folder in {"train": "train2017", "validation": "val2017", "val": "val2017"}.items():
        row = load_rows(str(tmp_path), split)[0]
        assert row["caption"] == folder and row["image"]["path"].endswith(f"{folder}/1.jpg")


def test_names():
    assert match_split("train", ["train2017", "val"]) == {"train2017"} and not match_split("x", ["train", "y"])
    assert named_split("validation/cc3m-train-0.tar", "train") == "train"
    assert named_split("cc3m-0.tar", "train") is None and named_split("de/0.tar", "de") == "de"


def test_words_in_names_of_bare_images_are_no_splits_but_folders_of_all_are(tmp_path):
    for name in ("train-station.png", "my-test.png", "owl.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert len(load_rows(str(tmp_path), captions="optional")) == 3
    for name in ("train", "val"):
        (tmp_path / "sorted" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "sorted" / name / "1.png")
    assert load_rows(str(tmp_path / "sorted"), "validation", captions="optional")["key"][:] == ["val/1.png"]


def test_a_name_that_is_not_utf8_costs_its_image(tmp_path, caplog):
    for name in (b"caf\xe9.png", b"owl.png"):
        Image.new("RGB", (4, 4)).save(os.path.join(os.fsencode(tmp_path), name).decode(errors="surrogateescape"))
    assert load_rows(str(tmp_path), captions="optional")["key"][:] == ["owl.png"]
    assert "no UTF-8 text" in caplog.text
