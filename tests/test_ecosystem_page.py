"""docs/ecosystem.md: its `seed-hf` commands and its Python run, top to bottom; the tests that it names exist."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import ROOT
from tiny.demo import build_seed, save_pipeline
from tiny.releases import write_toy_releases

from seed_hf.commands import main


PAGE = ROOT / "docs" / "ecosystem.md"
TOY_COMMAND = "PYTHONPATH=tests python -m tiny.releases toy"


def blocks(section: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block of a section, named by how its title begins."""
    (text,) = re.findall(rf"^## {section}.*?\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.M)
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.M)


def run_section(section: str, names: dict):
    for language, text in blocks(section):
        if "http://localhost" in text:
            continue  # test_serve.py has a server
        if language == "python":
            exec(compile(text, f"{PAGE.name}, {section}", "exec"), names)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            if line == TOY_COMMAND:
                write_toy_releases(Path("toy"))
            elif line.startswith("seed-hf "):
                assert main(shlex.split(line)[1:]) == 0, line


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A place to run in that has the pictures which the page names."""
    shutil.copytree(ROOT / "seed_hf" / "mini" / "pictures", tmp_path / "seed_hf" / "mini" / "pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_conversion(checkout, capsys):
    names = {}
    run_section("Conversion", names)
    printed = capsys.readouterr().out
    assert printed.count("wrote out/") == sum(text.count("seed-hf convert") for _, text in blocks("Conversion"))
    assert "fresh: a part that SEED adds to BLIP-2" in printed and "fresh: missing, allowed by the caller" in printed
    assert printed.count("tensor([[") == 2 and printed.count("PIL.Image.Image") == 1
    again, released = (
        torch.load(checkout / folder / "seed_tokenizer.pth", weights_only=True)["model"]
        for folder in ("out/back-again", "toy/seed-1")
    )
    assert again.keys() == released.keys() and all(torch.equal(again[name], released[name]) for name in again)


@pytest.fixture(params=["toy", pytest.param("seed-mini", marks=pytest.mark.slow)])
def seed_mini(request, tmp_path, monkeypatch):
    """In place of seed-mini a model that loads in no time; the slow tests take the real one."""
    if request.param == "toy":
        image_tokenizer = save_pipeline(tmp_path / "pipeline")
        model, processor = build_seed(image_tokenizer)
        model.attach_image_tokenizer(image_tokenizer)
        processor.tokenizer.image_tokenizer_id = str(tmp_path / "pipeline")
        monkeypatch.setattr("seed_hf.mini.mini_language_model", lambda: (model.eval(), processor))
        monkeypatch.setattr("seed_hf.mini.mini_pipeline_path", lambda: str(tmp_path / "pipeline"))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_auto_classes_and_lora(checkout, seed_mini, monkeypatch, capsys):
    from transformers.pipelines import any_to_any

    monkeypatch.setattr(any_to_any, "requires_backends", any_to_any.requires_backends)  # to be put back after the page
    names = {}
    run_section("Auto classes", names)
    printed = capsys.readouterr().out
    classes = {"SeedModel": 1, "SeedForCausalLM": 3, "SeedImageProcessor": 1, "SeedTokenizer": 1, "SeedProcessor": 1}
    assert {name: printed.count(f".{name}'>") for name in classes} == classes
    assert "'generated_text'" in printed and printed.count("PIL.Image.Image") == 2

    run_section("LoRA", names)
    doors, four_bit, *_ = capsys.readouterr().out.splitlines()
    assert max(map(float, doors.strip("[]").split(","))) < 1e-4 < float(four_bit)
    assert Image.open("owl.png").width in (16, 64)
    whole = names["SeedForCausalLM"].from_pretrained("whole")
    torch.testing.assert_close(whole(**names["inputs"]).logits, names["wanted"], atol=1e-4, rtol=1e-4)


def test_named_tests_exist():
    commands = re.findall(r"pytest ((?:tests/\S+\.py ?)+)(?:-k (\w+))?", PAGE.read_text(encoding="utf-8"))
    assert len(commands) > 20
    for paths, keyword in commands:
        for path in paths.split():
            names = re.findall(r"^    def test_\w+|^def test_\w+", (ROOT / path).read_text(), re.M)
            assert any(keyword in name for name in names), (path, keyword)
