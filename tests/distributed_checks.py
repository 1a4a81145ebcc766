"""Run by test_training_utils.py in two real processes; writes what they computed as JSON."""

import json
import sys
from pathlib import Path

import torch
from tiny_training import main, make_dataset, parse_args, start_run
from torch import nn

from seed_hf.losses_seed import contrastive_loss


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
    seen = []
    run = main(["--output_dir", f"{folder}/two", "--plain"], on_batch=lambda run, b: seen.append(b["index"]))
    accelerator = run.accelerator
    results = {"num_processes": accelerator.num_processes}
    results["indices"] = [accelerator.gather(indices).tolist() for indices in seen]
    results["weights"] = {name: value.tolist() for name, value in run.unwrapped_model.state_dict().items()}
    for gather in ("full", "detached"):
        results[gather] = contrastive_gradient(gather, accelerator.process_index, accelerator.num_processes)

    # Each process learning on its own, past DistributedDataParallel, must not go unnoticed.
    run = start_run(parse_args(["--output_dir", f"{folder}/apart"]))
    try:
        run.fit(run.make_batches(make_dataset()), lambda batch: (run.unwrapped_model(batch["inputs"]).mean(), {}))
    except RuntimeError as error:
        results["apart"] = str(error)

    # With unequal numbers of targets the update must still be that of one big batch.
    run = start_run(parse_args(["--output_dir", f"{folder}/weighted", "--plain", "--max_steps", "3"]))
    run.fit(run.make_batches(make_dataset()), lambda b: (masked_loss(run.model, b), {}), count_targets=count_targets)
    results["weighted"] = {name: value.tolist() for name, value in run.unwrapped_model.state_dict().items()}
    if accelerator.is_main_process:
        Path(folder, "results.json").write_text(json.dumps(results))


def count_targets(batch):
    return (batch["index"] % 3 == 0).sum()


def masked_loss(model, batch):
    squares = (model(batch["inputs"]) - batch["target"]).pow(2)[:, 0]
    mask = batch["index"] % 3 == 0
    return (squares * mask).sum() / mask.sum().clamp(min=1)


if __name__ == "__main__":
    run_checks(sys.argv[1])
