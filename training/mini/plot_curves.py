"""What to expect: the curves of seed-mini's stages in one figure, for training/README.md.

    python training/mini/plot_curves.py out/mini --output training/curves.png

Reads the `metrics.jsonl` that each stage has written to its folder; folders that are not there are left out.
"""

import argparse
from pathlib import Path


import seed_hf_script  # isort: skip  # noqa: F401

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from seed_hf.trainer.curves import read_metrics
from seed_hf.trainer.flags import HelpFormatter


# folder: title, metric on the left axis, metric on the right axis
PANELS = {
    "stage1": ("Stage 1: Causal Q-Former", "loss", "eval_r_mean"),
    "stage2": ("Stage 2: codebook", "loss", "eval_codes_used"),
    "stage3": ("Stage 3: language model", "loss", "eval_caption_word_f1"),
    "vae": ("Autoencoder", "loss", "eval_psnr"),
    "decoder": ("Picture decoder, from codes", "loss", "eval_denoising_loss"),
}


def draw_panel(axes, metrics: list[dict], title: str, left: str, right: str) -> None:
    """Draws one stage: a training loss, and a score on unseen images."""
    axes.set_title(title, fontsize=9)
    axes.plot(*zip(*[(line["step"], line[left]) for line in metrics if left in line], strict=True), color="tab:blue")
    axes.set_ylabel(left, color="tab:blue", fontsize=8)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if points := [(line["step"], line[right]) for line in metrics if right in line]:
        other = axes.twinx()
        other.plot(*zip(*points, strict=True), color="tab:orange", marker=".")
        other.set_ylabel(right.removeprefix("eval_"), color="tab:orange", fontsize=8)
        other.tick_params(labelsize=7)


def main(argv: list[str] | None = None) -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("folder", type=Path, help="Output folder of all stages, as train_mini.py leaves it.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "curves.png", help="Image to write.")
    args = parser.parse_args(argv)
    shown = {name: panel for name, panel in PANELS.items() if (args.folder / name / "metrics.jsonl").is_file()}
    if not shown:
        raise ValueError(f"folder={str(args.folder)!r} has none of {list(PANELS)} with a metrics.jsonl.")
    rows = -(-len(shown) // 3)
    figure = Figure(figsize=(10.5, 2.5 * rows), dpi=75, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 3, squeeze=False).flat
    for axes, (name, panel) in zip(panels, shown.items(), strict=False):
        draw_panel(axes, read_metrics(args.folder / name / "metrics.jsonl"), *panel)
    for axes in figure.axes[len(shown) : 3 * rows]:
        axes.set_visible(False)
    canvas.draw()
    # few colours: a tenth of the size
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(48).save(args.output, optimize=True)


if __name__ == "__main__":
    main()
