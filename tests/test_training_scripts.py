"""Every training script, in process on a handful of drawings: trains, resumes to the same weights, loads again."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_training_data import save_bert, write_emoji, write_image_tokenizer_config

from seed_hf import SeedImageTokenizer
from seed_hf.training_metrics import read_metrics


TRAINING = Path(__file__).parents[1] / "training"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(TRAINING))
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Emoji, BERT and configuration for all scripts."""
    folder = tmp_path_factory.mktemp("data")
    return {
        "dataset": write_emoji(folder),
        "bert": save_bert(folder / "bert"),
        "config": write_image_tokenizer_config(folder / "config.json"),
    }


def run_script(name, output_dir, *flags):
    shared = ["--output_dir", output_dir, "--batch_size", 4, "--log_every", 1, "--warmup_steps", 1]
    shared += ["--learning_rate", 1e-3, "--min_learning_rate", 0, "--warmup_learning_rate", 0, "--report_to", "none"]
    return importlib.import_module(name).main([str(flag) for flag in (*shared, *flags)])


def losses(folder):
    lines = read_metrics(Path(folder) / "metrics.jsonl")
    return [(line["step"], line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def assert_resumes(name, folder, *flags):
    """Four steps at once, and two steps, a kill and two steps: the same losses and final weights, to the last bit."""
    flags = (*flags, "--max_steps", 4, "--checkpoint_every", 2)
    straight, resumed = folder / "straight", folder / "resumed"
    run_script(name, straight, *flags)
    AcceleratorState._reset_state(reset_partial_state=True)
    shutil.copytree(straight / "checkpoint-2", resumed / "checkpoint-2")
    run_script(name, resumed, *flags)
    assert [step for step, *_ in losses(straight)] == [1, 2, 3, 4]
    assert losses(resumed) == losses(straight)[2:]
    assert all(torch.tensor(loss).isfinite() for _, loss, _ in losses(straight))
    for path in straight.rglob("*.safetensors"):
        tensors, others = load_file(path), load_file(resumed / path.relative_to(straight))
        assert tensors.keys() == others.keys()
        different = [key for key in tensors if not torch.equal(tensors[key], others[key])]
        assert not different, (path.name, different)
    return straight


def qformer_flags(data):
    return "--dataset", data["dataset"], "--config", data["config"], "--text_model", data["bert"]


@pytest.mark.parametrize("vision", ["frozen", "trained"])
def test_train_qformer(tmp_path, data, vision):
    flags = ("--train_vision", "--vision_lr_multiplier", 0.5) if vision == "trained" else ()
    output = assert_resumes("train_qformer", tmp_path, *qformer_flags(data), *flags)
    model = SeedImageTokenizer.from_pretrained(output)
    assert model.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_train_qformer_in_two_processes(tmp_path, data):
    config = TRAINING / "accelerate" / "cpu_2proc.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", 0]
    script = [TRAINING / "train_qformer.py", "--output_dir", tmp_path, *qformer_flags(data)]
    flags = ["--max_steps", 2, "--log_every", 1, "--batch_size", 2, "--report_to", "none"]
    environment = {**os.environ, "PYTHONPATH": str(TRAINING.parent)}
    command = [str(part) for part in (*launch, *script, *flags)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "of 4 samples (2 x 1 accumulated x 2 processes)" in done.stderr
    assert [step for step, *_ in losses(tmp_path)] == [1, 2]
    SeedImageTokenizer.from_pretrained(tmp_path)
