"""Everything that is said about seed-mini, made anew from its weights, in order: numbers, tables, cards and pictures.

    python training/mini_results.py --trained out/mini                  # after train_mini.py: ships its weights first
    python training/mini_results.py --jobs 2                            # of the weights that ship, two at once
    python training/mini_results.py --limit 4 --steps numbers prefixes  # a trial, which writes to the same files

Each step is a command of its own, shown as it is started. Started again, it goes on where it stopped: `results.json`
in the output folder says which steps are done, and is put aside when there are newer weights. Pictures of pages need
a Chromium.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from PIL import Image

from seed_hf.trainer.flags import HelpFormatter
from seed_hf.trainer.progress import Progress


ROOT = Path(__file__).parents[1]
SHEET = ROOT / "model_cards" / "assets" / "seed-mini-sheet.png"
RUNS = ("stage1", "stage2", "vae", "decoder-text", "decoder-names", "decoder", "stage3")


@dataclass
class Step:
    """One part of the results.

    Attributes:
        name (`str`): Its name in `--steps`.
        command (`str`): What is run, with `{out}` for the output folder and `{trained}` for that of the training.
        after_training (`str`): Further flags where there is a training.
        trial (`str`): Flags that make it short, with `{limit}` for the number of images.
        needs_training (`bool`): Leave it out where there is none.
        needs (`tuple[str, ...]`): Names of the steps whose output it reads.
    """

    name: str
    command: str
    after_training: str = ""
    trial: str = ""
    needs_training: bool = False
    needs: tuple[str, ...] = ("weights",)


STEPS = (
    Step(
        "weights",
        "training/mini/assemble.py --image_tokenizer {trained}/stage2 --decoder {trained}/decoder --vae {trained}/vae "
        "--language_model {trained}/stage3",
        needs_training=True,
        needs=(),
    ),
    Step("numbers", "training/mini/evaluate_mini.py", trial="--limit {limit} --gallery_styles"),
    Step("number_tables", "training/mini/results_table.py", needs=("numbers",)),
    Step(
        "codebooks",
        "training/mini/compare_codebooks.py --init_model {trained}/stage1 --output_dir {out}/codebooks --max_steps 60",
        trial="--max_steps 2",
        needs_training=True,
        needs=(),
    ),
    Step("stability", "benchmarks/stability.py", trial="--limit {limit}"),
    Step("prefixes", "benchmarks/prefixes.py", trial="--limit {limit}"),
    Step("tails", "benchmarks/edits.py", trial="--limit {limit}"),
    Step("schedulers", "benchmarks/schedulers.py", trial="--limit {limit}"),
    Step(
        "tables",
        "training/mini/make_tables.py --output_dir {out}/tables --readme docs/numbers.md",
        trial="--limit {limit} --num_drawn {limit} --stage1_steps 2 --stage2_steps 2 --language_steps 2 "
        "--num_pilot 256",
    ),
    Step(
        "curves", "training/mini/plot_curves.py {trained} --output training/curves.png", needs_training=True, needs=()
    ),
    Step(
        "cards",
        "training/mini/make_cards.py --output_dir {out}/cards",
        after_training="--runs " + " ".join(f"{{trained}}/{run}" for run in RUNS),
        trial="--repositories seed-mini",
        needs=("number_tables", "codebooks", "stability", "prefixes", "tables", "demo"),
    ),
    Step("demo", "-m seed_hf.demo --output-dir {out}/demo"),
    Step("architecture", "docs/draw_architecture.py"),
    Step("edits", "docs/draw_edits.py"),
    Step("mixed_codes", "docs/draw_mixed_codes.py"),
    Step("other_tokenizers", "docs/draw_other_tokenizers.py"),
    # only of new weights do the cards write this page anew
    Step("report", "docs/take_report.py {out}/cards/report.html", needs_training=True, needs=("cards",)),
    Step("screenshots", "docs/take_screenshots.py"),
    Step("encoder_page", "docs/take_encoder_page.py"),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--trained", type=Path, help="Output folder of train_mini.py, whose weights are to ship.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/mini"), help="Folder for what is not shipped.")
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names, help="Which steps to run.")
    parser.add_argument("--jobs", type=int, default=1, help="Number of steps at once.")
    parser.add_argument("--limit", type=int, default=0, help="Number of images of a trial; 0: all, in full.")
    return parser.parse_args(argv)


def command_of(step: Step, args: argparse.Namespace) -> list[str]:
    """The command of a step."""
    parts = [step.command]
    if args.trained:
        parts.append(step.after_training)
    if args.limit:
        parts.append(step.trial)
    places = {"out": shlex.quote(str(args.output_dir)), "trained": shlex.quote(str(args.trained))}
    return [sys.executable, *shlex.split(" ".join(parts).format(**places, limit=args.limit))]


def put_old_results_aside(file: Path, weights: Path) -> None:
    """What was made of earlier weights is to be made again, also by the steps that go on where they stopped."""
    newest = max((path.stat().st_mtime for path in weights.rglob("*.safetensors")), default=0)
    if file.is_file() and (made := file.stat().st_mtime) < newest:
        file.parent.rename(file.parent.with_name(f"{file.parent.name}-{made:.0f}"))


def all_needs(step: Step) -> set[str]:
    """Names of the steps that must come before, also those that only a step between asks for."""
    return set(step.needs).union(*(all_needs(other) for other in STEPS if other.name in step.needs))


def main(argv: list[str] | None = None) -> None:
    """Run what has not been run."""
    args = parse_args(argv)
    args.output_dir = args.output_dir.resolve()
    args.trained = args.trained and args.trained.resolve()
    if args.trained and not args.trained.is_dir():
        raise SystemExit(
            f"--trained is {args.trained}, which is no folder; allowed: an output folder of train_mini.py."
        )
    if args.limit:
        args.output_dir /= "trial"  # numbers of a few images are not gone on from
    file = args.output_dir / "results.json"
    put_old_results_aside(file, args.trained or ROOT / "seed_hf" / "mini")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step.name in args.steps and (args.trained or not step.needs_training)]
    commands = {step.name: command_of(step, args) for step in steps}
    needs = {step.name: sorted(all_needs(step) & commands.keys()) for step in steps}
    progress = Progress(file, ROOT)
    try:
        progress.run_all(commands, needs, args.jobs)
    finally:
        if "demo" in commands and progress.state.get("demo", {}).get("done"):
            with Image.open(args.output_dir / "demo" / "sheet.png") as sheet:
                sheet.convert("RGB").quantize(256).save(SHEET, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main()
