"""`make tables` at a handful of steps on toy models: every script runs, every table is filled."""

import importlib
import subprocess
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from replaced import Replaced
from tiny.demo import build_seed, save_pipeline
from tiny.language import build_base_tokenizer, build_language_model
from tiny.training_data import save_bert, write_emoji, write_image_tokenizer_config

from seed_hf.evaluation import caption_metrics


# where a toy differs from seed-mini's recipes; the last of two equal flags counts
TOY = {
    "train_qformer": ["--num_frequent_words", 0, "--cache_views", 0],
    "train_codebook": ["--init_codebook_images", 16, "--cache_views", 0],
    "train_causal_lm": ["--num_eval_images", 2],
}


@pytest.fixture
def tables(monkeypatch):
    module = importlib.import_module("make_tables")

    def run_here(command, check, env):
        name = Path(command[1]).stem
        toy = ["--warmup_steps", 1, "--mixed_precision", "no", *TOY[name]]
        importlib.import_module(name).main([*command[2:], *map(str, toy)])
        AcceleratorState._reset_state(reset_partial_state=True)

    # in this process: starting five would take longer than all they do
    monkeypatch.setattr(module, "subprocess", Replaced(subprocess, run=run_here))
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)
    return module


def save_models(folder):
    image_tokenizer = save_pipeline(folder / "pipeline")
    model, processor = build_seed(image_tokenizer)
    model.attach_image_tokenizer(image_tokenizer)
    model.save_pretrained(folder / "seed")
    processor.save_pretrained(folder / "seed")
    build_base_tokenizer().save_pretrained(folder / "lm")
    build_language_model().save_pretrained(folder / "lm")


def test_tables(tables, tmp_path, monkeypatch):
    save_models(tmp_path)
    flags = {
        "output_dir": tmp_path / "out",
        "dataset": write_emoji(tmp_path),
        "test_split": "validation",
        "limit": 6,
        "batch_size": 4,
        "stage1_steps": 2,
        "stage2_steps": 2,
        "language_steps": 2,
        "num_parallel": 1,
        "config": write_image_tokenizer_config(tmp_path / "config.json"),
        "text_model": save_bert(tmp_path / "bert"),
        "target_model": tmp_path / "bert",
        "model": tmp_path / "pipeline",
        "language_model": tmp_path / "seed",
        "base_language_model": tmp_path / "lm",
        "language_model_config": "",
        "report": tmp_path / "tables.md",
        "readme": tmp_path / "README.md",
    }
    (tmp_path / "README.md").write_text("before\n<!-- tables -->\nold\n<!-- /tables -->\nafter\n")
    argv = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    tables.main(argv)
    text = (tmp_path / "tables.md").read_text()
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| ")]
    for name in ("bidirectional Q-Former (baseline)", "causal embeddings", "codes", "SEED codes", "low-level codes"):
        assert rows.count(name) == 1, name
    assert (
        "CIDEr is" in text
        and "- Left out: METEOR (needs Java" in text
        and "gree" in text
        and (tmp_path / "tables.png").stat().st_size > 1000
    )
    page = (tmp_path / "README.md").read_text()
    assert (
        "![The tables](tables.png)" in page and "CIDEr is" in page and "old" not in page and page.endswith("after\n")
    )
    assert not (tmp_path / "out" / "bidirectional.json").read_text() == (tmp_path / "out" / "causal.json").read_text()
    # what is finished is neither trained nor measured again
    monkeypatch.setattr(tables, "subprocess", Replaced(subprocess, run=lambda *_, **__: pytest.fail("trained again")))
    monkeypatch.setattr(tables, "evaluate_retrieval", lambda *_, **__: pytest.fail("measured again"))
    tables.main(argv)
    assert (tmp_path / "tables.md").read_text() == text


def test_kmeans_ends_where_centres_are_means(tables):
    groups = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = (groups[:, None] + 0.1 * torch.randn(3, 50, 2)).flatten(0, 1)
    centres = tables.kmeans(vectors, 6)
    nearest = torch.cdist(vectors, centres).argmin(1)
    assert len(nearest.unique()) > 1
    for number in nearest.unique():
        torch.testing.assert_close(centres[number], vectors[nearest == number].mean(0), atol=1e-3, rtol=0)


def test_dash_where_nothing_was_measured(tables):
    assert tables.format_table("t", ["a", "b"], {"row": [1.25, None]}).splitlines()[-1] == "| row | 1.2 | – |"
