"""The tables of the paper in miniature, on seed-mini's own data: `make tables`.

    python training/mini/make_tables.py --output_dir runs/tables

Table 1: a bidirectional Q-Former (the baseline), the Causal Q-Former and its codes, trained here by the same scripts
on the same images for the same number of steps. Tables 2 and 3: seed-mini as it ships. Pilot: two language models
alike learn to caption, one from SEED's codes, one from as many low-level codes of the same images: k-means of the
latents of seed-mini's autoencoder. What is finished is kept: the same command goes on. Made for two free cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

from seed_hf.trainer.flags import HelpFormatter


TRAINING = Path(__file__).parents[1]
RECIPES = TRAINING / "recipes" / "mini"
COMMAND = "make tables"
RECALLS = [f"{way}_{name}" for way in ("i2t", "t2i") for name in ("r1", "r5", "r10")] + ["r_mean"]
RECALL_NAMES = [f"{way} R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)] + ["R@mean"]
NUM_VALIDATION = 96
A_LITTLE = 5  # points, in the reading of the tables
REPORTS = ("reconstruction.json", "caption.json", "vqa.json")
CAPTION_SCORES = ["BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="Folder for everything that is trained and measured."
    )
    parser.add_argument("--dataset", default="emoji", help="Data set; another one is for a trial of this script.")
    parser.add_argument("--test_split", default="test_concepts", help="Split to measure on.")
    parser.add_argument("--stage1_steps", type=int, default=60, help="Steps of both Q-Formers.")
    parser.add_argument("--stage2_steps", type=int, default=120, help="Steps of the codebook.")
    parser.add_argument("--language_steps", type=int, default=120, help="Steps of both language models of the pilot.")
    parser.add_argument(
        "--num_pilot", type=int, default=4000, help="Number of training images of the pilot; encoding takes long."
    )
    parser.add_argument(
        "--num_parallel", type=int, default=2, help="Number of trainings at once, where there are two alike."
    )
    parser.add_argument("--batch_size", type=int, default=128, help="Batch size of all training.")
    parser.add_argument(
        "--config", type=Path, default=RECIPES / "image_tokenizer.json", help="As in train_qformer.py."
    )
    parser.add_argument("--text_model", help="As in train_qformer.py; that of the recipe unless given.")
    parser.add_argument("--model", default="seed-mini", help="Pipeline of tables 2 and 3; another one is for a trial.")
    parser.add_argument(
        "--language_model", default="seed-mini", help="Language model of tables 2 and 3; another one is for a trial."
    )
    parser.add_argument("--base_language_model", default="smollm2", help="As in train_causal_lm.py.")
    parser.add_argument(
        "--language_model_config",
        default=str(RECIPES / "language_model.json"),
        help="As in train_causal_lm.py; empty: none.",
    )
    parser.add_argument("--limit", type=int, help="Number of images of the test split; all unless given.")
    parser.add_argument("--num_drawn", type=int, default=150, help="Number of images of table 2; drawing takes long.")
    parser.add_argument("--target_model", help="As in train_codebook.py; that of the recipe unless given.")
    report = TRAINING.parent / "model_cards" / "seed-mini-tables.md"
    parser.add_argument("--report", type=Path, default=report, help="Report to write, with a figure beside it.")
    parser.add_argument("--readme", type=Path, help="File that shows the figure between its <!-- tables --> marks.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    parse_args()  # `--help` and mistakes come before the imports that take seconds

import torch
from datasets import Dataset, concatenate_datasets
from diffusers.image_processor import VaeImageProcessor
from tqdm.auto import tqdm

from seed_hf import SeedPipeline
from seed_hf.cards.markdown import update_file
from seed_hf.data.captioned_images import open_image
from seed_hf.evaluation import (
    EvaluationReport,
    RunSettings,
    evaluate_captions,
    evaluate_reconstruction,
    evaluate_retrieval,
    evaluate_vqa,
    load_captioned_rows,
)
from seed_hf.mini import mini_pipeline_path
from seed_hf.mini.base_model import load_base_tokenizer
from seed_hf.models.modeling_seed_quantizer import move_to_means


def train(args: argparse.Namespace, script: str, recipe: str, output: Path, threads: int = 0, **flags) -> Path:
    """Runs a training script in a process of its own, with a number of threads, unless it has finished before."""
    finished = output / "finished"
    if not finished.exists():
        flags |= {"recipe": RECIPES / recipe, "output_dir": output, "batch_size": args.batch_size}
        flags |= {"checkpoint_every": 50, "eval_every": 0, "report_to": "none", "warmup_steps": 10}
        given = {name: value for name, value in flags.items() if value is not None}
        listed = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        subprocess.run([sys.executable, str(TRAINING / script), *listed], check=True, env=environment)
        finished.touch()
    return output


def train_alike(args: argparse.Namespace, script: str, recipe: str, runs: dict[str, dict], **flags) -> dict[str, Path]:
    """Trainings that differ in little, at the same time: a second process gains more than threads."""
    threads = max(1, (os.cpu_count() or 1) // args.num_parallel)
    with ThreadPoolExecutor(args.num_parallel) as pool:
        jobs = {
            name: pool.submit(train, args, script, recipe, threads=threads, **flags, **own)
            for name, own in runs.items()
        }
    return {name: job.result() for name, job in jobs.items()}


def measured(path: Path, evaluate: Callable[..., EvaluationReport], *names, **settings) -> dict[str, float]:
    """Scores of an evaluation, whose JSON is kept."""
    if not path.exists():
        evaluate(*names, **settings).save(path)
    return EvaluationReport.load(path).scores


def left_out(folder: Path) -> str:
    """What the evaluations in a folder could not measure, and why."""
    reports = [EvaluationReport.load(path) for path in sorted(folder.rglob("*.json")) if path.name in REPORTS]
    reasons = {name: reason for report in reports for name, reason in report.not_measured.items()}
    return "".join(f"- Left out: {name} ({reason}).\n" for name, reason in reasons.items())


def retrieval_rows(args: argparse.Namespace) -> dict[str, list[float | None]]:
    """Table 1: the same budget for the baseline and for ours."""
    out = args.output_dir
    config = json.loads(args.config.read_text())
    runs = {}
    for name, causal in (("bidirectional", False), ("causal", True)):
        path = out / f"{name}.json"
        path.write_text(json.dumps(config | {"causal_queries": causal}))
        runs[name] = {"output": out / name, "config": path}
    stage1 = train_alike(
        args, "train_qformer.py", "stage1.yaml", runs, dataset=args.dataset, text_model=args.text_model,
        max_steps=args.stage1_steps, cache_views=0,  # no image is shown twice
    )  # fmt: skip
    stage2 = train(
        args, "train_codebook.py", "stage2.yaml", out / "codes", init_model=stage1["causal"], dataset=args.dataset,
        target_model=args.target_model, max_steps=args.stage2_steps, cache_views=0,
    )  # fmt: skip
    settings = {"dataset": args.dataset, "split": args.test_split, "settings": RunSettings(limit=args.limit)}
    baseline = measured(out / "bidirectional-retrieval.json", evaluate_retrieval, stage1["bidirectional"], **settings)
    ours = measured(out / "codes-retrieval.json", evaluate_retrieval, stage2, **settings)
    return {
        "bidirectional Q-Former (baseline)": [baseline[f"causal_embeddings_{name}"] for name in RECALLS],
        "causal embeddings": [ours[f"causal_embeddings_{name}"] for name in RECALLS],
        "codes": [ours[f"codes_{name}"] for name in RECALLS],
    }


def reconstruction_rows(args: argparse.Namespace) -> dict[str, list[float | None]]:
    """Table 2, of seed-mini."""
    limit = min(args.num_drawn, args.limit or args.num_drawn)
    arguments = {"dataset": args.dataset, "split": args.test_split, "settings": RunSettings(limit=limit)}
    path = args.output_dir / "reconstruction.json"
    scores = measured(path, evaluate_reconstruction, args.model, clip="own", **arguments)
    return {
        "drawn from the caption": [scores.get("caption_drawing")],
        "drawn from the codes": [scores["reconstruction"]],
        "one against the other": [scores.get("reconstruction_to_caption_drawing")],
    }


def language_rows(args: argparse.Namespace) -> dict[str, list[float | None]]:
    """Table 3, of seed-mini."""
    arguments = {"dataset": args.dataset, "split": args.test_split, "settings": RunSettings(limit=args.limit)}
    arguments["prompt"] = "model"
    captions = measured(args.output_dir / "caption.json", evaluate_captions, args.language_model, **arguments)
    answers = {}
    if args.dataset == "emoji":  # others have no rules to make questions by
        answers = measured(args.output_dir / "vqa.json", evaluate_vqa, args.language_model, **arguments)
    return {"seed-mini": [*(captions.get(name) for name in CAPTION_SCORES), answers.get("exact_match")]}


def pilot_rows(args: argparse.Namespace) -> dict[str, list[float | None]]:
    """Captions from low-level codes and from SEED's, by language models that differ in nothing else."""
    out = args.output_dir
    pipeline = SeedPipeline.from_pretrained(mini_pipeline_path() if args.model == "seed-mini" else args.model)
    pipeline.image_tokenizer.eval().save_pretrained(out / "image_tokenizer")
    pipeline.image_processor.save_pretrained(out / "image_tokenizer")
    limits = {"train": args.num_pilot, "validation": NUM_VALIDATION, args.test_split: args.limit}
    splits = {split: thin(load_captioned_rows(args.dataset, split), count) for split, count in limits.items()}
    runs = {}
    for name, encode in PILOTS.items():
        folder = out / name.replace(" ", "-")
        codes = folder / "codes.parquet"
        if not codes.exists():
            folder.mkdir(exist_ok=True)
            concatenate_datasets(encode(pipeline, splits)).to_parquet(codes)
        runs[name] = {"output": folder / "model", "codes": codes}
    if args.base_language_model == "smollm2":
        load_base_tokenizer()  # unpacked once, before two processes want to
    models = train_alike(
        args, "train_causal_lm.py", "stage3_pilot.yaml", runs, image_tokenizer=out / "image_tokenizer",
        language_model=args.base_language_model, language_model_config=args.language_model_config,
        max_steps=args.language_steps,
    )  # fmt: skip
    settings = {"prompt": "model", "num_beams": 1, "max_new_tokens": 20, "min_new_tokens": 0}
    rows = {}
    for name, model in models.items():
        path, codes = model.parent / "caption.json", runs[name]["codes"]
        scores = measured(path, evaluate_captions, model, str(codes), args.test_split, **settings)
        rows[name] = [scores.get(score) for score in CAPTION_SCORES]
    return rows


def thin(rows: Dataset, count: int | None) -> Dataset:
    """At most `count` rows, evenly spread: neighbours are often alike."""
    count = min(count or len(rows), len(rows))
    return rows.select([number * len(rows) // count for number in range(count)])


def images_of(rows: Dataset, name: str, batch_size: int = 64) -> Iterator[list]:
    """Batches of images, with a progress bar."""
    for start in tqdm(range(0, len(rows), batch_size), desc=name, mininterval=5):
        yield [open_image(row) for row in rows.select(range(start, min(start + batch_size, len(rows))))]


def _with_codes(rows: Dataset, split: str, encode: Callable[[list], torch.Tensor]) -> Dataset:
    codes = torch.cat([encode(images) for images in images_of(rows, f"codes of {split}")]).tolist()
    kept = rows.select_columns(["caption", "tags", "subgroup"]).flatten_indices()
    return kept.add_column("codes", codes).add_column("split", [split] * len(codes))


@torch.no_grad()
def seed_codes(pipeline: SeedPipeline, splits: dict[str, Dataset]) -> list[Dataset]:
    """SEED's codes of all splits."""
    return [_with_codes(rows, split, pipeline.encode_image) for split, rows in splits.items()]


@torch.no_grad()
def low_level_codes(pipeline: SeedPipeline, splits: dict[str, Dataset]) -> list[Dataset]:
    """As many codes, of as many kinds, each of a patch of the image: k-means of the autoencoder's latents."""
    config, size = pipeline.image_tokenizer.config, pipeline.vae.config.sample_size

    def latents_of(images: list) -> torch.Tensor:
        pixels = VaeImageProcessor().preprocess([image.resize((size, size)) for image in images])
        latents = pipeline.vae.encode(pixels.to(pipeline.vae.dtype)).latent_dist.mean.float()
        # patches in reading order, neighbours averaged until there are as many as SEED has codes
        return torch.nn.functional.adaptive_avg_pool1d(latents.flatten(2), config.num_query_tokens).transpose(1, 2)

    vectors = torch.cat([latents_of(images) for images in images_of(thin(splits["train"], 2048), "latents")])
    centres = kmeans(vectors.flatten(0, 1), config.codebook_size)

    def encode(images: list) -> torch.Tensor:
        return torch.cdist(latents_of(images), centres[None].expand(len(images), -1, -1)).argmin(-1)

    return [_with_codes(rows, split, encode) for split, rows in splits.items()]


PILOTS = {"low-level codes": low_level_codes, "SEED codes": seed_codes}


def kmeans(vectors: torch.Tensor, num_centres: int, num_iterations: int = 10, seed: int = 0) -> torch.Tensor:
    """Lloyd's algorithm: `(num_vectors, dim)` -> `(num_centres, dim)`."""
    generator = torch.Generator().manual_seed(seed)
    centres = vectors[torch.randperm(len(vectors), generator=generator)[:num_centres]].clone()
    for _ in range(num_iterations):
        nearest = torch.cat([torch.cdist(part, centres).argmin(-1) for part in vectors.split(8192)])
        centres = move_to_means(centres, vectors, nearest)
    return centres


def format_number(value: float | None) -> str:
    """One digit after the point; a dash where something was not measured."""
    return "–" if value is None else f"{value:.1f}"


def format_table(title: str, columns: list[str], rows: dict[str, list[float | None]]) -> str:
    """Markdown."""
    lines = [f"**{title}**", "", f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    lines += [f"| {name} | {' | '.join(map(format_number, values))} |" for name, values in rows.items()]
    return "\n".join(lines) + "\n"


def draw_tables(tables: dict[str, tuple[list[str], dict]], path: Path) -> None:
    """Draws a figure of all tables."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    heights = [len(rows) + 3 for _, rows in tables.values()]
    figure, axes = plt.subplots(len(tables), figsize=(13, 0.32 * sum(heights)), height_ratios=heights)
    for axis, (title, (columns, rows)) in zip(axes, tables.items(), strict=True):
        axis.set_axis_off()
        axis.set_title(title, loc="left", fontweight="bold")
        cells = [[name, *map(format_number, values)] for name, values in rows.items()]
        widths = [0.28, *[0.1] * len(columns)]
        table = axis.table(cells, colLabels=["", *columns], colWidths=widths, cellLoc="right", loc="upper left")
        table.auto_set_font_size(False)
        table.set_fontsize(9)
        table.scale(1, 1.3)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def read_tables(retrieval: dict, reconstruction: dict, pilot: dict) -> str:
    """What the numbers say about the claims of the paper, and whether they agree."""
    baseline, causal, codes = (values[-1] for values in retrieval.values())
    bound, ours, _ = (values[0] for values in reconstruction.values())
    low, seed = (dict(zip(CAPTION_SCORES, values, strict=True))["CIDEr"] for values in pilot.values())
    readings = [
        (
            f"Causal queries change R@mean by {causal - baseline:+.1f}",
            "they cost a little",
            abs(causal - baseline) < A_LITTLE,
        ),
        (f"Codes change it by another {codes - causal:+.1f}", "they cost a little", abs(codes - causal) < A_LITTLE),
        (
            f"CIDEr is {seed:.1f} from SEED's codes and {low:.1f} from low-level ones",
            "SEED's are far better",
            seed > low,
        ),
    ]
    if bound is not None:
        change = f"Pictures from codes are {ours - bound:+.1f} nearer the original than pictures from captions"
        readings.insert(2, (change, "about equal", abs(ours - bound) < A_LITTLE))
    lines = [
        f"- {what}. The paper: {claim}. {'Agrees' if agrees else 'Does not agree'}."
        for what, claim, agrees in readings
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Train the baselines, measure, write the tables."""
    args = parse_args(argv)
    started = time.monotonic()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    retrieval, reconstruction = retrieval_rows(args), reconstruction_rows(args)
    language, pilot = language_rows(args), pilot_rows(args)
    tables = {
        "Table 1: retrieval, %, image to text (i2t) and text to image (t2i)": (RECALL_NAMES, retrieval),
        f"Table 2: similarity with the original (of at most {args.num_drawn}), by seed-mini's own features, x 100": (
            ["similarity"],
            reconstruction,
        ),
        "Table 3: captions and answers of seed-mini": ([*CAPTION_SCORES, "questions, %"], language),
        "Pilot: captions by two language models that differ only in the codes they read": (CAPTION_SCORES, pilot),
    }
    steps = f"{args.stage1_steps}, {args.stage2_steps} and {args.language_steps}"
    parts = [
        "# The tables of the paper, in miniature\n",
        f"Measured by `{COMMAND}` on the split `{args.test_split}`. What is trained for a table (stage 1, stage 2, "
        f"language models) takes {steps} steps of {args.batch_size}: enough to compare rows, not to be good.\n",
        *(format_table(title, *table) for title, table in tables.items()),
        read_tables(retrieval, reconstruction, pilot) + left_out(args.output_dir),
    ]
    args.report.write_text("\n".join(parts), encoding="utf-8")
    figure = args.report.with_suffix(".png")
    draw_tables(tables, figure)
    if args.readme is not None:
        shown = f"![The tables]({os.path.relpath(figure, args.readme.parent)})\n\n"
        update_file(args.readme, f"{shown}{parts[0]}\n{parts[-1]}", "tables")
    tqdm.write("\n".join(parts) + f"\n{(time.monotonic() - started) / 60:.1f} minutes; wrote {args.report}")


if __name__ == "__main__":
    main()
