"""The long jobs that must survive a kill, at toy size: what they run on, how they run, and what their end must be."""

import importlib
import json
import sys
from pathlib import Path

import pandas as pd
import torch
from rounding import assert_equal_up_to_rounding
from safetensors.torch import load_file
from tiny import TRAINING
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.shards import sample, write_shard, write_shards
from tiny.training import run_toy

from seed_hf import SeedImageProcessor
from seed_hf.data.codes import read_codes
from seed_hf.data.encode import encode_rows
from seed_hf.data.rows import load_rows
from seed_hf.trainer.checkpoint import list_checkpoints
from seed_hf.trainer.curves import read_metrics


class Stage:
    """A job; its methods run in forks, so everything it needs is in its folder."""

    name = ""
    weight = 1.0

    def __init__(self, folder: Path):
        self.folder, self.straight = folder, folder / "straight"

    def make(self) -> None:
        """Makes what the job needs."""

    def run(self, output: Path) -> None:
        """Starts the job, or goes on with it."""
        raise NotImplementedError

    def compare(self, output: Path) -> None:
        """Compares a finished job with the one that nobody killed."""
        raise NotImplementedError

    def go_on(self, output: Path) -> None:
        """Runs to the end and compares."""
        self.run(output)
        self.compare(output)
        left = list(output.rglob(".incomplete*"))
        assert not left, f"left behind: {left}"


class Encode(Stage):
    """`seed-hf encode`: the same codes."""

    name = "encode"
    weight = 3.0

    def make(self):
        tiny_image_tokenizer().save_pretrained(self.folder / "image_tokenizer")
        SeedImageProcessor(size={"height": 28, "width": 28}).save_pretrained(self.folder / "image_tokenizer")
        write_shards(self.folder / "data", num_shards=2, samples_per_shard=10)
        write_shard(self.folder / "data" / "train-0002.tar", [sample(20, jpg=b"no image"), sample(21)])

    def run(self, output):
        rows = load_rows(str(self.folder / "data" / "train-*.tar"))
        encode_rows(rows, self.folder / "image_tokenizer", output, rows_per_file=3, batch_size=2)

    def compare(self, output):
        assert read_codes(output)[:] == read_codes(self.straight)[:]
        skipped = [
            sorted((path.name, path.read_text()) for path in (folder / "skipped").iterdir())
            for folder in (output, self.straight)
        ]
        assert skipped[0] == skipped[1]


class PrepareData(Stage):
    """`training/prepare_data.py`: the same bytes in every shard, and the same lists."""

    name = "prepare_data"
    weight = 3.0

    def make(self):
        broken = [sample(20, jpg=b"no image"), sample(21, jpg=None), sample(22, txt=""), sample(3)]
        write_shards(self.folder / "data", num_shards=2, samples_per_shard=8)
        write_shard(self.folder / "data" / "train-0002.tar", broken)

    def run(self, output):
        sys.path.insert(0, str(TRAINING))
        script = importlib.import_module("prepare_data")
        script.ROWS_PER_CHECK = 5
        flags = ["--dataset", str(self.folder / "data"), "--output_dir", str(output), "--samples_per_shard", "4"]
        script.main([*flags, "--max_unreadable_share", "0.5"])

    def compare(self, output):
        summaries = [json.loads((path / "prepared-train.json").read_text()) for path in (output, self.straight)]
        for summary in summaries:
            del summary["settings"]["output_dir"]
        assert summaries[0] == summaries[1] and summaries[0]["kept"] == 16
        for name in ("kept-train.parquet", "dropped-train.parquet"):
            pd.testing.assert_frame_equal(pd.read_parquet(output / name), pd.read_parquet(self.straight / name))


def _tensors(value, name: str = ""):
    """Tensors in a nest of dictionaries and lists, by their path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield from _tensors(inner, f"{name}/{key}")
    if isinstance(value, torch.Tensor):
        yield name, value


def assert_same_end(output: Path, straight: Path) -> None:
    """Losses of all steps, weights and states of the optimizer agree.

    The part after a kill ran in another process: they are equal up to rounding.
    """
    log, expected_log = _losses(output), _losses(straight)
    for numbers, expected in zip(zip(*log, strict=True), zip(*expected_log, strict=True), strict=True):
        assert_equal_up_to_rounding(torch.tensor(numbers), torch.tensor(expected), "log")
    newest = list_checkpoints(straight)[-1].name
    files = [path.relative_to(straight) for path in straight.rglob("*.safetensors")]
    files = [file for file in files if file.parts[0] == newest or not file.parts[0].startswith("checkpoint-")]
    for file in [*files, Path(newest, "training_state.pt")]:
        tensors, expected = _read_tensors(output / file), _read_tensors(straight / file)
        assert tensors.keys() == expected.keys(), file
        for name in expected:
            assert_equal_up_to_rounding(tensors[name], expected[name], f"{file}: {name}")


def _losses(folder: Path) -> list[tuple]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    return dict(_tensors(torch.load(path, weights_only=True))) if path.suffix == ".pt" else load_file(path)


class TrainToy(Stage):
    """The training engine alone: also the same samples in every step."""

    name = "train"
    weight = 3.0

    def run(self, output):
        seen = {}
        flags = ("--ema", "--checkpoint_every", 2, "--keep_checkpoints", 2)
        run_toy(output, *flags, on_batch=lambda run, batch: seen.setdefault(run.step, batch["index"].tolist()))
        (output / "seen.json").write_text(json.dumps(seen))

    def compare(self, output):
        seen, expected = (json.loads((folder / "seen.json").read_text()) for folder in (output, self.straight))
        assert len(expected) == 12 and seen.items() <= expected.items()
        assert_same_end(output, self.straight)


STAGES = (Encode, PrepareData, TrainToy)
