"""A data set to codes: right, resumable, shared between processes, and on a Hub."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import NamedSplit, load_dataset
from PIL import Image
from tiny import ROOT
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.shards import picture_bytes, sample, write_shard, write_shards
from tiny.training import damages
from transformers.image_utils import SizeDict

from seed_hf import SeedImageProcessor
from seed_hf.commands import main
from seed_hf.data import resumable
from seed_hf.data.codes import read_codes, split_name
from seed_hf.data.encode import _CodeParts, encode_once, encode_rows
from seed_hf.data.reading import TooManyUnreadableSamplesError, read_image, read_image_bytes, try_image
from seed_hf.data.row_parts import Sample
from seed_hf.data.rows import load_rows
from seed_hf.image_tokenizers import find_image_tokenizer_files
from seed_hf.provenance import weights_digest
from seed_hf.sealed_files import DamagedFileError


PROCESSOR = SeedImageProcessor(size={"height": 28, "width": 28})


@pytest.fixture(scope="module")
def image_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image_tokenizer")
    tiny_image_tokenizer().save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


def direct_codes(rows):
    pixel_values = PROCESSOR([read_image(row) for row in rows], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return tiny_image_tokenizer().encode(pixel_values).tolist()


def test_codes_are_those_of_the_model_and_files_are_what_they_promise(tmp_path, image_tokenizer):
    dataset = write_shards(tmp_path / "shards", num_shards=2, samples_per_shard=8)
    write_shard(tmp_path / "shards" / "train-0002.tar", [sample(16, jpg=b"no picture"), sample(17)])
    rows = load_rows(dataset)
    done = encode_rows(rows, image_tokenizer, tmp_path / "codes", batch_size=3, rows_per_file=5, source=dataset)
    assert (done["num_images"], done["num_skipped"], done["num_encoded"]) == (17, 1, 17)

    codes = read_codes(tmp_path / "codes", image_tokenizer=image_tokenizer)
    good = [row for row in rows if row["key"] != "000016"]
    assert codes["key"][:] == [row["key"] for row in good]
    assert codes["caption"][:] == [row["caption"] for row in good]
    assert codes["codes"][:] == direct_codes(good)
    assert load_dataset(str(tmp_path / "codes"), split="train")["codes"][:] == codes["codes"][:]
    files = sorted((tmp_path / "codes" / "data").iterdir())
    assert [path.name for path in files] == [f"train-{part:05d}-of-00004.parquet" for part in range(4)]
    table = pq.read_table(files[0])
    assert table.column_names == ["key", "caption", "codes"]
    assert table["codes"].nbytes == 5 * 8 * 2  # 16 bits a code
    (line,) = (tmp_path / "codes" / "skipped" / "train-00003-of-00004.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "000016" and json.loads(line)["shard"].endswith("train-0002.tar")
    description = json.loads((tmp_path / "codes" / "encoding-train.json").read_text())
    assert description["weights"] == weights_digest(image_tokenizer) and description["dtype"] == "float32"

    again = encode_rows(rows, image_tokenizer, tmp_path / "codes", rows_per_file=5)
    assert again["num_encoded"] == 0 and again["num_images"] == 17
    with pytest.raises(ValueError, match=r"was made with \{'rows_per_file': 5\}.*\{'rows_per_file': 4\}"):
        encode_rows(rows, image_tokenizer, tmp_path / "codes", rows_per_file=4)
    with pytest.raises(ValueError, match="'num_rows': 18"):
        encode_rows(rows.select(range(5)), image_tokenizer, tmp_path / "codes", rows_per_file=5)


def test_bytes_become_what_the_processor_makes_of_an_image(image_tokenizer):
    parts = _CodeParts(
        find_image_tokenizer_files(image_tokenizer), [], {"dtype": "float32", "augmented_views": 1}, None, 1
    )
    parts.load("cpu")
    image = Image.effect_noise((40, 30), 200).convert("RGB")
    samples = [Sample(number, {"image": parts.prepare(image, number)}) for number in range(2)]
    assert samples[0].row["image"].dtype == "uint8"
    pixel_values = parts.to_pixel_values(samples)
    assert pixel_values.shape == (2, 2, 3, 28, 28)
    assert torch.equal(pixel_values[0, 0], PROCESSOR(image, return_tensors="pt")["pixel_values"][0])
    processor = parts.model.image_processor
    processor.do_center_crop, processor.crop_size = True, SizeDict(height=20, width=24)
    assert parts.prepare(image, 0).shape == (2, 3, 20, 24)


def test_too_many_unreadable_pictures_stop_it(tmp_path, image_tokenizer):
    rows = load_rows(write_shards(tmp_path, 1, 4, jpg=b"no picture"))
    with pytest.raises(TooManyUnreadableSamplesError, match=r"3 of 4 .*skipped/train-00000-of-00001\.jsonl.*0\.002"):
        encode_rows(rows, image_tokenizer, tmp_path / "codes", max_unreadable_share=0.002)
    with pytest.raises(ValueError, match=r"lacks 1 of 1 parts .* `seed-hf encode`"):
        read_codes(tmp_path / "codes")


def test_captions_columns_and_views(tmp_path, image_tokenizer):
    rows = load_rows(write_shards(tmp_path / "shards", 1, 6, txt="one\ntwo")).add_column("license", ["cc"] * 6)
    settings = {"augmented_views": 2, "columns": ["license"]}
    encode_rows(rows, image_tokenizer, tmp_path / "a", batch_size=4, **settings)
    codes = read_codes(tmp_path / "a")
    assert codes.column_names == ["key", "caption", "captions", "license", "codes", "augmented_codes"]
    assert codes["captions"][0] == ["one", "two"] and codes["codes"][:] == direct_codes(rows)
    assert {len(views) for views in codes["augmented_codes"]} == {2}
    # views belong to the row, not to how rows were dealt to batches
    encode_rows(rows, image_tokenizer, tmp_path / "b", batch_size=1, num_workers=2, rows_per_file=2, **settings)
    assert read_codes(tmp_path / "b")[:] == codes[:]
    with pytest.raises(ValueError, match=r"`columns` names \['image', 'x'\]"):
        encode_rows(rows, image_tokenizer, tmp_path / "c", columns=["image", "x"])


def test_encoded_once(tmp_path, image_tokenizer, monkeypatch):
    rows = load_rows(write_shards(tmp_path / "shards", 1, 6))
    first = encode_once(rows, image_tokenizer, tmp_path / "cache", "train")

    def read_again(row):
        raise AssertionError("a picture is read although its codes are there")

    for name in ("row_parts.try_image", "image_identity.read_image_bytes"):
        monkeypatch.setattr(f"seed_hf.data.{name}", read_again)
    assert encode_once(rows, image_tokenizer, tmp_path / "cache", "train")[:] == first[:]
    for others in (rows.select(range(3)), rows):
        settings = {"dtype": "bfloat16"} if others is rows else {}
        with pytest.raises(AssertionError, match="read although"):
            encode_once(others, image_tokenizer, tmp_path / "cache", "train", **settings)


ENCODE = "from seed_hf.commands import main; import sys; sys.exit(main(sys.argv[1:]))"


SPLITS = {
    "train": "train",
    "train[:]": "train",
    "train[:5000]": "train_to_5000",
    "train[5000:]": "train_from_5000",
    "train[-5000:]": "train_from_minus_5000",
    "train[:-5000]": "train_to_minus_5000",
    "train[10:20]": "train_from_10_to_20",
    "train[:10%]": "train_to_10_percent",
    "train[-10%:]": "train_from_minus_10_percent",
    "train+test": "train_plus_test",
    "train[:5]+test[5:]": "train_to_5_plus_test_from_5",
}


def test_slices_have_names_of_their_own_that_datasets_takes():
    assert {split: split_name(split) for split in SPLITS} == SPLITS
    assert len(set(SPLITS.values())) == len(SPLITS) - 1  # all rows are all rows
    for name in SPLITS.values():
        assert NamedSplit(name) == name and split_name(name) == name


def test_slices_are_different_splits(tmp_path, image_tokenizer):
    dataset, output = write_shards(tmp_path / "shards", 1, 6), tmp_path / "codes"
    for split in ("train[4:]", "train[:4]"):
        encode_rows(load_rows(dataset, split), image_tokenizer, output, split)
    assert read_codes(output, "train[:4]")["caption"][:] == [f"picture {number}" for number in range(4)]
    assert read_codes(output, "train[4:]")["caption"][:] == ["picture 4", "picture 5"]
    assert load_dataset(str(output), split="train_from_4")["caption"][:] == ["picture 4", "picture 5"]
    with pytest.raises(ValueError, match=r"allowed in .*: \['train_from_4', 'train_to_4'\]"):
        read_codes(output, "train[1:]")
    # another split whose own name is the same
    with pytest.raises(ValueError, match=r"was made with \{'split': 'train\[:4\]'\}.*\{'split': 'train_to_4'\}"):
        encode_rows(load_rows(dataset, "train[:4]"), image_tokenizer, output, "train_to_4")
    encode_rows(load_rows(dataset), image_tokenizer, output, "a.b")
    with pytest.raises(ValueError, match=r"`split` is 'a-b', but .*encoding-a_b.json is of the split 'a.b'"):
        read_codes(output, "a-b")


def test_a_file_of_codes_is_of_one_split(tmp_path, image_tokenizer):
    encode_rows(load_rows(write_shards(tmp_path / "shards", 1, 2)), image_tokenizer, tmp_path / "codes", "validation")
    part = next((tmp_path / "codes" / "data").glob("*.parquet"))
    assert read_codes(part, "validation")[:] == read_codes(tmp_path / "codes", "validation")[:]
    with pytest.raises(ValueError, match=r"`split` is 'train'; allowed are .* named after: \['validation'\]"):
        read_codes(part)
    ours = part.rename(tmp_path / "test_concepts-00000-of-00001.parquet")  # as `encode_rows` names a part
    assert len(read_codes(ours, "test_concepts")) == 2
    with pytest.raises(ValueError, match=r"`split` is 'train\[1:\]'; allowed are"):
        read_codes(ours, "train[1:]")
    nameless = ours.rename(tmp_path / "codes.parquet")
    assert len(read_codes(nameless)) == 2
    with pytest.raises(ValueError, match="`split` is 'test', but neither a column 'split' of .* Allowed: 'train'"):
        read_codes(nameless, "test")


def write_pictures(folder, *numbers):
    folder.mkdir(exist_ok=True)
    lines = [f"{index}.jpg,a thing" for index, _ in enumerate(numbers)]
    (folder / "captions.csv").write_text("\n".join(["file_name,caption", *lines]))
    for index, number in enumerate(numbers):
        (folder / f"{index}.jpg").write_bytes(picture_bytes(number))


def write_parquet(folder, *numbers):
    folder.mkdir(exist_ok=True)
    images = [{"bytes": picture_bytes(number), "path": None} for number in numbers]
    pq.write_table(pa.table({"image": images, "caption": ["a thing"] * len(numbers)}), folder / "train.parquet")


def write_tar(folder, *numbers):
    write_shard(folder / "train-0.tar", [sample(i, jpg=picture_bytes(n), txt="a") for i, n in enumerate(numbers)])


def count_reads(monkeypatch):
    reads = []
    for module, function in (("row_parts", try_image), ("image_identity", read_image_bytes)):
        read = lambda row, module=module, function=function: reads.append(module) or function(row)  # noqa: E731
        monkeypatch.setattr(f"seed_hf.data.{module}.{function.__name__}", read)
    return reads


@pytest.mark.parametrize("write", [write_pictures, write_parquet, write_tar])
def test_changed_pictures_are_noticed(tmp_path, image_tokenizer, monkeypatch, caplog, write):
    data, output, reads = tmp_path / "data", tmp_path / "codes", count_reads(monkeypatch)

    def encode(folder=data):
        reads.clear()
        rows = load_rows(str(folder))
        done = encode_rows(rows, image_tokenizer, output, rows_per_file=2)
        assert read_codes(output)["codes"][:] == direct_codes(rows)
        return done["num_encoded"]

    write(data, 0, 1, 2, 3)
    assert encode() == 4 and set(reads) == {"row_parts"}
    assert encode() == 0 and not reads
    write(data, 0, 1, 2, 7)
    assert encode() == 2 and reads.count("row_parts") == 2
    assert "train-00001-of-00002.parquet have changed; it is made anew" in caplog.text
    # a copy has other times: its images are read once, and not encoded
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    assert encode(tmp_path / "copy") == 0 and set(reads) <= {"image_identity"}
    assert encode(tmp_path / "copy") == 0 and not reads
    assert not list((output / "data").glob(".*"))


def test_codes_outlive_their_pictures(tmp_path, image_tokenizer, caplog):
    write_pictures(tmp_path / "data", 0, 1)
    rows = load_rows(str(tmp_path / "data"))
    codes = encode_once(rows, image_tokenizer, tmp_path / "cache", "train")["codes"][:]
    (tmp_path / "data" / "1.jpg").unlink()
    assert encode_once(rows, image_tokenizer, tmp_path / "cache", "train")["codes"][:] == codes
    assert "cannot be read any more" in caplog.text


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, image_tokenizer):
    """Rows in three parts, one image of which cannot be read, and the folder of their codes."""
    folder = tmp_path_factory.mktemp("encoded")
    numbers = [sample(number, **{"jpg": b"no picture"} if number == 4 else {}) for number in range(6)]
    write_shard(folder / "train-0.tar", numbers)
    rows = load_rows(str(folder / "train-0.tar"))
    encode_rows(rows, image_tokenizer, folder / "codes", rows_per_file=2)
    return rows, folder / "codes"


def test_damage_of_a_part_is_found(tmp_path, encoded):
    _, folder = encoded
    codes, output = read_codes(folder)[:], tmp_path / "codes"
    shutil.copytree(folder, output)
    part = output / "data" / "train-00001-of-00003.parquet"
    for name, content in damages(part):
        part.write_bytes(content)
        with pytest.raises(ValueError, match="train-00001-of-00003.parquet is damaged"):
            raise AssertionError(f"{name} gives {read_codes(output)[:] == codes}")
        with pytest.raises(DamagedFileError):
            read_codes(part)


def spoil(folder, kind):
    """Damage between files."""
    first, second, third = sorted((folder / "data").glob("train-*.parquet"))
    if kind == "swapped":
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    elif kind == "missing row, as another program writes it":
        pq.write_table(pq.read_table(second).slice(1), second)
    elif kind == "skipped list":
        (folder / "skipped" / f"{third.stem}.jsonl").unlink()
    else:
        second.write_bytes(second.read_bytes()[:-9])


@pytest.mark.parametrize("kind", ["swapped", "missing row, as another program writes it", "skipped list", "truncated"])
def test_damaged_parts_are_refused_and_made_anew(tmp_path, image_tokenizer, encoded, kind, caplog):
    rows, folder = encoded
    output = tmp_path / "codes"
    shutil.copytree(folder, output)
    spoil(output, kind)
    with pytest.raises(ValueError, match="parquet"):
        read_codes(output)
    done = encode_rows(rows, image_tokenizer, output, rows_per_file=2)
    assert "made anew" in caplog.text and done["num_images"] == 5 and done["num_skipped"] == 1
    assert read_codes(output)[:] == read_codes(folder)[:]


def test_codes_of_older_versions_are_read_with_a_notice(tmp_path, image_tokenizer, encoded, caplog):
    rows, folder = encoded
    output = tmp_path / "codes"
    shutil.copytree(folder, output)
    for path in (output / "data").glob("*.parquet"):
        pq.write_table(pq.read_table(path), path)
    description = json.loads((output / "encoding-train.json").read_text())
    del description["split"]
    (output / "encoding-train.json").write_text(json.dumps(description))
    assert read_codes(output)[:] == read_codes(folder)[:]
    assert encode_rows(rows, image_tokenizer, output, rows_per_file=2)["num_encoded"] == 0
    assert caplog.text.count("3 of 3 parts") == 2 and caplog.text.count("no checksums") == 2
    part = output / "data" / "train-00001-of-00003.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ValueError, match="train-00001-of-00003.parquet is damaged"):
        read_codes(output)
    assert encode_rows(rows, image_tokenizer, output, rows_per_file=2)["num_encoded"] == 2
    assert read_codes(output)[:] == read_codes(folder)[:]


def test_a_damaged_description_is_named(tmp_path, encoded):
    output = tmp_path / "codes"
    shutil.copytree(encoded[1], output)
    (output / "encoding-train.json").write_bytes(b'{"num_rows": \xff')
    with pytest.raises(ValueError, match="encoding-train.json is damaged"):
        read_codes(output)


def start_command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ENCODE, "encode", *map(str, arguments)]
    return processes.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_process_loses_and_repeats_nothing_and_two_others_finish(
    tmp_path, image_tokenizer, capfd, monkeypatch
):
    monkeypatch.setattr(resumable, "torch", processes.TORCH)
    dataset = write_shards(tmp_path / "shards", num_shards=4, samples_per_shard=50)
    rows, output = load_rows(dataset), tmp_path / "codes"
    other = start_command(image_tokenizer, dataset, output, "--batch-size", 1, "--rows-per-file", 20)
    while not list(output.glob("data/train-*.parquet")):
        assert other.poll() is None, other.stdout.read()
        time.sleep(0.01)
    # stopped while it holds a part, and killed while others wait for that part
    other.send_signal(signal.SIGSTOP)
    threading.Timer(1.0, lambda: other.send_signal(signal.SIGKILL)).start()
    done = encode_rows(rows, image_tokenizer, output, rows_per_file=20, num_processes=2)
    assert other.wait() == -signal.SIGKILL
    assert done["num_images"] == 200 and 0 < done["num_encoded"] < 200
    assert re.search(r"200/200 \[.*image", capfd.readouterr().err)
    codes = read_codes(output)
    assert codes["key"][:] == rows["key"][:] and codes["codes"][:] == direct_codes(rows)


def test_command_says_what_was_done(tmp_path, image_tokenizer, capsys):
    dataset = write_shards(tmp_path / "shards", num_shards=1, samples_per_shard=10)
    assert main(["encode", str(image_tokenizer), dataset, str(tmp_path / "codes")]) == 0
    assert re.search(r"10 images, 0 skipped; 10 of them now, \d+\.\d images/s", capsys.readouterr().out)
    assert read_codes(tmp_path / "codes")["codes"][:] == direct_codes(load_rows(dataset))


def test_command_reports_errors(tmp_path, image_tokenizer, capsys):
    assert main(["encode", str(tmp_path), str(tmp_path / "*.tar"), str(tmp_path / "codes")]) == 1
    assert "names no file" in capsys.readouterr().err
    dataset = write_shards(tmp_path / "shards", 1, 2)
    assert main(["encode", str(tmp_path), dataset, str(tmp_path / "codes")]) == 1
    assert "allowed: a folder or Hub id with the config.json" in capsys.readouterr().err
    assert main(["encode", str(image_tokenizer), dataset, str(tmp_path / "codes"), "--batch-size", "0"]) == 1
    assert "`--batch-size` is 0" in capsys.readouterr().err


def test_push(tmp_path, image_tokenizer, hub, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    dataset = write_shards(tmp_path / "shards", 1, 4)
    rows = load_rows(dataset)
    encode_rows(rows, image_tokenizer, tmp_path / "codes", "validation", source="shards")
    (tmp_path / "codes" / "data" / ".incomplete-train.parquet").write_text("half")
    command = ["encode", str(image_tokenizer), dataset, str(tmp_path / "codes"), "--push-to-hub", "owner/codes"]
    assert main([*command, "--licence", "mit"]) == 0
    files = hub.files("owner/codes", repo_type="dataset")
    splits = [f"data/{split}-00000-of-00001.parquet" for split in ("train", "validation")]
    wanted = {".gitattributes", "README.md", *splits, "encoding-train.json", "encoding-validation.json"}
    assert set(files) == wanted
    codes = read_codes("owner/codes", "validation")
    assert codes["codes"][:] == direct_codes(rows) and codes["key"][:] == rows["key"][:]
    card = files["README.md"].decode()
    assert "| validation | 4 | 0 | shards |" in card and 'load_dataset("owner/codes", split="train")' in card


def test_a_part_without_any_image_is_empty(tmp_path, image_tokenizer):
    broken = {"jpg": b"no image"}
    samples = [sample(number, **(broken if number in (2, 3, 5) else {})) for number in range(6)]
    rows = load_rows(write_shard(tmp_path / "0.tar", samples))
    encode_rows(rows.select(range(4)), image_tokenizer, tmp_path / "codes", rows_per_file=2, max_unreadable_share=0.5)
    for codes in (read_codes(tmp_path / "codes"), load_dataset(str(tmp_path / "codes"), split="train")):
        assert codes["key"][:] == ["000000", "000001"]


def test_changed_further_columns_are_noticed(tmp_path, image_tokenizer):
    rows = load_rows(write_shards(tmp_path / "shards", 1, 2, txt="one\ntwo"))
    changed = rows.map(lambda row: {"captions": [row["caption"], "new"]})
    for part in (rows, changed):
        kept = encode_once(part, image_tokenizer, tmp_path / "cache", "train")
        assert kept["captions"][:] == part["captions"][:]
    encode_rows(rows, image_tokenizer, tmp_path / "codes")
    with pytest.raises(ValueError, match="was made with .*'values'"):
        encode_rows(changed, image_tokenizer, tmp_path / "codes")
    file = tmp_path / "codes" / "encoding-train.json"
    description = json.loads(file.read_text())
    del description["values"]  # as older versions wrote it
    file.write_text(json.dumps(description))
    shutil.rmtree(tmp_path / "codes" / "data")
    assert encode_rows(changed, image_tokenizer, tmp_path / "codes")["num_encoded"] == 2


def test_output_among_the_images_and_brackets_in_its_name(tmp_path, image_tokenizer, monkeypatch, capsys):
    folder = tmp_path / "photos[1]"
    write_pictures(folder, 0, 1)
    (folder / "captions.csv").unlink()
    monkeypatch.chdir(folder)
    for count in (2, 0):
        assert main(["encode", str(image_tokenizer), ".", "codes[1]"]) == 0
        assert f"{count} of them now" in capsys.readouterr().out
    assert len(read_codes("codes[1]")) == 2


def test_images_without_captions_and_rows_of_no_use(tmp_path, image_tokenizer, capsys):
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(sample(number)[1]["jpg"])
    (tmp_path / "images" / "3.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "secret.jpg").write_bytes(sample(3)[1]["jpg"])
    command = ["encode", str(image_tokenizer), str(tmp_path / "images")]
    assert main([*command, str(tmp_path / "codes")]) == 0
    assert "3 images, 1 skipped" in capsys.readouterr().out
    codes = read_codes(tmp_path / "codes")
    assert codes["key"][:] == ["0.jpg", "1.jpg", "2.jpg"] and codes["caption"][:] == [""] * 3
    (skipped,) = (tmp_path / "codes" / "skipped").iterdir()
    line = json.loads(skipped.read_text())
    assert line["key"] == "3.jpg" and line["reason"].startswith("outside of the data set")
    assert main([*command, str(tmp_path / "all"), "--allow-outside-paths"]) == 0
    assert len(read_codes(tmp_path / "all")) == 4


def save_coarse_tokenizer(folder, weight):
    """Its first channel sums the pixels of a patch, which float16 has no room for where an image is bright."""
    model = tiny_image_tokenizer()
    with torch.no_grad():
        patches = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
        patches.weight[0] = weight
    model.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)


def save_grey_images(folder, *values):
    folder.mkdir()
    for number, value in enumerate(values):
        Image.new("RGB", (28, 28), (value, value, value)).save(folder / f"{number}.png")


def test_an_image_that_half_precision_has_no_room_for_costs_no_other(tmp_path):
    save_coarse_tokenizer(tmp_path / "model", weight=100.0)
    save_grey_images(tmp_path / "images", 110, 255, 120, 115)
    rows = load_rows(str(tmp_path / "images"), captions="optional")
    done = encode_rows(rows, tmp_path / "model", tmp_path / "half", dtype="float16", augmented_views=1)
    assert (done["num_images"], done["num_skipped"]) == (3, 1)
    assert read_codes(tmp_path / "half")["key"][:] == ["0.png", "2.png", "3.png"]
    (skipped,) = (tmp_path / "half" / "skipped").iterdir()
    line = json.loads(skipped.read_text())
    assert line["key"] == "1.png" and line["reason"].startswith("no codes: NaN or infinity")
    assert encode_rows(rows, tmp_path / "model", tmp_path / "whole", dtype="float32")["num_images"] == 4
    with pytest.raises(TooManyUnreadableSamplesError, match=r"1 of 4 samples .*no codes"):
        encode_rows(rows, tmp_path / "model", tmp_path / "c", dtype="float16", max_unreadable_share=0)


@pytest.mark.parametrize(("weight", "dtype"), [(float("nan"), "float32"), (1e6, "float16")])
def test_weights_that_are_no_numbers_are_an_error_at_once(tmp_path, weight, dtype):
    save_coarse_tokenizer(tmp_path / "model", weight)
    save_grey_images(tmp_path / "images", 110)
    rows = load_rows(str(tmp_path / "images"), captions="optional")
    with pytest.raises(ValueError, match=rf"NaN or infinity in 1 weights, such as '.*weight'.*torch\.{dtype}"):
        encode_rows(rows, tmp_path / "model", tmp_path / "codes", dtype=dtype)


def test_the_data_set_is_no_place_for_its_codes(tmp_path, capsys):
    folder = tmp_path
    (folder / "a.png").write_bytes(b"not touched")
    before = sorted(folder.rglob("*"))
    assert main(["encode", "seed-mini", str(folder), str(folder)]) == 1
    assert "the data set itself" in capsys.readouterr().err and sorted(folder.rglob("*")) == before
