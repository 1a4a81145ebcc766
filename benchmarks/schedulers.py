"""How well pictures of few steps are recognised, by scheduler and number of steps, drawn by seed-mini.

    python benchmarks/schedulers.py     # puts the table into docs/guides/swap-the-decoder.md

Same codes, same noise and same guidance everywhere; recognised is what benchmarks/prefixes.py calls so. The number of
steps is what a picture costs: the schedulers themselves take no measurable time.
"""

import argparse
from pathlib import Path

import diffusers
from prefixes import Drawings, caption_features, recognised

from seed_hf.cards.markdown import format_table, update_file
from seed_hf.data.captioned_images import open_image
from seed_hf.data.rows import load_rows
from seed_hf.studio import Studio


PAGE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "swap-the-decoder.md"
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


def main(argv: list[str] | None = None) -> None:
    """Measure, and put the table into the guide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="validation", help="Split to measure.")
    parser.add_argument("--limit", type=int, default=100, help="Number of captions; 0: all.")
    parser.add_argument("--schedulers", nargs="+", default=list(SCHEDULERS), help="Classes of diffusers.")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="Numbers of steps.")
    parser.add_argument("--output", type=Path, default=PAGE, help="Page with the markers of the table.")
    args = parser.parse_args(argv)
    scores = measure(Studio.load("seed-mini", "cpu"), args.split, args.limit, args.schedulers, args.steps)
    rows = [{"name": f"`{name}`", "unit": "%", **scores[name]} for name in scores]
    columns = {count: f"{count} steps" for count in args.steps}
    table = format_table({"splits": columns, "rows": rows, "command": "python benchmarks/schedulers.py"})
    print(table)
    update_file(args.output, table, "schedulers")


if __name__ == "__main__":
    main()
