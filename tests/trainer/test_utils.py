"""The training engine: what a step reads, how it learns, what it logs."""

import copy
import doctest
import importlib
import json
import math
import textwrap

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from replaced import Replaced
from tiny.training import (
    ToyModel,
    add_noise,
    assert_close,
    losses,
    make_dataset,
    parse_args,
    run_toy,
    start_run,
    train_masked,
)

import seed_hf.trainer
from seed_hf.data import batches as batches_module
from seed_hf.data.batches import make_batches, sample_positions
from seed_hf.trainer import arguments as arguments_module
from seed_hf.trainer import checkpoint as checkpoint_module
from seed_hf.trainer import launch as launch_module
from seed_hf.trainer.arguments import Schedule
from seed_hf.trainer.curves import plot_metrics, read_metrics
from seed_hf.trainer.optimizer import learning_rate_at, make_optimizer, make_parameter_groups
from seed_hf.trainer.sharding import load_optimizer_state


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the precision of the first run of a process for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


# Arguments, schedule, optimizer


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--max_steps", "0"], "max_steps=0"),
        (["--batch_size", "-1"], "batch_size=-1"),
        (["--learning_rate", "nan"], "learning_rate=nan"),
        (["--warmup_steps", "-5"], "warmup_steps=-5"),
        (["--learning_rate", "1e-4", "--min_learning_rate", "1"], "min_learning_rate=1.0"),
        (["--mixed_precision", "fp16"], "mixed_precision='fp16'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, flags, named):
    with pytest.raises(ValueError, match=named):
        run_toy(tmp_path, *flags)


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    nothing = Replaced(importlib, util=Replaced(importlib.util, find_spec=lambda name: None))
    monkeypatch.setattr(launch_module, "importlib", nothing)
    with pytest.raises(ValueError, match="report_to='wandb' is not installed"):
        run_toy(tmp_path, "--report_to", "wandb")


def test_learning_rate_warms_up_and_follows_a_cosine():
    schedule = Schedule(
        max_steps=110, warmup_steps=10, learning_rate=1.0, warmup_learning_rate=0.2, min_learning_rate=0.1
    )
    assert learning_rate_at(0, schedule) == pytest.approx(0.2)
    assert learning_rate_at(5, schedule) == pytest.approx(0.6)
    assert learning_rate_at(10, schedule) == pytest.approx(1.0)
    assert learning_rate_at(60, schedule) == pytest.approx(0.55)
    assert learning_rate_at(110, schedule) == pytest.approx(0.1)
    assert learning_rate_at(35, schedule) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_parameter_groups_follow_the_recipe():
    model = ToyModel()
    model.query_tokens = torch.nn.Parameter(torch.zeros(1, 4, 8))
    model.temperature = torch.nn.Parameter(torch.tensor(0.07))
    model.backbone.requires_grad_(False)
    groups = make_parameter_groups(model, 0.05, {"head.3": 10.0})
    by_setting = {(group["weight_decay"], group["multiplier"]): set(group["names"]) for group in groups}
    assert by_setting == {
        (0.05, 1.0): {"query_tokens", "head.0.weight"},
        (0.0, 1.0): {"temperature", "head.0.bias", "head.1.weight", "head.1.bias"},
        (0.05, 10.0): {"head.3.weight"},
        (0.0, 10.0): {"head.3.bias"},
    }
    assert sum(len(group["params"]) for group in groups) == 8
    with pytest.raises(ValueError, match="tail"):
        make_parameter_groups(model, 0.05, {"tail": 2.0})
    with pytest.raises(ValueError, match="nothing to train"):
        make_parameter_groups(model.requires_grad_(False), 0.05)


def test_a_fused_optimizer_goes_on_from_one_that_was_not(tmp_path):
    """Checkpoints of earlier versions have no fused AdamW."""
    args = parse_args(["--output_dir", str(tmp_path)])
    model = ToyModel()
    plain = torch.optim.AdamW(make_parameter_groups(model, args.weight_decay), lr=args.learning_rate, fused=False)

    def step(model, optimizer):
        for parameter in model.parameters():
            parameter.grad = parameter.detach().cos()
        optimizer.step()

    step(model, plain)
    later = copy.deepcopy(model)
    fused = make_optimizer(later, args, torch.device("cpu"))
    load_optimizer_state(fused, plain.state_dict(), Accelerator(cpu=True))
    assert all(group["fused"] for group in fused.param_groups)
    step(model, plain), step(later, fused)
    assert_close(later.state_dict(), model.state_dict())


# Data


def read_epoch(num_samples, batch_size, num_processes, accumulation_steps, steps):
    return [
        sorted(
            position
            for rank in range(num_processes)
            for micro_batch in sample_positions(
                num_samples,
                batch_size,
                seed=3,
                step=step,
                num_processes=num_processes,
                process_index=rank,
                accumulation_steps=accumulation_steps,
            )
            for position in micro_batch
        )
        for step in range(steps)
    ]


def test_no_sample_is_seen_twice_in_an_epoch_and_epochs_differ():
    steps = read_epoch(num_samples=50, batch_size=4, num_processes=3, accumulation_steps=1, steps=8)
    first, second = ([position for step in part for position in step] for part in (steps[:4], steps[4:]))
    assert {epoch for epoch, _ in first} == {0} and {epoch for epoch, _ in second} == {1}
    assert len({index for _, index in first}) == len(first) == 48
    assert [index for _, index in first] != [index for _, index in second]


def test_samples_of_a_step_do_not_depend_on_how_the_global_batch_is_cut():
    whole = read_epoch(50, batch_size=12, num_processes=1, accumulation_steps=1, steps=9)
    assert read_epoch(50, batch_size=3, num_processes=2, accumulation_steps=2, steps=9) == whole
    assert read_epoch(50, batch_size=4, num_processes=3, accumulation_steps=1, steps=9) == whole


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_start_anywhere_and_do_not_depend_on_workers(num_workers):
    settings = {"batch_size": 4, "seed": 5, "accumulation_steps": 2, "transform": add_noise}
    straight = make_batches(make_dataset(), **settings)
    expected = [next(straight) for _ in range(24)]
    later = make_batches(make_dataset(), **settings, start_step=3, num_workers=num_workers)
    for batch in expected[6:]:
        resumed = next(later)
        assert torch.equal(batch["index"], resumed["index"]) and torch.equal(batch["inputs"], resumed["inputs"])


def test_augmentation_differs_between_epochs_but_not_between_runs():
    def inputs_of_first_sample():
        batches = make_batches(make_dataset(4), 4, seed=5, transform=add_noise)
        return [batch["inputs"][batch["index"] == 0] for batch in (next(batches), next(batches))]

    (first, second), (again, _) = inputs_of_first_sample(), inputs_of_first_sample()
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match=r"3 samples.*\(8 ="):
        make_batches([1, 2, 3], 4, seed=0, accumulation_steps=2)


# One step


def test_accumulation_equals_one_big_batch(tmp_path):
    big = run_toy(tmp_path / "big", "--plain", "--batch_size", 8, "--max_grad_norm", 0.1)
    small = run_toy(
        tmp_path / "small", "--plain", "--batch_size", 2, "--gradient_accumulation_steps", 4, "--max_grad_norm", 0.1
    )
    assert_close(small.unwrapped_model.state_dict(), big.unwrapped_model.state_dict())
    for values in zip(losses(tmp_path / "small"), losses(tmp_path / "big"), strict=True):
        assert values[0] == pytest.approx(values[1], rel=1e-4)
        assert values[0][2] > 0.1  # so the gradients were clipped, and after accumulation


@pytest.mark.parametrize("max_grad_norm", [0, 0.1])
def test_gradients_are_clipped_by_their_norm(tmp_path, max_grad_norm):
    # With an epsilon this large, AdamW's first update is the gradient itself.
    flags = ["--max_steps", "1", "--learning_rate", "1e6", "--adam_epsilon", "1e6", "--weight_decay", "0"]
    flags += ["--max_grad_norm", str(max_grad_norm)]
    before = []
    run = run_toy(tmp_path, *flags, on_batch=lambda run, _: before.extend(p.detach().clone() for p in run.parameters))
    change = torch.cat([(p.detach() - old).flatten() for p, old in zip(run.parameters, before, strict=True)])
    ((_, _, norm),) = losses(tmp_path)
    assert norm > 0.2 and change.norm() == pytest.approx(max_grad_norm or norm, rel=1e-3)


def test_micro_batches_with_unequal_numbers_of_targets_are_weighted(tmp_path):
    expected = train_masked(tmp_path / "big", "--batch_size", "8")
    accumulated = train_masked(tmp_path / "small", "--batch_size", "2", "--gradient_accumulation_steps", "4")
    assert_close(accumulated, expected)


def test_frozen_parts_stay_and_are_left_out_of_checkpoints(tmp_path):
    modes = []
    torch.manual_seed(42)
    expected = ToyModel().backbone.state_dict()
    run = run_toy(tmp_path, on_batch=lambda run, batch: modes.append(run.unwrapped_model.backbone.training))
    assert len(modes) == 12 and not any(modes)
    assert all(torch.equal(run.unwrapped_model.backbone.state_dict()[name], expected[name]) for name in expected)
    saved = checkpoint_module.load_file(tmp_path / "checkpoint-12" / "model.safetensors")
    assert saved.keys() == {n for n in run.unwrapped_model.state_dict() if not n.startswith("backbone")}


def test_frozen_parameters_that_change_can_be_saved_too():
    model = ToyModel()
    model.backbone.requires_grad_(False)
    names = checkpoint_module.trainable_state(model, [model.backbone], also_save=["backbone.weight"]).keys()
    assert "backbone.weight" in names and "backbone.bias" not in names


def test_frozen_parameters_that_change_must_be_named(tmp_path):
    def move_backbone(run, batch):
        with torch.no_grad():
            run.unwrapped_model.backbone.bias += 1

    with pytest.raises(ValueError, match=r"lacks \['backbone.bias'\]"):
        run_toy(tmp_path, on_batch=move_backbone)


def test_bfloat16_really_runs_on_a_cpu(tmp_path):
    dtypes = []

    def watch(run, batch):
        dtypes.append(run.unwrapped_model.head[0](torch.zeros(1, 8)).dtype)

    run = run_toy(tmp_path, "--mixed_precision", "bf16", on_batch=watch)
    assert set(dtypes) == {torch.bfloat16}
    assert {parameter.dtype for parameter in run.parameters} == {torch.float32}


def test_training_learns(tmp_path):
    run_toy(tmp_path, "--plain", "--max_steps", 150, "--batch_size", 20)
    first, *_, last = losses(tmp_path)
    assert last[1] < 0.2 * first[1]


def test_the_example_of_the_docstring_runs(tmp_path):
    code = textwrap.dedent(seed_hf.trainer.__doc__.split("```python\n")[1].split("```")[0])
    namespace = {}
    exec(code, namespace)
    namespace["main"](["--output_dir", str(tmp_path), "--report_to", "none"])
    assert [step for step, *_ in losses(tmp_path)] == [10, 20]


def test_docstring_examples_run():
    for module in (batches_module, arguments_module, launch_module):
        results = doctest.testmod(module)
        assert results.failed == 0 and results.attempted >= 3


# Logs


def test_metrics_are_means_over_the_steps_between_lines(tmp_path):
    each, third = tmp_path / "each", tmp_path / "third"
    run_toy(each)
    run_toy(third, "--log_every", 3, "--report_to", "tensorboard")
    single = [loss for _, loss, _ in losses(each)]
    for position, (step, loss, _) in enumerate(losses(third)):
        assert step == 3 * position + 3 and loss == pytest.approx(sum(single[step - 3 : step]) / 3)
    assert list((third / "logs").glob("events*"))
    line = read_metrics(third / "metrics.jsonl")[-1]
    assert line["images_per_second"] > 0 and line["eta_seconds"] == 0 and line["learning_rate"] < 1e-2
    assert line["seconds"] == pytest.approx(3 * 4 / line["images_per_second"], rel=0.05, abs=0.01)
    machine = json.loads((third / "training_machine.json").read_text())
    assert machine["num_processes"] == 1 and machine["machine"] and "torch" in machine["versions"]


def test_pictures_are_kept_and_shown(tmp_path):
    run = start_run(parse_args(["--output_dir", str(tmp_path), "--max_steps", "2", "--report_to", "tensorboard"]))

    def evaluate():
        run.metrics.write_picture(run.step, "grid", Image.new("RGB", (8, 4), "red"))
        return {}

    loss = lambda batch: (run.model(batch["inputs"]).pow(2).mean(), {"tokens": 5.0})  # noqa: E731
    run.fit(run.make_batches(make_dataset()), loss, evaluate=evaluate)
    assert Image.open(tmp_path / "grid-2.png").size == (8, 4)
    events = b"".join(path.read_bytes() for path in (tmp_path / "logs").rglob("events*"))
    assert b"grid" in events and b"PNG" in events
    line = read_metrics(tmp_path / "metrics.jsonl")[0]
    # the log has whole milliseconds, of which a fast machine takes few
    assert line["tokens"] == 5 and 5 / line["tokens_per_second"] == pytest.approx(line["seconds"], rel=0.01, abs=6e-4)


def test_evaluation_does_not_disturb_training(tmp_path):
    run_toy(tmp_path / "straight")
    run = start_run(parse_args(["--output_dir", str(tmp_path / "evaluated"), "--eval_every", "5"]))
    modes = []

    def compute_loss(batch):
        loss = (run.model(batch["inputs"]) - batch["target"]).pow(2).mean()
        return loss, {"sometimes": 7.0 if run.step % 2 else math.nan}

    def evaluate():
        modes.append((run.model.training, torch.is_grad_enabled()))
        return {"noise": torch.rand(1).item()}

    run.fit(run.make_batches(make_dataset(), transform=add_noise), compute_loss, evaluate=evaluate)
    lines = read_metrics(tmp_path / "evaluated" / "metrics.jsonl")
    assert [line["step"] for line in lines if "eval_noise" in line] == [5, 10, 12] and set(modes) == {(False, False)}
    trained = [(line["step"], line["loss"], line["grad_norm"]) for line in lines if "loss" in line]
    assert trained == losses(tmp_path / "straight")
    assert [line.get("sometimes") for line in lines if "loss" in line][:4] == [None, 7.0, None, 7.0]


def test_the_effective_batch_is_told_once(tmp_path, capsys):
    run_toy(tmp_path, "--gradient_accumulation_steps", 2, "--max_steps", 3)
    told = capsys.readouterr().err
    assert told.count("Steps 0 to 3 of 8 samples (4 x 2 accumulated x 1 processes), 0.00 M trainable") == 1


def test_metrics_can_be_plotted(tmp_path):
    run_toy(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')  # a kill in the middle of a line
    plot_metrics(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="no metrics"):
        plot_metrics(tmp_path / "empty.jsonl", tmp_path / "none.png")
