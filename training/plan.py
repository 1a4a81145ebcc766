"""What training SEED-1 takes on a machine: memory, hours and flags that fit, from the real modules and the recipes.

    python training/plan.py                                       # the paper's machine, 8 A100, 1 H100
    python training/plan.py --machine 16xV100-32 --efficiency 0.2
    python training/plan.py --machine 8xA100-80 --measured stage1=out/stage1/metrics.jsonl

Operations and memory are counted without weights (seed_hf/trainer/costs.py), lengths and batches are read from
recipes/seed-1. What share of its peak a GPU reaches is known from `--measured`, the metrics of a run, or else from
what others have published for models like these: hours are then a middle value and a range. At the end it is checked
against the paper's own hours.
"""

import argparse
import re
from dataclasses import dataclass, replace
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.curves import read_metrics
from seed_hf.trainer.flags import HelpFormatter, read_recipe


RECIPES = Path(__file__).parent / "recipes" / "seed-1"
NUM_PAIRS = 5_000_000
GIB = 2**30
# what the driver, NCCL and the allocator take beside the tensors
OVERHEAD_BYTES = 1.2 * GIB


@dataclass(frozen=True)
class Published:
    """What somebody else's training of a model like ours has reached.

    Attributes:
        what (`str`): The model.
        gpu (`str`): The GPU.
        speed (`str`): As published, for one GPU.
        share (`float`): Share of the GPU's dense half-precision peak.
        source (`str`): Where it is published.
    """

    what: str
    gpu: str
    speed: str
    share: float
    source: str


# operations of a forward pass: open_clip's docs/model_profile.csv; three times as many to train
CLIP_G_OPERATIONS = 3 * 581.15e9
# BLIP-2's stage 1 with all three losses, as costs.py counts ours
BLIP2_OPERATIONS = 760e9
NEMO = "NeMo user guide, CLIP, performance"
FOUNDRY = "llm-foundry, scripts/train/benchmarking"
PUBLISHED = {
    ("A100", "images"): Published("CLIP g/14", "A100", "69.9 samples/s", 559 / 8 * CLIP_G_OPERATIONS / 312e12, NEMO),
    ("H100", "images"): Published("CLIP g/14", "H100", "116.9 samples/s", 935 / 8 * CLIP_G_OPERATIONS / 989e12, NEMO),
    ("A100", "text"): Published("2.65 B language model", "A100", "12127 tokens/s", 0.6371, FOUNDRY),
    ("H100", "text"): Published("2.65 B language model", "H100", "27965 tokens/s", 0.4632, FOUNDRY),
    ("A6000", "images"): Published(
        "BLIP-2, stage 1", "A6000", "36.0 images/s", 36.0 * BLIP2_OPERATIONS / 154.8e12, "BLIText, training_stage1.txt"
    ),
}


@dataclass
class GPU:
    """A GPU.

    Attributes:
        peak (`float`): Dense half-precision operations a second, from NVIDIA's data sheet.
        shares (`dict[str, tuple[float, float, float]]`): Low, middle and high share of it that training reaches, of
            `"images"` (stages 1 and 2, encoding) and of `"text"` (stage 3). High is what is published, for larger
            batches and longer rows than ours; middle and low are two thirds and one third of it.
        memory (`tuple[int, ...]`): GiB of its variants, the first by default.
        precision (`str`): `--mixed_precision`.
    """

    peak: float
    shares: dict[str, tuple[float, float, float]]
    memory: tuple[int, ...]
    precision: str


def published_shares(gpu: str) -> dict[str, tuple[float, float, float]]:
    """Thirds of what is published for a GPU, by kind of model."""
    return {
        kind: (entry.share / 3, entry.share * 2 / 3, entry.share)
        for (name, kind), entry in PUBLISHED.items()
        if name == gpu
    }


# Nothing is published for training like this on V100. BLIP-2's stage 1 reached 18 % of an A6000, and at least 12 % of
# an A100 by its own hours (arXiv 2301.12597 section 3.4); the rest of this range is an assumption.
V100_SHARES = (0.15, 0.25, 0.40)
GPUS = {
    "V100": GPU(125e12, {"images": V100_SHARES, "text": V100_SHARES}, (16, 32), "fp16"),
    "A100": GPU(312e12, published_shares("A100"), (40, 80), "bf16"),
    "H100": GPU(989e12, published_shares("H100"), (80,), "bf16"),
}
PAPER_MACHINE = "64xV100-16"
# arXiv 2307.08041: abstract (5.7 days, read as the whole), section 3.3 (44 hours for SEED-OPT)
PAPER_HOURS = {"all": 5.7 * 24, "stage 3": 44.0}
# number of steps that the released code calls an epoch (lavis/tasks/base_task.py)
EPOCH_STEPS = 5000


@dataclass
class Machine:
    """A number of GPUs of one kind."""

    count: int
    name: str
    memory: int

    @classmethod
    def parse(cls, text: str) -> "Machine":
        """Reads `8xA100` or `8xA100-80`."""
        match = re.fullmatch(r"(\d+)x([A-Z]+\d+)(?:-(\d+))?", text)
        if not match or match[2] not in GPUS or int(match[1]) < 1:
            raise ValueError(f"machine={text!r}; allowed: COUNTxGPU or COUNTxGPU-GIB, with GPU one of {list(GPUS)}.")
        memory = GPUS[match[2]].memory
        if match[3] and int(match[3]) not in memory:
            raise ValueError(f"machine={text!r}; {match[2]} has {memory} GiB.")
        return cls(int(match[1]), match[2], int(match[3] or memory[0]))

    @property
    def gpu(self) -> GPU:
        """Its kind of GPU."""
        return GPUS[self.name]

    @property
    def scaling(self) -> float:
        """Share of the time that is not spent waiting for others; an assumption."""
        return 1.0 if self.count == 1 else 0.95 if self.count <= 8 else 0.85


@dataclass
class Row:
    """One stage on one machine."""

    stage: str
    samples: int
    operations: float
    batch_size: int | None
    accumulation: int | None
    memory: float | None

    @property
    def kind(self) -> str:
        """Which published share it is compared with."""
        return "text" if self.stage.startswith("stage3") else "images"

    def hours(self, machine: Machine, efficiency: float) -> float:
        """Wall time."""
        return (
            self.samples * self.operations / (machine.count * machine.scaling * machine.gpu.peak * efficiency) / 3600
        )


def fit_batch(cost, machine: Machine, recipe: dict) -> tuple[int, int, float]:
    """The largest batch of the recipe's global batch that fits, its accumulation steps, and GiB a GPU."""
    # float32 weight, gradient and two moments; and the 16-bit copy that autocast makes
    fixed = cost.frozen_bytes + (16 + 2) * cost.trained + OVERHEAD_BYTES
    share, rest = divmod(recipe["global_batch_size"], machine.count)
    if rest:
        batch = f"the recipe's global batch of {recipe['global_batch_size']}"
        raise ValueError(f"machine={machine}: {batch} is no multiple of its {machine.count} GPUs.")
    for batch_size in sorted((size for size in range(1, share + 1) if share % size == 0), reverse=True):
        look_ahead_bytes = share * cost.look_ahead_bytes if batch_size < share else 0
        memory = (fixed + batch_size * cost.activation_bytes + look_ahead_bytes) / GIB
        if memory <= 0.95 * machine.memory:
            return batch_size, share // batch_size, memory
    raise ValueError(f"machine={machine}: not even one sample fits ({fixed / GIB:.1f} GiB before the first).")


def plan(machine: Machine, costs: dict) -> list[Row]:
    """Every stage of SEED-1, in order.

    Args:
        machine (`Machine`): Where.
        costs (`dict`): [`~seed_hf.trainer.costs.Cost`] by `"stage1"`, `"stage2"`, `"encode"` and `"stage3"`.
    """
    rows = []
    for stage, cost in (("stage1", "stage1"), ("stage2", "stage2"), ("encode", "encode"), ("stage3a", "stage3"),
                        ("stage3b", "stage3")):  # fmt: skip
        cost = costs[cost]
        if stage == "encode":
            rows.append(Row(stage, NUM_PAIRS, cost.operations, None, None, None))
            continue
        recipe = read_recipe(RECIPES / f"{stage}.yaml")
        batch_size, accumulation, memory = fit_batch(cost, machine, recipe)
        operations = cost.operations + (cost.look_ahead if accumulation > 1 else 0)
        samples = recipe["max_steps"] * recipe["global_batch_size"]
        rows.append(Row(stage, samples, operations, batch_size, accumulation, memory))
    return rows


def measured_efficiency(path: str, row: Row, machine: Machine) -> float:
    """Share of the peak that a run on this machine has reached, from the median of its images a second."""
    speeds = sorted(line["images_per_second"] for line in read_metrics(path) if "images_per_second" in line)
    if not speeds:
        raise ValueError(f"measured={path!r} has no images_per_second; allowed: the metrics.jsonl of a training run.")
    return speeds[len(speeds) // 2] * row.operations / (machine.count * machine.scaling * machine.gpu.peak)


def check_against_paper(costs: dict) -> list[str]:
    """What the paper's hours pay for by this count, beside what the recipes ask for.

    Raises:
        ValueError: If they do not pay even at the highest efficiency for the released code's stage 1, or not at the
            lowest for our recipes, which are shorter: then operations are counted wrongly.
    """
    machine = Machine.parse(PAPER_MACHINE)
    ours = {row.stage: row for row in plan(machine, costs)}
    released = {name: read_recipe(RECIPES.parent / "seed-2" / f"{name}.yaml") for name in ("stage1", "stage2")}
    steps = released["stage1"]["max_steps"]
    first = replace(ours["stage1"], samples=steps * released["stage1"]["global_batch_size"])
    epoch = replace(ours["stage2"], samples=EPOCH_STEPS * released["stage2"]["global_batch_size"])
    one_pass = replace(ours["stage3b"], samples=NUM_PAIRS)
    shares, stage_3 = machine.gpu.shares, PAPER_HOURS["stage 3"]
    tokenizer = PAPER_HOURS["all"] - stage_3
    epochs = [(tokenizer - first.hours(machine, share)) / epoch.hours(machine, share) for share in shares["images"]]
    passes = [stage_3 / one_pass.hours(machine, share) for share in shares["text"]]
    lines = []
    for budget, name, paid, stages, what in (
        (
            tokenizer,
            f"{PAPER_HOURS['all'] / 24:.1f} days less {stage_3:.0f} h",
            epochs,
            ("stage1", "stage2"),
            f"{steps} steps of stage 1, as released, and {{}} x 5000 of stage 2",
        ),
        (stage_3, f"{stage_3:.0f} h", passes, ("stage3a", "stage3b"), "{} passes of stage 3 over 5 M pairs"),
    ):
        of_kind = shares[ours[stages[0]].kind]
        hours = [sum(ours[stage].hours(machine, share) for stage in stages) for share in of_kind]
        lines.append(
            f"The paper's {name} on {PAPER_MACHINE} pay for {what.format(_range(paid))}; the recipes of "
            f"{' and '.join(stages)} take {_range(hours)} h."
        )
        if max(paid) <= 0 or max(hours) > budget:
            raise ValueError(f"{lines[-1]} These contradict each other: look at seed_hf/trainer/costs.py.")
    return lines


def format_table(machine: Machine, rows: list[Row], efficiencies: dict[str, float]) -> str:
    """Markdown; a range of hours where the efficiency is an assumption."""
    gpu = machine.gpu
    lines = [f"### {machine.count} x {machine.name} {machine.memory} GB, {gpu.precision}", ""]
    lines += ["| stage | samples | GFLOP a sample | batch_size | accumulated | GiB a GPU | hours |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    totals = [0.0, 0.0, 0.0]
    for row in rows:
        known = efficiencies.get(row.stage)
        shares = (known,) * 3 if known else gpu.shares[row.kind]
        hours = [row.hours(machine, share) for share in shares]
        totals = [total + part for total, part in zip(totals, hours, strict=True)]
        fitted = [row.batch_size, row.accumulation, None if row.memory is None else f"{row.memory:.1f}"]
        cells = ["" if cell is None else str(cell) for cell in fitted]
        lines.append(
            f"| {row.stage} | {row.samples / 1e6:.0f} M | {row.operations / 1e9:.0f} | {' | '.join(cells)} | "
            f"{_range(hours)} |"
        )
    return "\n".join([*lines, f"| all | | | | | | {_range(totals)} |"])


def format_published() -> str:
    """Markdown: the shares that the ranges come from, and where they are published."""
    lines = ["| trained | GPU | published for one | share of its peak | where |", "| --- | --- | ---: | ---: | --- |"]
    for entry in PUBLISHED.values():
        lines.append(f"| {entry.what} | {entry.gpu} | {entry.speed} | {entry.share:.0%} | {entry.source} |")
    return "\n".join(lines)


def _range(values: list[float]) -> str:
    """At the middle efficiency, and the range."""
    texts = {value: f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in values}
    ends = texts[min(values)], texts[max(values)]
    return texts[values[1]] + ("" if ends[0] == ends[1] else f" ({ends[0]} to {ends[1]})")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    default = [PAPER_MACHINE, "8xA100-40", "1xH100-80"]
    parser.add_argument(
        "--machine", nargs="+", default=default, help="Machines, such as 64xV100-16 (the GiB may be left out)."
    )
    parser.add_argument("--efficiency", type=float, help="Share of the peak, in (0, 1], instead of the stated range.")
    parser.add_argument(
        "--measured",
        nargs="+",
        default=[],
        help="STAGE=metrics.jsonl of a run on the machine, of which only one may be named.",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Count, plan, print, check."""
    args = parse_args(argv)
    machines = [Machine.parse(text) for text in args.machine]
    if args.efficiency is not None and not 0 < args.efficiency <= 1:
        raise ValueError(f"efficiency={args.efficiency}; allowed: above 0, at most 1.")
    if args.measured and len(machines) != 1:
        raise ValueError("measured belongs to one machine; name it with --machine.")
    from seed_hf.trainer.costs import count_all  # counting takes half a minute; wrong flags are refused before

    costs = count_all()
    for machine in machines:
        rows = plan(machine, costs)
        efficiencies = {row.stage: args.efficiency for row in rows} if args.efficiency else {}
        for stage, _, path in (item.partition("=") for item in args.measured):
            row = next((row for row in rows if row.stage == stage), None)
            if row is None:
                raise ValueError(f"measured names {stage!r}; allowed: {[row.stage for row in rows]}.")
            efficiencies[stage] = measured_efficiency(path, row, machine)
        print(format_table(machine, rows, efficiencies) + "\n")
    print(format_published() + "\n")
    print("\n".join(check_against_paper(costs)))


if __name__ == "__main__":
    main()
