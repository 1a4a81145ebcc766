"""The training engine in two real processes: it learns what one learns, and what fails in one stops both."""

import json
import os
import shutil
import sys

import processes
import pytest
import torch
from accelerate.commands import launch
from accelerate.state import AcceleratorState
from distributed_checks import as_lists, contrastive_gradient
from one_update import assert_same_update, update_stage_1
from replaced import Replaced
from tiny import TESTS
from tiny.training import assert_close, losses, run_toy, train_masked

from seed_hf.trainer import launch as launch_module
from seed_hf.trainer.checkpoint import find_checkpoint
from seed_hf.trainer.curves import read_metrics


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the precision of the first run of a process for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def run_two_processes(folder, monkeypatch):
    """By `accelerate launch`, whose processes torch's agent would start without anything imported."""
    config = TESTS.parent / "training" / "accelerate" / "cpu_2proc.yaml"

    def run_agent(args):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
        command = [sys.executable, args.training_script, *args.training_script_args]
        ended = processes.run_ranks(command, int(args.nproc_per_node), env=environment, cwd=TESTS)
        assert not any(code for code, _ in ended), [said[said.find("Traceback") :][:3000] for _, said in ended]

    monkeypatch.setattr("torch.distributed.run.run", run_agent)
    flags = ["--config_file", str(config), "--main_process_port", "0", "distributed_checks.py", str(folder)]
    launch.launch_command(launch.launch_command_parser().parse_args(flags))
    return json.loads((folder / "results.json").read_text())


def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path, monkeypatch):
    # One test, because starting real processes takes most of its time.
    two = run_two_processes(tmp_path, monkeypatch)
    assert two["num_processes"] == 2

    indices = []
    flags = ["--plain", "--batch_size", 8]
    one = run_toy(tmp_path / "one", *flags, on_batch=lambda run, batch: indices.append(batch["index"].tolist()))
    assert two["indices"] == indices
    assert_close(two["weights"], as_lists(one.unwrapped_model.state_dict()))
    lines, expected = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    assert [line["learning_rate"] for line in lines] == [line["learning_rate"] for line in expected]
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in expected], rel=1e-4)
    assert {line["processes"] for line in lines} == {2} and len(lines) == 12

    # Also with another number of targets in each process.
    assert_close(two["weighted"], train_masked(tmp_path / "masked", "--batch_size", "8"))

    # Also where negatives are those of two micro-batches in each of two processes.
    big_batch, *_ = update_stage_1(tmp_path / "big_batch", "full", False, batch_size=8)
    assert_same_update(two["cached"], big_batch)

    whole = torch.tensor(contrastive_gradient("full", 0, 1, batch_size=6))
    torch.testing.assert_close(torch.tensor(two["full"]), whole, rtol=1e-5, atol=1e-6)
    # The published way equals one process with constant keys, which is another gradient.
    detached = torch.tensor(contrastive_gradient("detached", 0, 1, batch_size=6))
    torch.testing.assert_close(torch.tensor(two["detached"]), detached, rtol=1e-5, atol=1e-6)
    assert detached.norm() < 0.7 * whole.norm()

    assert "must call run.model" in two["apart"]
    check_failures(two["failures"], tmp_path)

    # In float16, with roundings of 1e-3
    run_toy(tmp_path / "clipped", *flags, "--max_steps", 4, "--max_grad_norm", 1)
    assert two["sharded_float16"] == pytest.approx([loss for _, loss, _ in losses(tmp_path / "clipped")], rel=1e-2)

    # Weights spread over processes learn the same, and their checkpoints are whole.
    straight, resumed = two["sharded"]
    assert_close(straight, as_lists(one.unwrapped_model.state_dict()))
    assert_close(resumed, straight)  # the moving average as well
    (tmp_path / "gathered").mkdir()
    shutil.copytree(tmp_path / "sharded" / "checkpoint-6", tmp_path / "gathered" / "checkpoint-6")
    gathered = run_toy(tmp_path / "gathered", *flags, "--ema")
    averages = {f"average {number}": value for number, value in enumerate(gathered.ema.shadow_params)}
    assert_close({**gathered.unwrapped_model.state_dict(), **averages}, straight)


def check_failures(failures, folder):
    """Both processes stopped, one of them names the cause, and the last good checkpoint is there."""
    for said in failures:
        assert said["nan"].startswith("FloatingPointError: loss is nan at step 4")
        assert "data of step 4 failed" in said["read"] and "checkpoint of step 3" in said["read"]
        assert said["disk"].startswith("OSError: Writing the checkpoint failed at step 8")
    assert "No space left" in failures[0]["disk"] and "checkpoint-4" in failures[0]["disk"]
    assert "train-0007.tar has vanished" in failures[1]["read"]
    last = {kind: find_checkpoint(folder / kind, "auto").name for kind in ("nan", "read", "disk")}
    assert last == {"nan": "checkpoint-2", "read": "checkpoint-3", "disk": "checkpoint-4"}


def test_processes_that_do_not_know_of_each_other_are_noticed(tmp_path, monkeypatch):
    accelerator = Replaced(torch.accelerator, is_available=lambda: True)
    monkeypatch.setattr(launch_module, "torch", Replaced(torch, accelerator=accelerator))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes were launched, but this one knows of 1"):
        run_toy(tmp_path)
