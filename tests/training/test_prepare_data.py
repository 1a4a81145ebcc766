"""A messy data set to clean shards, with every dropped sample accounted for."""

import hashlib
import importlib
import io
import json
import os
import tarfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny.shards import picture_bytes, sample, write_shard

from seed_hf.data.reading import TooManyUnreadableSamplesError, read_image, read_image_bytes
from seed_hf.data.rows import load_rows
from seed_hf.models.image_formats_seed import IMAGE_FORMATS


@pytest.fixture
def prepare(monkeypatch):
    return importlib.import_module("prepare_data").main


def picture(width, height, color=(200, 30, 60)):
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def messy(tmp_path):
    """Twelve usable samples and one of each fault."""
    bad = [
        sample(20, jpg=b"no picture"),
        sample(21, jpg=None),
        sample(22, txt=""),
        sample(23, jpg=picture_bytes(3), txt="the same again"),
        sample(24, jpg=picture(8, 9)),
        sample(25, jpg=picture(90, 20)),
        sample(26, jpg=picture_bytes(40)),
    ]
    write_shard(tmp_path / "raw" / "train-0.tar", [sample(number) for number in range(6)] + bad[:4])
    write_shard(tmp_path / "raw" / "train-1.tar", [sample(number) for number in range(6, 12)] + bad[4:])
    write_shard(tmp_path / "raw" / "validation-0.tar", [sample(40)])
    return str(tmp_path / "raw" / "{split}-*.tar")


def flags(dataset, output, *more):
    return ["--dataset", dataset, "--output_dir", str(output), *map(str, more)]


def test_messy_data_set(tmp_path, prepare, messy):
    output = tmp_path / "clean"
    prepare(flags(messy, output, "--split", "validation"))
    filters = ("--min_side", 16, "--min_aspect_ratio", 0.5, "--not_in", output / "kept-validation.parquet")
    summary = prepare(flags(messy, output, *filters, "--samples_per_shard", 5))

    dropped = pd.read_parquet(output / "dropped-train.parquet").set_index("key")
    assert dropped["reason"].to_dict() == {
        "000020": "unreadable",
        "000021": "no image",
        "000022": "no caption",
        "000023": "duplicate",
        "000024": "too small",
        "000025": "too long",
        "000026": "image of another split",
    }
    assert "cannot identify" in dropped.loc["000020", "detail"] and dropped.loc["000025", "detail"] == "90 x 20"
    assert dropped.loc["000023", "detail"] == "of row 3: 000003"
    assert summary["rows"] == 19 and summary["kept"] == 12 and sum(summary["dropped"].values()) == 7
    assert json.loads((output / "prepared-train.json").read_text()) == summary

    shards = [output / shard["name"] for shard in summary["shards"]]
    assert [shard["samples"] for shard in summary["shards"]] == [4, 4, 4]
    for path, shard in zip(shards, summary["shards"], strict=True):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
    rows = load_rows(str(output))
    kept = pd.read_parquet(output / "kept-train.parquet").set_index("key")
    about = [json.loads(tarfile.open(path).extractfile(name).read()) for path, name in json_members(shards)]
    assert sorted(found["source_key"] for found in about) == sorted(kept.index) == [f"{n:06d}" for n in range(12)]
    for row, found in zip(rows, about, strict=True):
        assert read_image_bytes(row) == picture_bytes(int(found["source_key"]))
        assert hashlib.sha256(read_image_bytes(row)).hexdigest() == found["sha256"]
    captions = dict(zip((found["source_key"] for found in about), rows["captions"], strict=True))
    assert captions["000003"] == ["picture 3", "the same again"] and captions["000004"] == ["picture 4"]
    assert rows["key"][:] != sorted(rows["key"]), "shards are to be mixtures"
    assert len(load_rows(str(output), "validation")) == 1


def json_members(shards):
    return [(path, name) for path in shards for name in tarfile.open(path).getnames() if name.endswith(".json")]


def test_goes_on_after_a_kill_and_refuses_other_settings(tmp_path, prepare, messy):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    summary = prepare(flags(messy, whole, "--samples_per_shard", 5))
    prepare(flags(messy, resumed, "--samples_per_shard", 5))
    for name in ("train-00001.tar", "prepared-train.json"):
        (resumed / name).unlink()
    (resumed / ".incomplete-train-00001.tar").write_text("half")
    before = (resumed / "train-00000.tar").stat().st_mtime_ns
    again = prepare(flags(messy, resumed, "--samples_per_shard", 5))
    assert again["shards"] == summary["shards"]
    assert (resumed / "train-00000.tar").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="'samples_per_shard': 5"):
        prepare(flags(messy, resumed, "--samples_per_shard", 6))


def test_shards_of_others_stay(tmp_path, prepare):
    shards = [tmp_path / f"train-{number:05d}.tar" for number in range(2)]
    before = [Path(write_shard(path, [sample(number)])).read_bytes() for number, path in enumerate(shards)]
    with pytest.raises(ValueError, match="has shards that this script did not write"):
        prepare(flags(str(tmp_path), tmp_path))
    assert [path.read_bytes() for path in shards] == before
    with pytest.raises(ValueError, match="not_in='typo.parquet' is not there"):
        prepare(flags(str(tmp_path), tmp_path / "out", "--not_in", "typo.parquet"))
    with pytest.raises(ValueError, match="`samples_per_shard` is 0; allowed"):
        prepare(flags(str(tmp_path), tmp_path / "out", "--samples_per_shard", 0))
    assert prepare(flags(str(tmp_path), tmp_path / "out"))["kept"] == 2


def test_check_only_near_duplicates_and_shrinking(tmp_path, prepare):
    stripes = Image.new("L", (9, 1))
    stripes.putdata([0, 200, 90, 250, 30, 160, 60, 220, 120])
    photo = stripes.resize((198, 120), Image.Resampling.BICUBIC).convert("RGB")
    first, second = io.BytesIO(), io.BytesIO()
    photo.save(first, "JPEG", quality=95)
    photo.save(second, "JPEG", quality=85)
    samples = [sample(0, jpg=first.getvalue()), sample(1, jpg=second.getvalue()), sample(2)]
    dataset = write_shard(tmp_path / "raw.tar", samples)
    assert prepare(flags(dataset, tmp_path / "a", "--check_only"))["kept"] == 3
    assert not list((tmp_path / "a").glob("*.tar"))
    summary = prepare(flags(dataset, tmp_path / "b", "--near_duplicates", "--shrink_to", 60))
    assert summary["dropped"] == {"near-duplicate": 1}
    assert sorted(read_image(row).size for row in load_rows(str(tmp_path / "b"))) == [(26, 24), (99, 60)]


FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM", "ICO", "DDS", "SGI"]
FORMATS += ["PCX", "TGA", "QOI", "DIB"]
Image.init()
FORMATS = [name for name in FORMATS if name in Image.SAVE]  # AVIF is not in every build of Pillow


def test_what_is_kept_is_read_back_in_every_format(tmp_path, prepare):
    (tmp_path / "raw").mkdir()
    images, lines = [], ["file_name,caption"]
    for number, name in enumerate(FORMATS):
        image = Image.new("RGB", (32, 32), (9 * number, 200, 60))
        more = {"save_all": True, "append_images": [image]} if name == "MPO" else {}
        suffix = IMAGE_FORMATS[name][0]
        image.save(tmp_path / "raw" / f"{number}{suffix}", name, **more)
        images.append((tmp_path / "raw" / f"{number}{suffix}").read_bytes())
        lines.append(f"{number}{suffix},{name}")
    (tmp_path / "raw" / "metadata.csv").write_text("\n".join(lines))
    summary = prepare(flags(str(tmp_path / "raw"), tmp_path / "clean"))
    assert summary["kept"] == len(FORMATS) == summary["rows"]
    rows = load_rows(str(tmp_path / "clean"), max_unreadable_share=0)
    found = {row["caption"]: read_image_bytes(row) for row in rows}
    assert found == dict(zip(FORMATS, images, strict=True))
    assert all(read_image(row).size == (32, 32) for row in rows)
    # without captions the suffix alone tells an image
    (tmp_path / "raw" / "metadata.csv").unlink()
    assert len(load_rows(str(tmp_path / "raw"), captions="optional")) == len(FORMATS)


def test_broken_rows_are_dropped_with_their_reason(tmp_path, prepare):
    (tmp_path / "raw").mkdir()
    os.mkfifo(tmp_path / "raw" / "pipe.jpg")
    (tmp_path / "secret.jpg").write_bytes(picture_bytes(9))
    good = {"bytes": picture_bytes(0), "path": None}
    paths = ["pipe.jpg", "a\0b.jpg", "x" * 300, "x.tar#1+", "../secret.jpg"]
    table = {"image": [good, None, *({"bytes": None, "path": path} for path in paths), good]}
    table["caption"] = ["a", "null", "pipe", "nul", "long", "piece", "outside", None]
    pq.write_table(pa.table(table), tmp_path / "raw" / "a.parquet")
    summary = prepare(flags(str(tmp_path / "raw"), tmp_path / "clean"))
    reasons = {"unreadable": 3, "outside of the data set": 2, "no image": 1, "no caption": 1}
    assert summary["kept"] == 1 and summary["dropped"] == reasons
    again = prepare(flags(str(tmp_path / "raw"), tmp_path / "all", "--allow_outside_paths"))
    assert again["kept"] == 2


def test_stops_when_too_much_is_wrong(tmp_path, prepare):
    dataset = write_shard(tmp_path / "raw.tar", [sample(number, jpg=b"no picture") for number in range(4)])
    with pytest.raises(TooManyUnreadableSamplesError, match=r"3 of 3 samples could not be read"):
        prepare(flags(dataset, tmp_path / "a", "--max_unreadable_share", 0.002))
    with pytest.raises(ValueError, match=r"Nothing is left"):  # a larger share may be asked for
        prepare(flags(dataset, tmp_path / "a", "--max_unreadable_share", 1))
    with pytest.raises(ValueError, match=r"Nothing is left .*'unreadable': 4"):
        prepare(flags(dataset, tmp_path / "b"))


def test_images_that_were_replaced_are_noticed(tmp_path, prepare):
    raw, output = tmp_path / "raw", tmp_path / "clean"
    raw.mkdir()
    for number in range(6):
        (raw / f"{number}.jpg").write_bytes(picture_bytes(number))
    (raw / "metadata.csv").write_text("\n".join(["file_name,caption", *(f"{n}.jpg,picture {n}" for n in range(6))]))
    command = flags(str(raw), output, "--samples_per_shard", 2)
    prepare(command)
    shards = sorted(output.glob("train-*.tar"))
    written = {path: path.stat().st_mtime_ns for path in shards}
    prepare(command)
    assert {path: path.stat().st_mtime_ns for path in shards} == written

    (raw / "3.jpg").write_bytes(picture_bytes(9))
    prepare(command)
    images = {row["caption"]: read_image_bytes(row) for row in load_rows(str(output))}
    assert images == {f"picture {number}": picture_bytes(9 if number == 3 else number) for number in range(6)}
    assert sum(path.stat().st_mtime_ns > written[path] for path in shards) == 1
    # now two are the same, and one shard fewer is enough
    for number in (4, 5):
        (raw / f"{number}.jpg").write_bytes(picture_bytes(0))
    assert prepare(command)["dropped"] == {"duplicate": 2} and len(load_rows(str(output))) == 4
