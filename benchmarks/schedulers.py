"""How well pictures of few steps are recognised, by scheduler and number of steps, drawn by seed-mini.

    python benchmarks/schedulers.py     # all of validation; then --splits test_drawings for what is chosen by it

Same codes, same noise and same guidance everywhere; recognised is what benchmarks/prefixes.py calls so. The number of
steps is what a picture costs: the schedulers themselves take no measurable time.
"""

import argparse
import json
from pathlib import Path

import common
import diffusers
from prefixes import Drawings, caption_features, recognised

from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.studio import Studio


STEPS = (2, 4, 6, 8, 12)
SCHEDULERS = ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")


def measure(studio: Studio, split: str, limit: int, names: list[str], steps: list[int]) -> dict[str, dict[int, float]]:
    """Percentage of recognised pictures by scheduler and number of steps; one image of each caption is drawn."""
    by_caption = {row["caption"]: row for row in load_rows("emoji", split) if not row["is_flag"]}
    captions = sorted(by_caption)[: limit or None]
    drawings = Drawings(captions, studio.encode([open_image(by_caption[caption]) for caption in captions]))
    texts = caption_features(studio)
    settings, scores = studio.pipeline.scheduler.config, {}
    for name in names:
        studio.pipeline.scheduler = getattr(diffusers, name).from_config(settings)
        for count in steps:
            studio.pipeline.register_to_config(num_inference_steps=count)
            result = recognised(studio, drawings, drawings.codes.shape[1], texts)
            scores.setdefault(name, {})[count] = result["recognised"]
            print(f"{split}, {len(captions)} images, {name}, {count} steps: {scores[name][count]:.1f} %", flush=True)
    return scores


def as_table(scores: dict[str, dict[int, float]]) -> str:
    """Markdown: a row for each scheduler, a column for each number of steps."""
    steps = list(next(iter(scores.values())))
    head = [f"| scheduler | {' | '.join(f'{count} steps' for count in steps)} |", "| --- |" + " ---: |" * len(steps)]
    rows = [f"| `{name}` | {' | '.join(f'{row[count]:.1f} %' for count in steps)} |" for name, row in scores.items()]
    return "\n".join(head + rows)


def main(argv: list[str] | None = None) -> None:
    """Measure the splits and write `results/schedulers-<split>.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="+", default=["validation"], help="Splits to measure.")
    parser.add_argument("--limit", type=int, default=0, help="Number of captions of each split; 0: all.")
    parser.add_argument("--schedulers", nargs="+", default=list(SCHEDULERS), help="Classes of diffusers.")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="Numbers of steps.")
    parser.add_argument("--output_dir", type=Path, default=common.RESULTS, help="Folder of the result files.")
    args = parser.parse_args(argv)
    studio = Studio.load("seed-mini", "cpu")
    for split in args.splits:
        scores = measure(studio, split, args.limit, args.schedulers, args.steps)
        result = {"split": split, "limit": args.limit, "recognised": scores, "machine": common.machine()}
        args.output_dir.mkdir(parents=True, exist_ok=True)
        (args.output_dir / f"schedulers-{split}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(as_table(scores))


if __name__ == "__main__":
    main()
