"""A data set to codes: right, resumable, shared between processes, and on a Hub."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from tiny_image_tokenizer import tiny_image_tokenizer
from tiny_shards import sample, write_shard, write_shards

from seed_hf import SeedImageProcessor
from seed_hf.commands import main
from seed_hf.data_reading import TooManyUnreadableSamplesError, read_image
from seed_hf.data_rows import load_rows
from seed_hf.encoded_data import read_codes, weights_digest
from seed_hf.encoding_seed import encode_once, encode_rows


ROOT = Path(__file__).parents[1]
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

    monkeypatch.setattr("seed_hf.encoding_seed.read_image", read_again)
    assert encode_once(rows, image_tokenizer, tmp_path / "cache", "train")[:] == first[:]
    with pytest.raises(AssertionError, match="read although"):
        encode_once(rows.select(range(3)), image_tokenizer, tmp_path / "cache", "train")


ENCODE = "from seed_hf.commands import main; import sys; sys.exit(main(sys.argv[1:]))"


def start_command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ENCODE, "encode", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_process_loses_and_repeats_nothing_and_two_others_finish(tmp_path, image_tokenizer, capfd):
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
    assert "`batch_size` is 0" in capsys.readouterr().err


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
