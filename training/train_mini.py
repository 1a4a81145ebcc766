"""All stages of seed-mini in order, ending in a model that loads and a report with curves and pictures.

    python training/train_mini.py --output_dir out/mini               # `make train-mini`: a taste, on two CPU cores
    python training/train_mini.py --output_dir out/mini --share 1     # in full, which takes hours

Each stage is the script that a user would start, in a process of its own, with its recipe of recipes/mini; commands
are shown as they are started, and the time that each took when it ends. Started again, it goes on where it stopped:
`stages.json` in the output folder says which stages are done. On a GPU and on a CPU with units for it, stages run in
bfloat16.
"""

import argparse
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.curves import plot_metrics, read_metrics
from seed_hf.trainer.flags import HelpFormatter, read_recipe
from seed_hf.trainer.progress import Progress


ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "training" / "recipes" / "mini"


@dataclass
class Stage:
    """One part of the training.

    Attributes:
        recipe (`str`): Its recipe, and its name in the report.
        script (`str`): The script that trains it.
        folder (`str`): Where its output goes, within the output folder.
        flags (`str`): Paths of what it needs, with `{out}` for the output folder.
        needs (`tuple[str, ...]`): Recipes of the stages whose output it reads.
        minutes (`float`): Limit on the time of its steps when only a share of them is trained.
        taste (`str`): Flags that spare it the slow preparations then.
    """

    recipe: str
    script: str
    folder: str
    flags: str = ""
    needs: tuple[str, ...] = ()
    minutes: float = 1.0
    taste: str = ""


# a quarter of the images, each seen by the frozen parts in one view
FEW_VIEWS = "--train_split train[:3000] --cache_views 1"
FEW_CODES = "--train_split train[:3000] --augmented_views 0"
DECODER = "--vae {out}/vae --target_model {out}/stage1"
STAGES = (
    Stage("stage1", "train_qformer", "stage1", minutes=2, taste=FEW_VIEWS),
    Stage(
        "stage2", "train_codebook", "stage2", "--init_model {out}/stage1", ("stage1",), minutes=2.7, taste=FEW_VIEWS
    ),
    Stage("vae", "train_vae", "vae", minutes=1.2),
    Stage("decoder", "train_decoder", "decoder-text", DECODER, ("vae", "stage1"), minutes=2),
    Stage(
        "decoder_names",
        "train_decoder",
        "decoder-names",
        f"{DECODER} --init_unet {{out}}/decoder-text/unet --image_tokenizer {{out}}/stage2",
        ("decoder", "stage2"),  # the codes that stage 3 reads, too, are made by whichever comes first, or by both
        taste=FEW_CODES.replace("train_split", "code_split"),
    ),
    Stage(
        "decoder_codes",
        "train_decoder",
        "decoder",
        f"{DECODER} --init_unet {{out}}/decoder-names/unet --image_tokenizer {{out}}/stage2",
        ("decoder_names",),
        minutes=0.5,
        taste=FEW_CODES.replace("train_split", "code_split"),
    ),
    Stage(
        "stage3",
        "train_causal_lm",
        "stage3",
        "--image_tokenizer {out}/stage2 --image_tokenizer_id {out}/pipeline",
        ("stage2",),
        taste=FEW_CODES,
    ),
    # the same run goes on, now in both directions
    Stage(
        "stage3b",
        "train_causal_lm",
        "stage3",
        "--image_tokenizer {out}/stage2 --image_tokenizer_id {out}/pipeline",
        ("stage3",),
        minutes=1.5,
        taste=FEW_CODES,
    ),
)


def num_readers() -> int:
    """Processes that make views beside a GPU; beside a model on the CPU they would only take its cores."""
    import torch  # here, so that --help needs none

    return min(16, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0


def command_of(stage: Stage, args: argparse.Namespace) -> list[str]:
    """The command that trains a stage."""
    out = shlex.quote(str(args.output_dir))
    recipe = RECIPES / f"{stage.recipe}.yaml"
    flags = f"--recipe {shlex.quote(str(recipe))} --output_dir {out}/{stage.folder} {stage.flags.format(out=out)}"
    if stage.script in ("train_qformer", "train_codebook") and (count := num_readers()):
        flags += f" --num_workers {count}"
    if args.share < 1:
        steps = max(args.min_steps, round(args.share * read_recipe(recipe)["max_steps"]))
        flags += f" --max_steps {steps} --warmup_steps {steps // 10} --log_every {max(1, steps // 20)} --eval_every 0"
        flags += f" --checkpoint_every 0 --max_minutes {stage.minutes} {stage.taste}"
    return [sys.executable, str(ROOT / "training" / f"{stage.script}.py"), *shlex.split(flags)]


def final_commands(output_dir: Path) -> list[list[str]]:
    """Puts the folders together that ship with the package, and shows them with the demo."""
    out = shlex.quote(str(output_dir))
    assemble = f"--image_tokenizer {out}/stage2 --decoder {out}/decoder --vae {out}/vae --output {out}/pipeline"
    assemble += f" --language_model {out}/stage3 --language_output {out}/language_model"
    assemble += f" --image_tokenizer_id {out}/pipeline"
    demo = f"-m seed_hf.demo --pipeline {out}/pipeline --language-model {out}/language_model --output-dir {out}/demo"
    return [
        [sys.executable, str(ROOT / "training" / "mini" / "assemble.py"), *shlex.split(assemble)],
        [sys.executable, *shlex.split(demo)],
    ]


def write_report(out: Path, seconds: dict[str, float]) -> Path:
    """Curves, last numbers and newest pictures of every stage, as one page of markdown; returns its path."""
    lines = [f"# seed-mini, trained in {sum(seconds.values()) / 60:.1f} minutes", ""]
    lines += [f"- {name}: {value / 60:.1f} minutes" for name, value in seconds.items()]
    for folder in dict.fromkeys(stage.folder for stage in STAGES):
        lines += describe_stage(out / folder)
    sheets = sorted((out / "demo").glob("*.png"))
    lines += ["", "## The assembled model", "", *(f"![{path.stem}](demo/{path.name})" for path in sheets), ""]
    report = out / "report.md"
    report.write_text("\n".join(lines))
    return report


def describe_stage(folder: Path) -> list[str]:
    """The part of the report about one stage; draws its curves."""
    metrics = read_metrics(folder / "metrics.jsonl")
    last = {name: value for line in metrics for name, value in line.items()}
    lines = ["", f"## {folder.name}: {last['step']} steps", "", "| | last |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.4g} |" for name, value in last.items() if re.match("loss|eval_", name)]
    plot_metrics(folder / "metrics.jsonl", folder / "curves.png")
    steps = {path: int(match[1]) for path in folder.glob("*.png") if (match := re.search(r"-(\d+)$", path.stem))}
    newest = {path.stem.rsplit("-", 1)[0]: path.name for path in sorted(steps, key=steps.get)}
    pictures = {"curves": "curves.png", **newest}
    return [*lines, "", *(f"![{name}]({folder.name}/{file})" for name, file in pictures.items())]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("out/mini"), help="Folder for all stages.")
    parser.add_argument(
        "--share", type=float, default=0.06, help="Share of each recipe's steps to train; 1: all of them."
    )
    parser.add_argument("--min_steps", type=int, default=10, help="Smallest number of steps of a stage.")
    parser.add_argument(
        "--jobs", type=int, default=1, help="Number of stages at once: two on one core each take less than one on two."
    )
    args = parser.parse_args(argv)
    if not 0 < args.share <= 1:
        parser.error(f"--share is {args.share}; allowed: above 0, at most 1.")
    args.output_dir = args.output_dir.resolve()
    return args


def main(argv: list[str] | None = None) -> None:
    """Train, assemble, show, report."""
    args = parse_args(argv)
    out = args.output_dir
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress(out / "stages.json", ROOT)
    commands = {stage.recipe: command_of(stage, args) for stage in STAGES}
    progress.run_all(commands, {stage.recipe: stage.needs for stage in STAGES}, args.jobs)
    for name, command in zip(("assemble", "demo"), final_commands(out), strict=True):
        progress.run(name, command)
    print(f"wrote {write_report(out, progress.seconds)}")


if __name__ == "__main__":
    main()
