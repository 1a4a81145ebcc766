"""The demo's flags, apart from the demo so that `seed-hf demo --help` does not wait for torch."""

from argparse import Namespace
from pathlib import Path
from typing import Annotated

import typer


QUESTION = "What kind of thing is this?"


def demo_flags(
    image: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="An image of your own; may be repeated.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="What to draw; may be repeated.")] = None,
    question: Annotated[str, typer.Option(metavar="TEXT", help="Asked about every image.")] = QUESTION,
    output_dir: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write to.")] = Path("demo_output"),
    num_pictures: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of images to show, filled up with held-out drawings.")
    ] = 12,
    num_inference_steps: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Number of denoising steps; by default the pipeline's.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="SEED", help="Seed of the noise that pictures are drawn from.")] = 0,
    pipeline: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder in the layout of SeedPipeline.")
    ] = "seed-mini",
    language_model: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder of the language model or adapter.")
    ] = "seed-mini",
    pictures: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder with pictures.json and captions.txt.")
    ] = "seed-mini",
) -> Namespace:
    """
    Collects the flags of `python -m seed_hf.demo` and of `seed-hf demo`.

    Returns:
        `argparse.Namespace`: All flags by name.
    """
    return Namespace(**{**locals(), "image": image or [], "prompt": prompt or []})


__all__ = ["QUESTION", "demo_flags"]
