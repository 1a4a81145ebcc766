"""Codes under other conditions: the report at toy size, and what must hold of the shipped seed-mini exactly."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import ROOT
from tiny.pictures import build_image_tokenizer, build_images

from seed_hf import SeedImageProcessor, SeedImageTokenizer
from seed_hf.mini import mini_pictures_path, mini_pipeline_path


# what changes no pixel and no precision must change no code
EXACT = ["batch of 1", "batch of 7", "saved and reloaded", "NumPy arrays", "uint8 tensors", "float tensors in [0, 1]"]


@pytest.fixture
def stability(monkeypatch):
    """The script; it is not part of the package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import stability

    yield stability
    sys.modules.pop("stability", None)


@pytest.fixture
def toy(tmp_path):
    """Folder of a toy image tokenizer, and one of pictures with captions, one of which cannot be read."""
    build_image_tokenizer().save_pretrained(tmp_path / "model" / "image_tokenizer")
    SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path / "model" / "image_processor")
    data = tmp_path / "data"
    data.mkdir()
    for index, picture in enumerate(build_images(4)):
        picture.resize((40, 32)).save(data / f"{index}.png")
    (data / "3.png").write_bytes(b"no picture")
    lines = ["file_name,caption,split", *(f"{index}.png,picture {index},test" for index in range(4))]
    (data / "metadata.csv").write_text("\n".join(lines))
    return tmp_path


def test_report(stability, toy, capsys):
    page = toy / "page.md"
    page.write_text("# Title\n\n<!-- results -->\nold\n<!-- /results -->\n")
    arguments = [
        "--model",
        toy / "model",
        "--dataset",
        toy / "data",
        "--splits",
        "test",
        "--output",
        toy / "page.json",
    ]
    stability.main(list(map(str, arguments)))
    report = json.loads((toy / "page.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert rows.pop("pictures")["test"] == 3
    assert {*EXACT, "bfloat16", "float16", "eager attention", "JPEG, quality 25", "resized to 112 px before"} <= {
        *rows
    }
    assert all(0 <= row["test_whole"] <= row["test"] <= 100 for row in rows.values())
    for name in EXACT:
        assert rows[name]["test"] == 100, name
    assert report["data"] == {"test": {"pictures": 3, "unreadable": 1}}
    assert len(report["model"]["sha256"]) == 16
    table = page.read_text()
    assert "old" not in table and "| saved and reloaded | 100.0 % | 100.0 % |" in table
    assert "left out" in capsys.readouterr().err
    # one condition alone: the others stay, and the row says with what it was measured
    arguments = list(map(str, arguments))
    stability.main([*arguments, "--conditions", "batch of 7"])
    again = json.loads((toy / "page.json").read_text())
    names = {row["name"]: row for row in again["rows"]}
    assert [*names] == [row["name"] for row in report["rows"]] and page.read_text() == table
    assert names.pop("batch of 7")["versions"] == report["versions"]
    assert [*names.values()] == [row for row in report["rows"] if row["name"] != "batch of 7"]
    with pytest.raises(ValueError, match="`conditions` has 'rain'; allowed here: "):
        stability.main([*arguments, "--conditions", "rain"])
    with pytest.raises(ValueError, match="`reference` of the JSON file is"):
        stability.main([*arguments, "--conditions", "batch of 7", "--batch_size", "2"])


def test_other_codes_are_counted(stability):
    """Weights and pixels that differ must show: a comparison with itself would not."""
    processor = SeedImageProcessor(size={"height": 28, "width": 28})
    subject = stability.Subject(build_image_tokenizer(), processor, build_images(4))
    same = subject.encode(build_image_tokenizer(seed=1)) == subject.codes
    assert same.float().mean() < 0.9
    white = subject.changed(lambda picture: Image.new("RGB", picture.size, "white"))
    assert (white == subject.codes).float().mean() < 0.9
    eager = stability.with_attention(subject.model, "eager")
    implementations = {
        model.config._attn_implementation
        for model in (eager.vision_model, eager.causal_qformer.qformer, eager)
    }  # fmt: skip
    assert implementations == {"eager"} and subject.model.vision_model.config._attn_implementation == "sdpa"


def test_seed_mini(stability):
    """The shipped weights on the shipped drawings."""
    model = SeedImageTokenizer.from_pretrained(mini_pipeline_path(), subfolder="image_tokenizer", dtype=torch.float32)
    processor = SeedImageProcessor.from_pretrained(mini_pipeline_path(), subfolder="image_processor")
    pictures = [Image.open(path).convert("RGB") for path in sorted(Path(mini_pictures_path()).glob("*.png"))[:4]]
    subject = stability.Subject(model, processor, pictures)
    assert subject.codes.shape == (4, 32) and len(subject.codes.unique()) > 8
    codes_under = dict(stability.variations(subject))
    for name in EXACT:
        assert torch.equal(codes_under[name](), subject.codes), name
    for name, least in (("eager attention", 0.98), ("float16", 0.95), ("bfloat16", 0.8)):
        assert (codes_under[name]() == subject.codes).float().mean() >= least, name


def test_page_is_that_of_the_file(stability, tmp_path):
    """Running the report again without measuring would change nothing."""
    page = ROOT / "model_cards" / "seed-mini-stability.md"
    report = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    copy = tmp_path / page.name
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    assert not stability.update_file(copy, stability.format_table(report))
    assert report["command"] == "python benchmarks/stability.py"
