"""A toy run of the training engine, as a function for tests and as a script for real processes."""

import random
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from seed_hf.sealed_files import file_digest, read_record, write_record
from seed_hf.trainer import RunArguments, TrainingRun, parse_arguments
from seed_hf.trainer.curves import read_metrics


NUM_SAMPLES = 40


def damages(path, num_flips=60):
    """Every kind of damage of a file, with what is left of it."""
    content, draw = path.read_bytes(), random.Random(0)
    yield "truncated", content[:-1]
    yield "half", content[: len(content) // 2]
    yield "empty", b""
    for place in draw.sample(range(len(content)), num_flips) + list(range(len(content) - 8, len(content))):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        yield f"byte {place}", bytes(flipped)


class ToyModel(nn.Module):
    """Has all that a checkpoint must carry: dropout, a norm, a buffer that moves, and a part that stays frozen.

    With `plain` the loss of a batch is the mean over its samples, so batches may be cut in any way.
    """

    def __init__(self, plain=False):
        super().__init__()
        self.plain = plain
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(0.0 if plain else 0.1), nn.Linear(8, 1))
        self.register_buffer("mean_feature", torch.zeros(8))

    def forward(self, inputs):
        with torch.no_grad():
            features = self.backbone(inputs).tanh()
        if self.training and not self.plain:
            self.mean_feature.lerp_(features.mean(0).float(), 0.1)
        return self.head(features - self.mean_feature)


def make_dataset(num_samples=NUM_SAMPLES):
    inputs = torch.randn(num_samples, 4, generator=torch.Generator().manual_seed(1))
    return [{"index": index, "inputs": row, "target": row.sum(0, keepdim=True)} for index, row in enumerate(inputs)]


def add_noise(sample, generator):
    return {**sample, "inputs": sample["inputs"] + 0.1 * torch.randn(4, generator=generator)}


def in_float16(accelerator, scale):
    """Torch has a scaler for CPUs, which Accelerate does not offer."""
    accelerator.state._mixed_precision, accelerator.native_amp = "fp16", True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return accelerator


def start_run(args, **settings):
    torch.manual_seed(args.seed)
    model = ToyModel(args.plain)
    settings = {"ema_decay": 0.9 if args.ema else None, **settings}
    return TrainingRun(args, model, frozen=[model.backbone], **settings)


@dataclass(frozen=True, kw_only=True)
class ToyArguments(RunArguments):
    ema: bool = False
    plain: bool = False
    seconds_per_step: float = 0.0
    batch_size: int = 4
    max_steps: int = 12
    learning_rate: float = 1e-2
    log_every: int = 1
    report_to: str = "none"


def parse_args(argv=None):
    return parse_arguments(ToyArguments, argv)


def main(argv=None, on_batch=None, evaluate=None, save_final=None):
    """Trains the toy; returns the run. `on_batch(run, batch)` is called before each loss, `save_final(run)` at the
    end."""
    args = parse_args(argv)
    run = start_run(args)

    def compute_loss(batch):
        if on_batch:
            on_batch(run, batch)
        time.sleep(args.seconds_per_step)
        loss = (run.model(batch["inputs"]) - batch["target"]).pow(2).mean()
        return loss, {"processes": run.accelerator.num_processes}

    run.fit(
        run.make_batches(make_dataset(), transform=add_noise),
        compute_loss,
        evaluate=evaluate,
        save_final=save_final and partial(save_final, run),
    )
    return run


def count_targets(batch):
    return (batch["index"] % 3 == 0).sum()


def masked_loss(model, batch):
    """Mean over the targets of a batch, a third of its samples."""
    squares = (model(batch["inputs"]) - batch["target"]).pow(2)[:, 0]
    mask = batch["index"] % 3 == 0
    return (squares * mask).sum() / mask.sum().clamp(min=1)


def train_masked(folder, *flags):
    """Weights after three updates on batches with unequal numbers of targets."""
    run = start_run(parse_args(["--output_dir", str(folder), "--plain", "--max_steps", "3", *flags]))
    batches = run.make_batches(make_dataset())
    run.fit(batches, lambda batch: (masked_loss(run.model, batch), {}), count_targets=count_targets)
    return run.unwrapped_model.state_dict()


def run_toy(folder, *flags, **settings):
    return main(["--output_dir", str(folder), *map(str, flags)], **settings)


def losses(folder):
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["loss"], line.get("grad_norm")) for line in lines]  # none where fp16 overflowed


def assert_same_run(run, other, to_the_last_bit=True):
    """Weights, optimizer and log of two finished runs are equal to the last bit.

    Both ran in this process, and a checkpoint is copied into tensors that torch has aligned: no sum changes its order.
    Where a part ran in another process, `to_the_last_bit` is false, and they are equal up to rounding.
    """
    folder, other_folder = Path(run.args.output_dir), Path(other.args.output_dir)
    if not to_the_last_bit:
        assert_close(run.unwrapped_model.state_dict(), other.unwrapped_model.state_dict())
        for line, expected in zip(losses(folder), losses(other_folder), strict=True):
            assert line == pytest.approx(expected, rel=1e-5)
        return
    assert losses(folder) == losses(other_folder)
    state, other_state = run.unwrapped_model.state_dict(), other.unwrapped_model.state_dict()
    assert all(torch.equal(state[name], other_state[name]) for name in state)
    moments, other_moments = run.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i][k], other_moments[i][k]) for i in moments for k in moments[i])


def assert_close(weights, expected):
    """Weights (tensors or lists, by name) agree up to the order of float32 sums."""
    for name, value in expected.items():
        torch.testing.assert_close(torch.as_tensor(weights[name]), torch.as_tensor(value), rtol=1e-4, atol=1e-6)


def hash_again(checkpoint):
    """Makes a checkpoint whole again whose files were changed on purpose."""
    record, _ = read_record(checkpoint / "training_state.json")
    record["sha256"] = {name: file_digest(checkpoint / name) for name in record["sha256"]}
    write_record(checkpoint / "training_state.json", record)


class KilledError(Exception):
    """Stands for the process going away in the middle of a step."""


def kill_at(step):
    def on_batch(run, batch):
        if run.step == step:
            raise KilledError

    return on_batch


if __name__ == "__main__":
    main()
