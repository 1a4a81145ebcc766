"""Every stage in one and in two real processes, killed at a random step: it ends as if nothing had happened."""

import json
import os
import random
import signal
import sys
from pathlib import Path

import processes
import pytest
import torch
from once import make_once
from safetensors.torch import load_file
from tiny import TESTS
from tiny.language import build_base_tokenizer, build_language_model
from tiny.shards import sample, write_shard, write_shards
from tiny.training_data import save_bert, write_emoji, write_image_tokenizer_config

from seed_hf.trainer.curves import read_metrics


STAGES = {"stage1": "train_qformer", "stage2": "train_codebook", "stage3": "train_causal_lm"}
NUM_STEPS = 4
# where a toy is killed in the middle of saving: half of it written; all written, but not yet under its name
SAVING = {"toy": None, "toy-half": "torch.save", "toy-whole": "os.rename"}


def stage_flags(root):
    """Four samples a micro-batch, eight a step: two processes, or two micro-batches in one."""
    build_base_tokenizer().save_pretrained(root / "lm")
    build_language_model().save_pretrained(root / "lm")
    # a codebook that is trained by gradient, as in the original: a moving average moves by micro-batch
    config = write_image_tokenizer_config(root / "config.json", codebook_ema_decay=0.0, dead_code_steps=0)
    # pictures stream from tar shards, one of them broken; captions and codes come from memory-mapped rows
    shards = write_shards(root, num_shards=3, samples_per_shard=8)
    write_shard(root / "train-0003.tar", [sample(24, jpg=b"broken"), sample(25)])
    write_shards(root, num_shards=1, samples_per_shard=4, split="validation")
    shared = ["--batch_size", 4, "--global_batch_size", 8, "--max_steps", NUM_STEPS]
    shared += ["--log_every", 1, "--checkpoint_every", 2, "--learning_rate", 1e-3, "--warmup_steps", 2]
    shared += ["--report_to", "none"]
    emoji = write_emoji(root)
    bert, first, second = save_bert(root / "bert"), root / "stage1-one", root / "stage2-one"
    own = {
        "stage1": ["--dataset", shards, "--config", config, "--text_model", bert],
        "stage2": ["--dataset", shards, "--init_model", first, "--target_model", bert, "--init_codebook_images", 8],
        "stage3": ["--dataset", emoji, "--image_tokenizer", second, "--language_model", root / "lm"],
    }
    own["vae"] = ["--dataset", emoji, "--size", 32]
    own["stage3"] += ["--lora_dropout", 0.1, "--pack_length", 64, "--num_eval_images", 4]
    return {stage: [*shared, *flags] for stage, flags in own.items()}


def make_plan(root):
    """For each stage: straight runs, killed and resumed ones, one that goes on with another number of processes; a toy
    that is killed while it saves."""
    jobs = []
    for name, call in SAVING.items():
        toy = {"script": "tiny.training", "num_processes": 1, "kill_at": None, "folder": str(root / name)}
        toy |= {"flags": ["--checkpoint_every", "4", "--output_dir", toy["folder"]], "log": str(root / f"{name}-log")}
        jobs += [{**toy, "kill_in": call}, toy] if call else [toy]
    flags_of = stage_flags(root)
    for count in (1, 2):
        flags = [str(flag) for flag in (*flags_of["vae"], "--output_dir", root / f"vae-{count}")]
        job = {"script": "train_vae", "num_processes": count, "kill_at": None, "folder": str(root / f"vae-{count}")}
        jobs.append({**job, "flags": flags, "log": f"{root}/vae-{count}-log"})
    for stage in STAGES:
        flags = flags_of[stage]

        def add(name, num_processes, kill_at=None, layer_class=None, stage=stage, flags=flags):
            job = {"script": STAGES[stage], "num_processes": num_processes, "kill_at": kill_at}
            job["layer_class"] = layer_class
            folder = root / f"{stage}-{name}"
            job["flags"] = [str(flag) for flag in (*flags, "--output_dir", folder)]
            jobs.append({**job, "folder": str(folder), "log": f"{folder}-log{len(jobs)}"})

        for name, num_processes in (("one", 1), ("two", 2)):
            add(name, num_processes)
            add(f"{name}-killed", num_processes, kill_at=random.randrange(NUM_STEPS))
            add(f"{name}-killed", num_processes)
        add("changed", 2, kill_at=random.choice([2, 3]))
        add("changed", 1)
    add("sharded", 2, layer_class="LlamaDecoderLayer")
    return jobs


def run_everything(root):
    jobs = make_plan(root)
    plan = root / "plan.json"
    plan.write_text(json.dumps(jobs))
    path = os.pathsep.join(str(part) for part in (TESTS.parent, TESTS.parent / "training", TESTS))
    command = [sys.executable, str(TESTS / "distributed_nursery.py"), str(plan)]
    done = processes.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    for job, codes in zip(jobs, json.loads((root / "ended.json").read_text()), strict=True):
        is_killed = job["kill_at"] is not None or "kill_in" in job
        ended_as_planned = codes[-1] == -signal.SIGKILL if is_killed else codes == [0] * job["num_processes"]
        assert ended_as_planned, (job, codes, Path(f"{job['log']}-0").read_text()[-3000:])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs everything; gives the folder and where the processes were killed."""
    root = make_once(tmp_path_factory, "runs", run_everything)
    jobs = json.loads((root / "plan.json").read_text())
    return root, {Path(job["folder"]).name: job["kill_at"] for job in jobs if job["kill_at"] is not None}


def losses(folder):
    return [(line["step"], line["loss"], line["grad_norm"]) for line in read_metrics(folder / "metrics.jsonl")[:-1]]


def weights(folder, step=NUM_STEPS):
    return load_file(folder / f"checkpoint-{step}" / "model.safetensors")


def assert_same_weights(got, expected, context=""):
    """Up to rounding, which AdamW enlarges: it divides gradients by their own size, so that one that is nothing but
    rounding moves its weight like any other, by up to the learning rate of 1e-3 a step. 2e-5 is a fiftieth of one."""
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            got[key], value, rtol=1e-3, atol=2e-5, msg=lambda text, key=key: f"{context}{key}: {text}"
        )


def assert_same_training(folder, straight, context="", step=NUM_STEPS, loss_tolerance=1e-5):
    """Two runs in other processes: the same steps, losses and weights, up to rounding.

    1e-5 is a hundred roundings. Another sample, dropout mask or lost moment changes a loss by more than 1e-3.
    """
    for line, expected in zip(losses(folder), losses(straight), strict=True):
        assert line == pytest.approx(expected, rel=loss_tolerance), context
    assert_same_weights(weights(folder, step), weights(straight, step), context)


@pytest.mark.parametrize("name", ["toy-half", "toy-whole"])
def test_a_kill_while_saving_leaves_the_checkpoint_before(runs, name):
    root, _ = runs
    assert "Steps 4 to 12" in (root / f"{name}-log-0").read_text()
    assert_same_training(root / name, root / "toy", step=12)


@pytest.mark.parametrize("processes", ["one", "two"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_ends_like_an_undisturbed_one(runs, stage, processes):
    root, killed = runs
    name = f"{stage}-{processes}-killed"
    straight, resumed = root / f"{stage}-{processes}", root / name
    assert [step for step, *_ in losses(straight)] == list(range(1, NUM_STEPS + 1))
    assert_same_training(resumed, straight, f"killed at step {killed[name]}: ")


@pytest.mark.parametrize("other", ["two", "changed"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_number_of_processes_makes_no_difference(runs, stage, other):
    """Two processes give what one gives with accumulation, dropout included; also when it changes on the way."""
    root, _ = runs
    assert_same_training(root / f"{stage}-{other}", root / f"{stage}-one", loss_tolerance=1e-3)


def test_the_autoencoder_learns_the_same_in_two_processes(runs):
    root, _ = runs
    assert_same_training(root / "vae-2", root / "vae-1", loss_tolerance=1e-3)


def test_weights_spread_over_processes_learn_the_same_and_are_saved_whole(runs):
    """FSDP2 in stage 3: generation in the evaluation, checkpoint, adapter."""
    root, _ = runs
    for name in ("adapter_model.safetensors", f"checkpoint-{NUM_STEPS}/model.safetensors"):
        assert_same_weights(*(load_file(root / f"stage3-{run}" / name) for run in ("sharded", "two")))
    assert losses(root / "stage3-sharded")[-1] == pytest.approx(losses(root / "stage3-two")[-1], rel=1e-3)
