"""The cards of seed-mini: those in the repository are what `make cards` makes of the weights that ship."""

import importlib
import json
import re
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import ROOT
from tiny.demo import save_all
from tiny.training_data import write_emoji

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedImageTokenizer, SeedPipeline, SeedProcessor
from seed_hf.data.codes import read_codes
from seed_hf.data.rows import load_rows
from seed_hf.evaluation import EvaluationReport, caption_metrics
from seed_hf.hub.fetch import emoji_folder, find_image_tokenizer
from seed_hf.hub.files import find_repository_files
from seed_hf.mini import mini_pipeline_path
from seed_hf.provenance import rows_digest, weights_digest


KEPT = ROOT / "model_cards" / "seed-mini"
# its decoder draws from one generation embedding, the feature of the caption
LIKE_MINI = {"num_generation_tokens": 1, "projection_dim": 32}
COMMITTED = sorted(path.stem for path in KEPT.glob("seed-mini*.md"))
NAMES = ["seed-mini-image-tokenizer", "seed-mini", "seed-mini-language-model", "seed-mini-codes"]


@pytest.fixture(scope="module")
def cards():
    return importlib.import_module("make_cards")


def record_commands(cards, patch):
    """The commands that are run, which run all the same."""
    seen, run = [], cards.run

    def record(*command):
        seen.append([str(word) for word in command])
        run(*command)

    patch.setattr(cards, "run", record)
    return seen


@pytest.fixture
def commands(cards, monkeypatch):
    return record_commands(cards, monkeypatch)


def halve(mini: Path) -> None:
    """Weights ship in half precision."""
    SeedPipeline.from_pretrained(mini / "pipeline").to(torch.float16).save_pretrained(mini / "pipeline")
    folder = mini / "language_model"
    SeedForCausalLM.from_pretrained(folder, dtype=torch.float16).save_pretrained(folder)


def save_toy(cards, root):
    """A toy of seed-mini, and a few of its drawings."""
    mini, emoji, kept = root / "mini", root / "emoji", root / "kept"
    for folder in (mini, emoji, kept):
        folder.mkdir()
    save_all(mini, **LIKE_MINI)
    halve(mini)
    write_emoji(emoji, num_train=6, num_validation=5)
    for split in cards.TEST_SPLITS:
        rows = pq.read_table(emoji / "validation.parquet").to_pylist()
        table = pa.Table.from_pylist([{**row, "split": split} for row in rows])
        pq.write_table(table, emoji / f"{split}.parquet")
    shutil.copyfile(ROOT / "training/data/emoji/ATTRIBUTION.md", emoji / "ATTRIBUTION.md")
    (kept / "notes.md").write_text("## A toy\n")


def put_in_place(cards, root, patch):
    """The toy in the place of seed-mini; the command's flags for it."""
    patch.setattr("seed_hf.hub.fetch.MINI", root / "mini")
    patch.setattr("seed_hf.hub.fetch.EMOJI", root / "emoji")
    patch.setattr(caption_metrics, "has_java", lambda: False)
    return ["--output_dir", str(root / "out"), "--kept", str(root / "kept")]


@pytest.fixture(scope="module")
def made(cards, tmp_path_factory):
    """The folder in which the command has made everything once, and the commands that it ran."""
    root = tmp_path_factory.mktemp("made")
    save_toy(cards, root)
    with pytest.MonkeyPatch.context() as patch:
        flags, commands = put_in_place(cards, root, patch), record_commands(cards, patch)
        cards.main(flags)
    return root, commands


@pytest.fixture
def toy(cards, made, tmp_path, monkeypatch):
    """A copy of what is made, in the place of seed-mini; the command's flags for it."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return put_in_place(cards, tmp_path, monkeypatch)


def test_command(cards, made, toy, commands, tmp_path):
    kept = tmp_path / "kept"
    evaluations = [command for command in made[1] if command[0] == "eval"]
    assert [command[1] for command in evaluations] == [
        task for task in ("retrieval", "reconstruction", "caption", "vqa") for _ in cards.TEST_SPLITS
    ]
    texts = {name: (kept / f"{name}.md").read_text() for name in NAMES}
    for name, tasks in (
        ("seed-mini", ("retrieval", "reconstruction")),
        ("seed-mini-language-model", ("caption", "vqa")),
    ):
        for task in tasks:
            scores = EvaluationReport.load(kept / "evaluation" / f"{task}-emoji-test_concepts.json").scores
            assert scores and all(f"| {metric} | {score:.2f} |" in texts[name] for metric, score in scores.items())
    report = json.loads((kept / cards.REPORT).read_text())
    bits = f"| {report['bits_per_image']:.0f} of {report['most_bits_per_image']:.0f} |"
    told = f"| the same, by the language model given all before | {report['language_model']['bits_per_image']:.0f} |"
    for name in ("seed-mini-image-tokenizer", "seed-mini"):
        assert "| 5 images of emoji-test_drawings | |" in texts[name] and bits in texts[name] and told in texts[name]
    assert "## Codes" not in texts["seed-mini-language-model"]
    assert "| test_concepts | 5 | 0 | emoji |" in texts["seed-mini-codes"] and "## A toy" in texts["seed-mini-codes"]
    for name in NAMES:
        files = find_repository_files(tmp_path / "out" / name)
        assert name == "seed-mini-codes" or "modeling_seed_image_tokenizer.py" in files
        assert (tmp_path / "out" / name / "README.md").read_text() == texts[name] and str(made[0]) not in texts[name]
    # again: nothing is measured anew
    cards.main([*toy, "--repositories", *NAMES[:3]])
    assert [command[0] for command in commands] == ["card"] * 3
    assert [(kept / f"{name}.md").read_text() for name in NAMES[:3]] == [texts[name] for name in NAMES[:3]]
    # but what is of other weights is
    torch.manual_seed(1)
    shutil.rmtree(tmp_path / "mini")
    (tmp_path / "mini").mkdir()
    save_all(tmp_path / "mini", **LIKE_MINI)
    halve(tmp_path / "mini")
    commands.clear()
    cards.main([*toy, "--repositories", NAMES[0]])
    assert [command[0] for command in commands] == ["eval", "eval", "report", "card"]


@pytest.mark.usefixtures("toy")
def test_all_four_go_to_the_hub_and_load_from_there(cards, hub, tmp_path, monkeypatch):
    for name in NAMES:
        cards.run("push", tmp_path / "out" / name, f"owner/{name}")
        kind = "dataset" if name == "seed-mini-codes" else "model"
        card = hub.files(f"owner/{name}", repo_type=kind)["README.md"]
        assert card.decode() == (tmp_path / "kept" / f"{name}.md").read_text()
    picture = Image.new("RGB", (40, 40), "red")
    inputs = SeedImageProcessor.from_pretrained(f"owner/{NAMES[0]}")(picture, return_tensors="pt")
    codes = SeedImageTokenizer.from_pretrained(f"owner/{NAMES[0]}").encode(**inputs)
    pipeline = SeedPipeline.from_pretrained(f"owner/{NAMES[1]}")
    assert torch.equal(pipeline.encode_image(picture), codes)
    assert pipeline(codes=codes, num_inference_steps=1).images[0].size == (16, 16)
    model = SeedForCausalLM.from_pretrained(f"owner/{NAMES[2]}")
    prompt = SeedProcessor.from_pretrained(f"owner/{NAMES[2]}")(text="a <image>", codes=codes, return_tensors="pt")
    assert model(**prompt).logits.shape[:2] == prompt["input_ids"].shape
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    assert len(read_codes(f"owner/{NAMES[3]}", "test_concepts")) == 5


@pytest.mark.parametrize("name", [name for name in COMMITTED if name != NAMES[3]])
def test_committed_card_is_what_the_command_makes(name, cards, commands, tmp_path):
    """From the weights, the logs and the evaluations in the repository, which are of these weights."""
    kept = Path(shutil.copytree(KEPT, tmp_path / "kept"))
    (kept / f"{name}.md").unlink()
    cards.main(["--output_dir", str(tmp_path / "out"), "--kept", str(kept), "--repositories", name])
    assert [command[0] for command in commands] == ["card"], "an evaluation is of other weights: run `make cards`"
    assert (kept / f"{name}.md").read_text() == (KEPT / f"{name}.md").read_text()


@pytest.mark.parametrize("name", [name for name in COMMITTED if name == NAMES[3]])
def test_card_of_the_codes_is_of_these_weights_and_drawings(name, cards):
    """Encoding takes minutes, so here what decides the codes is compared, not the codes."""
    text = (KEPT / f"{name}.md").read_text()
    assert weights_digest(*find_image_tokenizer(mini_pipeline_path())) in text
    for split in ("train", "validation", *cards.TEST_SPLITS):
        rows = load_rows(f"{emoji_folder()}/*.parquet", split)
        assert f"| {split} | {len(rows):,} | 0 | emoji | `{rows_digest(rows)}` |" in text


@pytest.mark.parametrize("path", sorted(KEPT.glob("evaluation/retrieval-*.json")), ids=lambda path: path.stem)
def test_two_measurements_agree(path):
    """`seed-hf eval retrieval`, from which the cards are, and evaluate_mini.py, from which the README is."""
    rows = json.loads((ROOT / "model_cards" / "seed-mini-results.json").read_text())["rows"]
    table, report = {row["name"]: row for row in rows}, EvaluationReport.load(path)
    for way, words in (("i2t", "image to text"), ("t2i", "text to image")):
        for source in ("causal_embeddings", "codes"):
            name = f"R@1, {words}, {source.replace('_', ' ')}"
            wanted = table[name][report.data["split"]]
            assert report.scores[f"{source}_{way}_r1"] == pytest.approx(wanted, abs=1), name


@pytest.mark.parametrize("name", COMMITTED)
def test_links_lead_somewhere(name):
    path = KEPT / f"{name}.md"
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    local = [link for link in links if not link.startswith(("http://", "https://", "#"))]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_logs_are_kept_without_the_places_of_the_machine(cards, tmp_path):
    runs = []
    for name in ("stage1", "vae"):
        runs.append(tmp_path / "somewhere" / name)
        runs[-1].mkdir(parents=True)
        arguments = {"output_dir": str(runs[-1]), "seed": 1, "recipe": "training/recipes/mini/vae.yaml"}
        arguments |= {"init_model": f"{tmp_path}/stage0", "dataset": "/srv/me/seed/training/data/emoji/*.parquet"}
        (runs[-1] / "training_arguments.json").write_text(json.dumps(arguments))
        (runs[-1] / "metrics.jsonl").write_text('{"step": 1}\n')
        (runs[-1] / "model.safetensors").write_bytes(b"weights")
    kept = tmp_path / "kept"
    (kept / "training" / "00-old").mkdir(parents=True)
    cards.keep_logs(runs, kept)
    files = sorted(path.relative_to(kept / "training").as_posix() for path in kept.rglob("*") if path.is_file())
    assert files == [
        f"{run}/{name}" for run in ("00-stage1", "01-vae") for name in ("metrics.jsonl", cards.LOG_FILES[0])
    ]
    arguments = json.loads((kept / "training" / "00-stage1" / cards.LOG_FILES[0]).read_text())
    assert arguments["output_dir"] == "./out/stage1" and arguments["init_model"] == "./out/stage0"
    assert arguments["dataset"] == "training/data/emoji/*.parquet" and arguments["seed"] == 1
    with pytest.raises(ValueError, match="`--runs` has .*stage0"):
        cards.keep_logs([tmp_path / "stage0"], kept)
    cards.keep_logs([], kept)
    assert (kept / "training" / "01-vae").is_dir()
