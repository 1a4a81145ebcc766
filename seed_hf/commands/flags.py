"""Flags and arguments that several commands share: one name, one meaning."""

import sys
from typing import Annotated

import typer


PATHS_HELP = "Image files, folders with images, globs, or '-' for paths on standard input."
LANGUAGE_MODEL = "a language model or a LoRA adapter, or a pipeline saved with one"
DRAWING_MODEL = "a language model that names its pipeline, or a pipeline saved with one"
Paths = Annotated[list[str], typer.Argument(metavar="PATHS...", help=PATHS_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line for each result.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="Such as cpu, cuda or mps; by default cuda where there is one, or else cpu."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Side of the squares that images are made into, for image tokenizers of other libraries that have a "
        "choice: it decides how many codes an image has.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="SEED", help="Seed of the noise to draw from.")]
Steps = Annotated[
    int | None,
    typer.Option(metavar="STEPS", help="Number of denoising steps; by default the model's, 12 for seed-mini."),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="GUIDANCE", help="Strength of guidance, 1 for none; by default the model's, 2 for seed-mini."
    ),
]
AllowOutsidePaths = Annotated[
    bool,
    typer.Option(
        "--allow-outside-paths",
        help="Also read images that the data set names by a path or URL outside of its own folder or source.",
    ),
]
MaxUnreadableShare = Annotated[
    float, typer.Option(metavar="SHARE", help="Share of the images that may be left out, from 0 to 1.")
]
NumCodes = Annotated[
    int | None,
    typer.Option(metavar="NUMBER", help="Read only this many codes of each image, from the left; by default all."),
]
MaxNewTokens = Annotated[int, typer.Option(metavar="NUMBER", help="Number of tokens at most.")]


def model_flag(what: str):
    """`--model`, which has to be what the words say."""
    return typer.Option(metavar="MODEL", help=f"Folder or Hub id of {what}.")


def announce(model: str, device: str | None) -> tuple[str, str | None]:
    """
    Says in one line which model is used.

    Args:
        model (`str`): Name of the model.
        device (`str`, *optional*): Name of the device.

    Returns:
        `tuple[str, str | None]`: Both, for the functions of [`seed_hf.loading`].
    """
    about = ", which knows small drawings like emoji; --model names another" if model == "seed-mini" else ""
    print(f"using {model}{about}", file=sys.stderr)
    return model, device
