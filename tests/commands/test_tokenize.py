"""`seed-hf tokenize`: codes of files, folders and globs, and what cannot be read."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from rounding import assert_codes_of_images

from seed_hf import SeedPipeline
from seed_hf.commands import main
from seed_hf.data.codes import read_codes
from seed_hf.mini import mini_image, mini_pictures_path, mini_pipeline_path


@pytest.fixture(scope="module")
def pipeline():
    return SeedPipeline.from_pretrained(mini_pipeline_path())


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_codes_are_those_of_the_pipeline(pipeline, capsys):
    files = [mini_image("owl"), mini_image("strawberry"), mini_image("guitar")]
    assert main(["tokenize", *files, "--batch-size", "2"]) == 0
    printed = capsys.readouterr()
    assert [row["file"] for row in rows_of(printed.out)] == files
    codes = torch.tensor([row["codes"] for row in rows_of(printed.out)])
    pixel_values = pipeline.image_processor(files, return_tensors="pt")["pixel_values"]
    assert_codes_of_images(pipeline.image_tokenizer, pixel_values, codes)
    assert printed.err.startswith("using seed-mini, ")


def test_folders_globs_and_standard_input(tmp_path, capsys, monkeypatch):
    (tmp_path / "inner [1]").mkdir()
    for name in ("b.png", "inner [1]/a.PNG"):
        shutil.copy(mini_image("owl"), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert main(["tokenize", str(tmp_path)]) == 0
    names = [str(tmp_path / name) for name in ("b.png", "inner [1]/a.PNG")]
    assert [row["file"] for row in rows_of(capsys.readouterr().out)] == names
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{names[1]}\n\n{names[0]}\n"))
    assert main(["tokenize", "-", f"{mini_pictures_path()}/[g]*.png"]) == 0
    files = [row["file"] for row in rows_of(capsys.readouterr().out)]
    assert files == [names[1], names[0], mini_image("green-heart"), mini_image("guitar")]


def test_what_cannot_be_read_is_reported_and_skipped(pipeline, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    output, nothing = tmp_path / "out" / "codes.jsonl", tmp_path / "nothing"
    nothing.mkdir()
    paths = [str(tmp_path / "broken.png"), mini_image("owl"), "nowhere.png", str(nothing), "*.nothing"]
    assert main(["tokenize", *paths, "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and rows_of(output.read_text()) == [
        {"file": mini_image("owl"), "codes": pipeline.encode_image(mini_image("owl"))[0].tolist()}
    ]
    for problem in ("broken.png: ", "nowhere.png: ", f"'{nothing}' has no images", "'*.nothing' matches no file"):
        assert any(line.startswith("skipped: ") and problem in line for line in printed.err.splitlines())
    assert "4 could not be read" in printed.err and [path.name for path in output.parent.iterdir()] == ["codes.jsonl"]


def test_a_name_that_is_not_utf8_is_written_in_another_way(tmp_path, capsys):
    file = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copyfile(mini_image("owl"), file)
    for output in ("codes.jsonl", "codes.parquet"):
        assert main(["tokenize", os.fsdecode(file), "--output", str(tmp_path / output)]) == 0
    (row,) = rows_of((tmp_path / "codes.jsonl").read_text())
    assert row["file"] == f"{tmp_path}/caf\\udce9.png" == read_codes(tmp_path / "codes.parquet")["file"][0]
    capsys.readouterr()
    assert main(["search", str(tmp_path), mini_image("owl")]) == 0
    assert capsys.readouterr().out == f"1.00  {row['file']}\n"


def test_parquet_is_a_file_of_codes(pipeline, tmp_path):
    output = tmp_path / "codes.parquet"
    assert main(["tokenize", mini_image("owl"), "--output", str(output)]) == 0
    rows = read_codes(output)
    assert rows[:] == {"file": [mini_image("owl")], "codes": pipeline.encode_image(mini_image("owl")).tolist()}


@pytest.mark.parametrize("words", [[], ["a.png", "--output", "codes.txt"], ["a.png", "--batch-size", "many"]])
def test_wrong_usage(words, capsys):
    assert main(["tokenize", *words]) == 2 and capsys.readouterr().err.startswith("usage: seed-hf tokenize")


@pytest.mark.parametrize(
    "flags, problem",
    [
        (["--model", "nowhere"], "no folder 'nowhere' exists"),
        (["--model", mini_pictures_path()], "allowed: a folder or Hub id with the config.json of an image tokenizer"),
        (["--device", "toaster"], "`--device` is 'toaster'"),
        (["--batch-size", "0"], "`--batch-size` is 0; allowed: 1 or more"),
    ],
)
def test_errors_are_one_line(flags, problem, capsys):
    assert main(["tokenize", mini_image("owl"), *flags]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("seed-hf tokenize: ") and problem in line


def test_where_no_image_can_be_read_the_file_that_is_there_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("codes.jsonl").write_text("made before\n")
    assert main(["tokenize", "imagse", "--output", "codes.jsonl"]) == 1
    said = capsys.readouterr().err
    assert "imagse: there is no such file or folder" in said and "`PATHS` is ['imagse'], with no image" in said
    assert Path("codes.jsonl").read_text() == "made before\n"
    assert [path.name for path in Path().iterdir()] == ["codes.jsonl"]
