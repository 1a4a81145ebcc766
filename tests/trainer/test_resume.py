"""Stopping the training engine anywhere changes nothing; checkpoints are whole, and refused where they do not fit."""

import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny import TESTS
from tiny.shards import write_shards
from tiny.training import (
    NUM_SAMPLES,
    KilledError,
    assert_same_run,
    hash_again,
    kill_at,
    losses,
    make_dataset,
    parse_args,
    run_toy,
    start_run,
)

from seed_hf.data.reading import read_image
from seed_hf.data.rows import load_rows
from seed_hf.trainer import checkpoint as checkpoint_module
from seed_hf.trainer.checkpoint import find_checkpoint, list_checkpoints


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the precision of the first run of a process for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


# Stopping and going on


def note_samples(seen):
    """Notes the samples of each step, in order."""
    return lambda run, batch: seen.setdefault(run.step, []).extend(batch["index"].tolist())


@pytest.mark.parametrize("flags", [["--ema"], ["--gradient_accumulation_steps", 2, "--log_every", 3]])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path, flags):
    seen, seen_again = {}, {}
    straight = run_toy(tmp_path / "straight", *flags, on_batch=note_samples(seen))
    for step in (5, 9):
        with pytest.raises(KilledError):
            run_toy(tmp_path / "killed", *flags, "--checkpoint_every", 4, on_batch=kill_at(step))
    resumed = run_toy(tmp_path / "killed", *flags, on_batch=note_samples(seen_again))
    assert_same_run(resumed, straight)
    assert min(seen_again) == 8 and seen_again == {step: seen[step] for step in range(8, 12)}
    if straight.ema:
        averages = zip(resumed.ema.shadow_params, straight.ema.shadow_params, strict=True)
        assert all(torch.equal(average, expected) for average, expected in averages)


def test_a_process_killed_by_the_system_goes_on(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tiny.training",
        "--output_dir",
        str(tmp_path / "killed"),
        "--checkpoint_every",
        "3",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    process = processes.Popen(
        [*command, "--seconds_per_step", "0.2"], cwd=TESTS, env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not list_checkpoints(tmp_path / "killed"):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(losses(tmp_path / "killed")) < 12
    assert_same_run(run_toy(tmp_path / "killed"), run_toy(tmp_path / "straight"), to_the_last_bit=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_stop_after_the_step_with_a_checkpoint(tmp_path, number):
    def send(run, batch):
        if run.step == 5:
            os.kill(os.getpid(), number)

    run = run_toy(tmp_path / "stopped", on_batch=send)
    assert run.step == 6 and [path.name for path in list_checkpoints(tmp_path / "stopped")] == ["checkpoint-6"]
    assert_same_run(run_toy(tmp_path / "stopped"), run_toy(tmp_path / "straight"))


@pytest.mark.parametrize("limit", [("--max_minutes", "1e-9"), ("--max_minutes", "60", "--stop_at", "1")])
def test_time_limit_stops_with_a_checkpoint_and_a_usable_model(tmp_path, limit):
    run = start_run(parse_args(["--output_dir", str(tmp_path), *limit]))
    saved = []
    finished = run.fit(
        run.make_batches(make_dataset()),
        lambda batch: (run.model(batch["inputs"]).pow(2).mean(), {}),
        save_final=lambda: saved.append(run.step),
    )
    assert not finished and saved == [1] and find_checkpoint(tmp_path, "auto").name == "checkpoint-1"


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_weights(tmp_path):
    before = {}

    def poison(run, batch):
        if run.step == 7:
            before.update({name: value.clone() for name, value in run.unwrapped_model.named_parameters()}, run=run)
            batch["target"][0] = math.nan

    with pytest.raises(FloatingPointError, match=r"loss is nan at step 8"):
        run_toy(tmp_path, "--checkpoint_every", 5, on_batch=poison)
    weights = dict(before.pop("run").unwrapped_model.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    assert find_checkpoint(tmp_path, "auto").name == "checkpoint-5"


# Checkpoints


def test_checkpoints_are_rotated_and_describe_the_run(tmp_path):
    run_toy(tmp_path, "--checkpoint_every", 2, "--keep_checkpoints", 3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in (8, 10, 12)]
    description = json.loads((tmp_path / "checkpoint-12" / "training_state.json").read_text())
    assert description["step"] == 12 and description["arguments"]["batch_size"] == 4
    assert description["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert json.loads((tmp_path / "training_arguments.json").read_text())["seed"] == 42


@contextmanager
def no_file_larger_than(size):
    """As on a disk with so little left: the system refuses to write more into any file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("file", ["model.safetensors", "training_state.pt"])
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, file):
    with pytest.raises(KilledError):
        run_toy(tmp_path / "full", "--checkpoint_every", 4, on_batch=kill_at(7))
    size = (tmp_path / "full" / "checkpoint-4" / file).stat().st_size
    with redirect_stderr(io.StringIO()), ExitStack() as stack:  # what is shown can go to a file too

        def fill(run, batch):
            if run.step == 7:
                stack.enter_context(no_file_larger_than(size - 1))

        with pytest.raises(OSError, match=r"checkpoint failed at step 8 .*is checkpoint-4"):
            run_toy(tmp_path / "full", "--checkpoint_every", 4, "--log_every", 100, on_batch=fill)
    assert [path.name for path in (tmp_path / "full").glob("*checkpoint*")] == ["checkpoint-4"]
    assert_same_run(run_toy(tmp_path / "full"), run_toy(tmp_path / "straight"))


def test_a_disk_too_full_for_metrics(tmp_path):
    def fill(run, batch):
        if run.step == 6:
            run.metrics.path = Path("/dev/full")

    with pytest.raises(OSError, match=r"metrics failed at step 7 .*No space left.* is checkpoint-4"):
        run_toy(tmp_path / "full", "--checkpoint_every", 4, on_batch=fill)
    assert_same_run(run_toy(tmp_path / "full"), run_toy(tmp_path / "straight"))


def test_an_evaluation_that_fails_costs_no_steps(tmp_path):
    flags, evaluate = ["--checkpoint_every", 0, "--eval_every", 7], lambda: {"share": 1 / 0}
    with pytest.raises(RuntimeError, match=r"step 7 failed with ZeroDiv.*checkpoint of step 7.*the same command goes"):
        run_toy(tmp_path / "failed", *flags, evaluate=evaluate)
    checkpoint = tmp_path / "failed" / "checkpoint-7"
    with pytest.raises(RuntimeError, match=r"step 12 failed.*the same command with --resume auto goes on"):
        run_toy(tmp_path / "failed", *flags, "--resume", checkpoint, evaluate=evaluate)
    assert_same_run(run_toy(tmp_path / "failed", *flags, evaluate=evaluate), run_toy(tmp_path / "straight"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_shard_that_vanishes_stops_the_run_until_it_is_back(tmp_path, num_workers):
    """Pictures stream from shards, of which one goes away on the way."""
    rows = load_rows(write_shards(tmp_path / "shards", num_shards=3, samples_per_shard=8))
    flags = ["--batch_size", "4", "--num_workers", str(num_workers), "--max_steps", "10"]
    shard, elsewhere = tmp_path / "shards" / "train-0001.tar", tmp_path / "elsewhere.tar"

    def train(folder, vanish_at=None):
        run = start_run(parse_args(["--output_dir", str(folder), *flags]))

        def compute_loss(batch):
            if run.step == vanish_at:
                shard.rename(elsewhere)
            return run.model(batch).pow(2).mean(), {}

        run.fit(run.make_batches(rows, transform=mean_colour), compute_loss)
        return run

    straight = train(tmp_path / "straight")
    with pytest.raises(RuntimeError, match=r"train-0001\.tar has vanished.*checkpoint of step \d+ in"):
        train(tmp_path / "stopped", vanish_at=1)
    elsewhere.rename(shard)
    assert 2 <= int(find_checkpoint(tmp_path / "stopped", "auto").name.partition("-")[2]) < 10
    assert_same_run(train(tmp_path / "stopped"), straight)


def mean_colour(row, generator):
    pixels = torch.as_tensor(np.asarray(read_image(row).resize((2, 2)), np.float32))
    return pixels.mean((0, 2)).repeat(2) / 255 + torch.rand(4, generator=generator) / 10


def test_resume_refuses_what_would_not_go_on(tmp_path):
    run_toy(tmp_path, "--max_steps", 2)
    with pytest.raises(ValueError, match=r"global_batch_size': 4.*global_batch_size': 8"):
        run_toy(tmp_path, "--batch_size", 8)
    with pytest.raises(ValueError, match="seed"):
        run_toy(tmp_path, "--seed", 1)
    with pytest.raises(ValueError, match=r"already holds checkpoint-2"):
        run_toy(tmp_path, "--resume", "no")
    with pytest.raises(ValueError, match="no checkpoint folder"):
        run_toy(tmp_path, "--resume", tmp_path / "elsewhere")
    run = start_run(parse_args(["--output_dir", str(tmp_path)]))
    with pytest.raises(ValueError, match="41 samples"):
        run.make_batches(make_dataset(NUM_SAMPLES + 1))


def test_resume_refuses_other_micro_batches_where_they_matter(tmp_path):
    for folder, matters in ((tmp_path / "no", False), (tmp_path / "yes", True)):
        args = parse_args(["--output_dir", str(folder), "--max_steps", "1"])
        run = start_run(args, by_micro_batch=matters)
        run.fit(iter([{"inputs": torch.ones(4, 4)}]), lambda batch, run=run: (run.model(batch["inputs"]).mean(), {}))
        args = replace(args, batch_size=2, gradient_accumulation_steps=2)  # as half of the processes would
        if matters:
            with pytest.raises(ValueError, match=r"'micro_batches': 1.*'micro_batches': 2"):
                start_run(args, by_micro_batch=True)
        else:
            assert start_run(args).step == 1


def test_another_model_is_refused(tmp_path):
    run_toy(tmp_path, "--max_steps", 2)
    weights = tmp_path / "checkpoint-2" / "model.safetensors"
    state = checkpoint_module.load_file(weights)
    state["extra"] = state.pop("head.0.weight")
    state["head.0.bias"] = torch.zeros(3)
    checkpoint_module.save_file(state, weights)
    hash_again(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match=r"missing \['head.0.weight'\], unexpected \['extra'\].*\['head.0.bias'\]"):
        run_toy(tmp_path)


def test_settings_of_the_resumed_run_count(tmp_path):
    run_toy(tmp_path, "--max_steps", 2)
    run = run_toy(tmp_path, "--max_steps", 4, "--weight_decay", 0.5)
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {0.0, 0.5}
    assert [step for step, *_ in losses(tmp_path)] == [1, 2, 3, 4]


def test_moments_find_their_parameters_in_other_groups(tmp_path):
    """Without weight decay there is one group in place of two, in another order."""
    run_toy(tmp_path, "--max_steps", 2)
    started = start_run(parse_args(["--output_dir", str(tmp_path)]))
    ungrouped = start_run(parse_args(["--output_dir", str(tmp_path), "--weight_decay", "0"]))
    assert [len(run.optimizer.param_groups) for run in (started, ungrouped)] == [2, 1]
    for parameter, other in zip(started.parameters, ungrouped.parameters, strict=True):
        moments, other_moments = started.optimizer.state[parameter], ungrouped.optimizer.state[other]
        assert all(torch.equal(moments[key], other_moments[key]) for key in moments) and moments["step"] == 2


def test_averaged_weights_are_put_back(tmp_path):
    run = run_toy(tmp_path, "--ema")
    weights = [parameter.clone() for parameter in run.parameters]
    with run.averaged_weights():
        averages = [parameter.clone() for parameter in run.parameters]
    assert all(torch.equal(average, shadow) for average, shadow in zip(averages, run.ema.shadow_params, strict=True))
    assert not torch.equal(averages[0], weights[0])
    assert all(torch.equal(weight, parameter) for weight, parameter in zip(weights, run.parameters, strict=True))


def test_the_average_follows_its_flag_on_resume(tmp_path):
    run_toy(tmp_path, "--max_steps", 2)
    args = parse_args(["--output_dir", str(tmp_path)])
    started = start_run(args, ema_decay=0.9)
    assert all(torch.equal(*pair) for pair in zip(started.ema.shadow_params, started.parameters, strict=True))
    run = run_toy(tmp_path, "--max_steps", 4, "--ema")
    resumed = start_run(args, ema_decay=0.99)
    assert resumed.ema.decay == 0.99 and resumed.ema.optimization_step == 2
    assert all(torch.equal(*pair) for pair in zip(resumed.ema.shadow_params, run.ema.shadow_params, strict=True))
