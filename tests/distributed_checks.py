"""Run by test_training_distributed.py in two real processes; writes what they computed as JSON."""

import errno
import json
import math
import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from distributed_nursery import spread_weights
from one_update import update_stage_1
from replaced import Replaced
from tiny.training import in_float16, losses, main, make_dataset, masked_loss, parse_args, start_run, train_masked
from torch import nn
from torch.distributed.tensor import DTensor

from seed_hf.models.losses_seed import contrastive_loss
from seed_hf.trainer import checkpoint as checkpoint_module
from seed_hf.trainer import run as run_module
from seed_hf.trainer.launch import make_accelerator
from seed_hf.trainer.sharding import gather_shards


def as_lists(state):
    return {name: value.tolist() for name, value in state.items()}


def contrastive_gradient(gather, rank, world_size, batch_size=3):
    """Averaged gradient of the contrastive loss of local rows against gathered ones."""
    torch.manual_seed(0)
    towers = nn.ModuleList([nn.Linear(5, 4), nn.Linear(5, 4)])
    inputs = torch.randn(2, world_size * batch_size, 5)
    start = rank * batch_size
    images, texts = (tower(rows[start : start + batch_size]) for tower, rows in zip(towers, inputs, strict=True))
    loss = contrastive_loss(images, texts, torch.tensor(0.5), gather=gather)
    gradients = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(towers.parameters()))])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(gradients)
    return (gradients / world_size).tolist()


def run_checks(folder):
    """Everything, in one launch: starting real processes takes most of the time."""
    seen = []
    run = main(["--output_dir", f"{folder}/two", "--plain"], on_batch=lambda run, b: seen.append(b["index"]))
    accelerator = run.accelerator
    assert accelerator.num_processes == 2, "several ways of launching two processes give one"
    results = {"num_processes": accelerator.num_processes}
    results["indices"] = [accelerator.gather(indices).tolist() for indices in seen]
    results["weights"] = as_lists(run.unwrapped_model.state_dict())
    for gather in ("full", "detached"):
        results[gather] = contrastive_gradient(gather, accelerator.process_index, accelerator.num_processes)

    # Each process learning on its own, past DistributedDataParallel, must not go unnoticed.
    run = start_run(parse_args(["--output_dir", f"{folder}/apart"]))
    try:
        run.fit(run.make_batches(make_dataset()), lambda batch: (run.unwrapped_model(batch["inputs"]).mean(), {}))
    except RuntimeError as error:
        results["apart"] = str(error)

    # With unequal numbers of targets the update must still be that of one big batch.
    results["weighted"] = as_lists(train_masked(f"{folder}/weighted"))
    # Features of two micro-batches in each of two processes
    results["cached"] = as_lists(update_stage_1(f"{folder}/cached", "full", False, batch_size=2)[0])
    results["failures"] = fail_in_one_process(folder, accelerator.process_index)
    results["sharded"] = run_sharded(folder)
    results["sharded_float16"] = run_sharded_in_float16(folder)
    if accelerator.is_main_process:
        Path(folder, "results.json").write_text(json.dumps(results))


def fail_in_one_process(folder, rank):
    """What both processes say when something goes wrong in one of them, by kind of failure."""

    def poison(run, batch):
        if run.step == 3 and rank == 1:
            batch["target"][0] = math.nan

    def vanishing(batches):
        for number, batch in enumerate(batches):
            if number == 3 and rank == 1:
                raise FileNotFoundError("The shard train-0007.tar has vanished.")
            yield batch

    def train_on_vanishing_data():
        run = start_run(parse_args(["--output_dir", f"{folder}/read", "--plain"]))
        run.fit(vanishing(run.make_batches(make_dataset())), lambda batch: (masked_loss(run.model, batch), {}))

    def train_on_a_full_disk():
        calls = []

        def save_once(state, path):
            calls.append(path)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            torch.save(state, path)

        checkpoint_module.torch = Replaced(torch, save=save_once)
        try:
            main(["--output_dir", f"{folder}/disk", "--checkpoint_every", "4"])
        finally:
            checkpoint_module.torch = torch

    kinds = {
        "nan": lambda: main(["--output_dir", f"{folder}/nan", "--checkpoint_every", "2"], on_batch=poison),
        "read": train_on_vanishing_data,
        "disk": train_on_a_full_disk,
    }
    said = {}
    for kind, train in kinds.items():
        try:
            train()
        except (FloatingPointError, RuntimeError, OSError) as error:
            said[kind] = f"{type(error).__name__}: {error}"
    both = [None, None]
    torch.distributed.all_gather_object(both, said)
    return both


def keep_weights(saved, run):
    saved.update(run.unwrapped_model.named_parameters())


def run_sharded(folder):
    """The toy with its weights spread over the processes (FSDP2): once straight, once from its own checkpoint."""
    flags = ["--output_dir", f"{folder}/sharded", "--plain", "--checkpoint_every", "6", "--keep_checkpoints", "0"]
    weights = []
    for _ in range(2):
        AcceleratorState._reset_state(reset_partial_state=True)
        spread_weights("Sequential")
        saved = {}
        run = main([*flags, "--ema"], save_final=partial(keep_weights, saved))
        assert run.accelerator.is_fsdp2 and isinstance(run.parameters[0], DTensor)
        whole = gather_shards(dict(run.unwrapped_model.named_parameters()), run.accelerator.is_main_process)
        assert run.accelerator.is_main_process != any(value is None for value in whole.values())
        averages = gather_shards(run.ema.shadow_params)
        trained = [value for value in saved.values() if value.requires_grad]
        assert len(trained) == len(averages) * run.accelerator.is_main_process
        assert all(torch.equal(value, average) for value, average in zip(trained, averages, strict=False))
        weights.append(as_lists(gather_shards(run.unwrapped_model.state_dict())))
        weights[-1] |= as_lists({f"average {number}": value for number, value in enumerate(averages)})
        run.accelerator.wait_for_everyone()
        if run.accelerator.is_main_process:
            shutil.rmtree(f"{folder}/sharded/checkpoint-12")
        run.accelerator.wait_for_everyone()
    return weights


def run_sharded_in_float16(folder):
    """The same with a scaled loss and a frozen part, as LoRA has it; gives the losses."""
    AcceleratorState._reset_state(reset_partial_state=True)
    spread_weights("Sequential")
    run_module.make_accelerator = lambda args: in_float16(make_accelerator(args), 1024.0)
    try:
        run = main(["--output_dir", f"{folder}/float16", "--plain", "--max_steps", "4", "--max_grad_norm", "1"])
    finally:
        run_module.make_accelerator = make_accelerator
    assert run.accelerator.is_fsdp2 and run.accelerator.scaler.get_scale() == 1024
    return [loss for _, loss, _ in losses(Path(folder, "float16"))]


if __name__ == "__main__":
    run_checks(sys.argv[1])
