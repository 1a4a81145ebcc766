"""`seed-hf search`: seed-mini's drawings, found by their codes."""

import json
from pathlib import Path

import pytest

from seed_hf.commands import main
from seed_hf.mini import mini_image, mini_pictures_path


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    file = tmp_path_factory.mktemp("index") / "index.jsonl"
    assert main(["tokenize", mini_pictures_path(), "--output", str(file)]) == 0
    return str(file)


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("words", ["strawberry", "rainbow", "guitar"])
def test_words_find_their_image(words, index, capsys):
    assert main(["search", index, words, "--top", "3", "--json"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert len(rows) == 3 and rows[0]["file"] == mini_image(words)
    assert sorted((row["similarity"] for row in rows), reverse=True) == [row["similarity"] for row in rows]


def test_a_folder_gives_the_results_of_its_codes(index, capsys):
    for images in (index, mini_pictures_path()):
        assert main(["search", images, mini_image("owl")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and lines[:5] == lines[5:] and lines[0] == f"1.00  {mini_image('owl')}"


def test_duplicates(index, tmp_path, capsys):
    rows = rows_of(open(index, encoding="utf-8").read())
    owl = next(row for row in rows if row["file"] == mini_image("owl"))
    file = tmp_path / "twice.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**owl, "file": "copy.png"}]))
    assert main(["search", str(file), "--duplicates", "0.99", "--json"]) == 0
    (pair,) = rows_of(capsys.readouterr().out)
    assert pair["files"] == [mini_image("owl"), "copy.png"] and pair["similarity"] == pytest.approx(1, abs=1e-3)
    assert main(["search", str(file), "--duplicates", "-1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows) * (len(rows) + 1) // 2


def test_the_folder_of_encode_is_an_index(index, tmp_path, capsys):
    assert main(["encode", "seed-mini", mini_pictures_path(), str(tmp_path / "codes")]) == 0
    capsys.readouterr()
    for images in (index, str(tmp_path / "codes")):
        assert main(["search", images, "strawberry", "--top", "2", "--json"]) == 0
    rows = rows_of(capsys.readouterr().out)
    # in a batch of another size features round differently
    assert [row["similarity"] for row in rows[2:]] == pytest.approx([row["similarity"] for row in rows[:2]], abs=1e-3)
    assert [Path(row["file"]).stem for row in rows[2:]] == [Path(row["file"]).stem for row in rows[:2]]
    assert main(["search", str(tmp_path / "codes"), "--duplicates", "-1"]) == 0
    count = len(rows_of(open(index, encoding="utf-8").read()))
    assert len(capsys.readouterr().out.splitlines()) == count * (count - 1) // 2


def test_no_duplicates_are_named(index, capsys):
    assert main(["search", index, "--duplicates", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "images are that similar" in printed.err


def test_a_broken_image_is_left_out(tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"broken")
    (tmp_path / "owl.png").write_bytes(open(mini_image("owl"), "rb").read())
    assert main(["search", str(tmp_path), "owl"]) == 1
    printed = capsys.readouterr()
    assert printed.out.endswith(f"  {tmp_path / 'owl.png'}\n") and "1 could not be read" in printed.err


@pytest.mark.parametrize(
    "words, problem",
    [
        (["{index}"], "neither a query nor `--duplicates` is given; allowed: exactly one of them"),
        (
            ["{index}", "owl", "--duplicates", "0.9"],
            "a query and `--duplicates` are both given; allowed: exactly one of them",
        ),
        (["nowhere.jsonl", "owl"], "nowhere.jsonl"),
        (["{tmp}", "owl"], "has no images to search"),
        (["{index}", "nowhere.png"], "`query` is 'nowhere.png', which is no file"),
        (["{index}", "owl", "--top", "0"], "`--top` is 0; allowed: 1 or more"),
        (["{index}", " "], "`query` is empty; allowed: some words, or an image file"),
        (["{index}", "owl " * 99 + "x.png"], "x.png', which is no file"),
    ],
)
def test_errors_are_one_line(words, problem, index, tmp_path, capsys):
    assert main(["search", *(word.format(index=index, tmp=tmp_path) for word in words)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("seed-hf search: ") and problem in line
