"""The demo on a toy repository: what it prints, the sheet, the page, and what it does with bad input."""

import importlib
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rounding import assert_same_picture
from tiny import TRAINING
from tiny.demo import CAPTIONS, NUM_QUERY_TOKENS, save_all

from seed_hf.demo import run as demo
from seed_hf.demo.flags import QUESTION
from seed_hf.demo.page import NUM_DRAWINGS
from seed_hf.demo.results import DemoResults, SeenPicture, color_codes
from seed_hf.demo.sheet import draw_sheet
from seed_hf.mini import mini_pictures_path


SEEDS = ((), (), ("--seed", 1))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    torch.manual_seed(0)
    return save_all(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def run(repository, tmp_path, capsys):
    """Runs the demo with further flags; returns what it printed and its folder."""

    def run_demo(*flags):
        folders = [f"--{name}={repository / name}" for name in ("pipeline", "language_model", "pictures")]
        assert demo.main([*folders, f"--output-dir={tmp_path / 'out'}", *map(str, flags)]) == 0
        return capsys.readouterr().out, tmp_path / "out"

    return run_demo


class Page(HTMLParser):
    """Collects what the page refers to and whether its elements are closed."""

    def __init__(self, text):
        super().__init__()
        self.references, self.open, self.images = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.references += [value for name, value in attrs if name in ("src", "href")]
        self.images += tag == "img"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_everything(run, tmp_path):
    Image.new("RGBA", (50, 20), (255, 0, 0, 128)).save(tmp_path / "mine.png")
    printed, out = run("--image", tmp_path / "mine.png", "--prompt", "a <b>bold</b> & red apple")
    rows = re.findall(r"^    ([\d ]+)$", printed, re.MULTILINE)
    assert [len(row.split()) for row in rows] == [NUM_QUERY_TOKENS] * 3
    assert "mine.png (your image)" in printed and "blue cat (held-out concept, noise)" in printed
    assert re.search(r"^  owl|^  red apple -> .*\d\.\d\d", printed, re.MULTILINE)
    assert f"asked: {QUESTION}" in printed
    assert "a <b>bold</b> & red apple -> " in printed and f"{demo.PROMPTS[0]} -> " in printed
    assert "Done in" in printed and "skipped" not in printed

    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 1200 and sheet.height > 400
        assert len(sheet.convert("RGB").getcolors(10**6)) > 100
    text = (out / "index.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.images == 2 * 3 + len(demo.PROMPTS)
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert "a &lt;b&gt;bold&lt;/b&gt; &amp; red apple" in text and "<b>bold" not in text
    assert "prefers-color-scheme: dark" in text
    assert any(caption in text for caption in CAPTIONS[2:])


def test_the_page_counts_the_drawings_of_training():
    assert pq.read_metadata(TRAINING / "data" / "emoji" / "train.parquet").num_rows == NUM_DRAWINGS


def test_same_seed_same_pictures(run):
    first, again, other = (Image.open(BytesIO(run(*flags)[1].joinpath("sheet.png").read_bytes())) for flags in SEEDS)
    assert_same_picture(again, first)
    with pytest.raises(AssertionError):
        assert_same_picture(other, first)


def test_bad_input_is_reported_and_skipped(run, tmp_path):
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "empty.png").touch()
    bad = [tmp_path / name for name in ("cut.png", "empty.png", "none.png")]
    printed, out = run(*(part for path in [*bad, whole] for part in ("--image", path)), "--prompt", "  ")
    for path in bad:
        assert re.search(rf"skipped: `--image` is .*{path.name}", printed)
    assert "skipped: `--prompt` '  '" in printed
    assert "whole.png (your image)" in printed
    assert "none.png" in (out / "index.html").read_text()


def test_goes_on_without_a_language_model(run, tmp_path):
    printed, out = run("--language_model", tmp_path / "nothing")
    assert "skipped: No captions, answers and drawings from prompts: `folder` is" in printed
    assert Page((out / "index.html").read_text()).images == 2 * 2


def test_goes_on_without_the_text_side(run, repository):
    tokenizer = repository / "pipeline" / "image_tokenizer" / "tokenizer.json"
    content = tokenizer.read_bytes()
    tokenizer.unlink()
    try:
        printed, _ = run()
    finally:
        tokenizer.write_bytes(content)
    assert "skipped: No nearest captions" in printed and "read back" not in printed and "Done in" in printed


def test_alike_codes_have_alike_colors():
    codebook = torch.randn(64, 8)
    codebook[1] = codebook[0] + 1e-3
    colors = color_codes(codebook).int()
    assert (colors[0] - colors[1]).abs().max() <= 9
    assert len(torch.unique(colors, dim=0)) == 64
    assert colors.min() >= 50 and colors.max() <= 235


def test_sheet_shows_wide_pictures_whole_and_cuts_long_texts():
    picture = SeenPicture("x" * 300, "here", Image.new("RGB", (200, 20), "red"), codes=[0] * 32)
    sheet = draw_sheet(DemoResults("?", torch.zeros(1, 3, dtype=torch.uint8), seen=[picture]))
    pixels = np.asarray(sheet)
    rows, columns = ((pixels[..., 0] > 200) & (pixels[..., 1] < 60)).nonzero()
    assert columns.max() - columns.min() > 95 and rows.max() - rows.min() < 14


def test_shipped_pictures_are_held_out_and_rebuild(tmp_path, monkeypatch):
    importlib.import_module("build_demo_pictures").main(["--output_dir", str(tmp_path)])
    shipped = Path(mini_pictures_path())
    assert {path.name for path in shipped.iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in shipped.iterdir():
        if path.suffix == ".png":
            assert_same_picture(Image.open(tmp_path / path.name), Image.open(path))
        else:
            assert path.read_text() == (tmp_path / path.name).read_text()
    entries = json.loads((shipped / "pictures.json").read_text())
    table = pq.read_table(TRAINING / "data" / "emoji" / "train.parquet", columns=["caption", "style"])
    trained = set(zip(*(table[name].to_pylist() for name in ("caption", "style")), strict=True))
    assert not {(entry["caption"], entry["style"]) for entry in entries} & trained
    trained_names = {caption for caption, _ in trained}
    assert [entry["caption"] in trained_names for entry in entries] == [
        entry["split"] == "test_drawings" for entry in entries
    ]
