"""What each remedy against codebook collapse buys on small data: stage 2, a few steps each, one remedy more each time.

    python training/mini/compare_codebooks.py --init_model out/stage1 --output_dir out/codebooks --max_steps 150

Writes model_cards/seed-mini-codebooks.md. All runs see the same images in the same order and are measured on the
validation split, so the numbers are for choosing a recipe, not held-out results.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.curves import read_metrics
from seed_hf.trainer.flags import HelpFormatter


# (name, changes of the configuration, number of images of the k-means start)
VARIANTS = [
    ("as the original: plain, gradient, uniform start", {}, 0),
    ("+ normalised codes", {"normalize_codes": True}, 0),
    ("+ k-means start", {}, 512),
    ("+ moving average", {"codebook_ema_decay": 0.95}, 512),
    ("+ restart of dead codes", {"dead_code_steps": 20}, 512),
    ("+ contrastive loss through the codes", {"code_contrastive_loss_weight": 1.0}, 512),
    ("+ centred embeddings", {"center_causal_embeds": True}, 512),
    ("+ scale and shift for each query", {"separate_queries": True}, 512),
    ("+ a part of the codebook for each query", {"codebook_per_query": True}, 512),
]
PLAIN = {
    "normalize_codes": False,
    "codebook_ema_decay": 0.0,
    "dead_code_steps": 0,
    "code_contrastive_loss_weight": 0.0,
    "center_causal_embeds": False,
    "separate_queries": False,
    "codebook_per_query": False,
}
COLUMNS = {
    "eval_codes_used": "codes in use, %",
    "eval_perplexity": "perplexity",
    "eval_distinct_codes": "different codes of the 32",
    "eval_i2t_r1": "R@1 image to text, %",
    "eval_t2i_r1": "R@1 text to image, %",
    "eval_i2t_r10": "R@10 image to text, %",
}


HEAD = """# What keeps a codebook from collapsing

Short trainings of stage 2 of seed-mini, with one remedy more in each row. Recall after so few steps says little about
recall at the end."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--init_model", type=Path, required=True, help="Folder that stage 1 wrote.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for all variants.")
    parser.add_argument("--max_steps", type=int, default=150, help="Steps of each variant.")
    parser.add_argument("--batch_size", type=int, default=64, help="Images per step.")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path(__file__).parents[2] / "model_cards/seed-mini-codebooks.md",
        help="Report to write.",
    )
    return parser.parse_args(argv)


def run_variant(args: argparse.Namespace, number: int, config: dict, init_images: int) -> dict:
    """Trains one variant in a process of its own and returns its last evaluation."""
    start, output = args.output_dir / f"{number}-start", args.output_dir / str(number)
    left_out = shutil.ignore_patterns("checkpoint-*", "logs", "views*")
    shutil.copytree(args.init_model, start, ignore=left_out, dirs_exist_ok=True)
    settings = json.loads((start / "config.json").read_text()) | config
    (start / "config.json").write_text(json.dumps(settings))
    fit_quantizer(args.init_model, start)
    script = Path(__file__).parents[1] / "train_codebook.py"
    recipe = script.parent / "recipes" / "mini" / "stage2.yaml"
    flags = ["--recipe", recipe, "--init_model", start, "--output_dir", output]
    flags += ["--cache_views", 0, "--init_codebook_images", init_images, "--max_steps", args.max_steps]
    flags += ["--batch_size", args.batch_size, "--eval_every", 0, "--checkpoint_every", 0, "--report_to", "none"]
    subprocess.run([sys.executable, str(script), *map(str, flags)], check=True)
    return [line for line in read_metrics(output / "metrics.jsonl") if "eval_codes_used" in line][-1]


def fit_quantizer(source: Path, target: Path) -> None:
    """Rewrites the weights of `target` for its configuration: the remedies add to the quantizer or take from it."""
    # here, so that --help needs no torch
    from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig

    weights = SeedImageTokenizer.from_pretrained(source).state_dict()
    model = SeedImageTokenizer(SeedImageTokenizerConfig.from_pretrained(target))
    report = model.load_state_dict(weights, strict=False)
    differing = [name for name in (*report.missing_keys, *report.unexpected_keys) if not name.startswith("quantizer.")]
    if differing:
        raise ValueError(f"`init_model` does not fit its configuration: {differing}; allowed: quantizer.* alone.")
    for path in target.glob("model*"):
        path.unlink()
    model.save_pretrained(target)


def main(argv: list[str] | None = None) -> None:
    """Train all variants and write the table."""
    args = parse_args(argv)
    lines = ["| stage 2 with | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    config = dict(PLAIN)
    for number, (name, changes, init_images) in enumerate(VARIANTS):
        config |= changes
        scores = run_variant(args, number, config, init_images)
        lines.append(f"| {name} | " + " | ".join(f"{scores[key]:.1f}" for key in COLUMNS) + " |")
        sys.stdout.write(lines[-1] + "\n")
    command = f"python training/mini/compare_codebooks.py --max_steps {args.max_steps} --batch_size {args.batch_size}"
    note = (
        f"Validation split, {args.max_steps} steps of {args.batch_size} pictures each, one CPU. Made by `{command}`."
    )
    args.report.write_text("\n".join([HEAD, "", *lines, "", note, ""]))


if __name__ == "__main__":
    main()
