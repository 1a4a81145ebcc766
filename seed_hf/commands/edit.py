"""`seed-hf edit`: images changed by their codes, with [`seed_hf.edits`]."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .flags import DRAWING_MODEL, Device, Guidance, Seed, Steps, announce, model_flag
from .parsing import with_options


if TYPE_CHECKING:
    import torch

    from ..studio import Studio


EXAMPLES = """examples:
  seed-hf edit continue strawberry.png --keep 16 --prompt "red apple" --output continued.png
  seed-hf edit mix strawberry.png rainbow.png --at 16 --output mixed.png
  seed-hf edit vary strawberry.png --strength 0.25 --count 6 --output varied.png
  seed-hf edit nearest strawberry.png --place 16 --count 6 --output nearest.png
  seed-hf edit blend strawberry.png rainbow.png --count 8 --output blended.png
  seed-hf edit first strawberry.png --output first.png
"""
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.")]
Other = Annotated[Path, typer.Argument(metavar="OTHER", help="Another image file.")]
Codes = Annotated[bool, typer.Option("--json", help="Also print the codes of each picture as a JSON line.")]
Count = Annotated[int, typer.Option(metavar="NUMBER", help="Number of pictures.")]


def _shared(
    output: Annotated[Path, typer.Option(metavar="FILE", help="PNG file: the images, and beside them what is drawn.")],
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Annotated[str, model_flag(DRAWING_MODEL)] = "seed-mini",
    device: Device = None,
):
    """What all edits take."""


@with_options(_shared)
def _continue(
    image: Image,
    keep: Annotated[int, typer.Option(metavar="NUMBER", help="Number of codes to keep, from the left.")] = 16,
    prompt: Annotated[str, typer.Option(metavar="WORDS", help="What the rest should show.")] = "",
    as_json: Codes = False,
    **shared,
):
    """Lets the language model write the last codes again."""

    def edit(studio: "Studio", codes: "torch.Tensor"):
        from ..edits import continue_codes

        return continue_codes(studio.pipeline, codes, keep, prompt, **studio.image_generation)

    _run([image], edit, as_json, **shared)


@with_options(_shared)
def _mix(
    image: Image,
    other: Other,
    at: Annotated[int, typer.Option(metavar="NUMBER", help="Number of codes that the first image gives.")] = 16,
    as_json: Codes = False,
    **shared,
):
    """Draws the left codes of one image with the right codes of another, both ways."""

    def edit(studio: "Studio", codes: "torch.Tensor"):
        from ..edits import mix

        return mix(codes, codes.flip(0), at)

    _run([image, other], edit, as_json, **shared)


@with_options(_shared)
def _vary(
    image: Image,
    strength: Annotated[
        float, typer.Option(metavar="SHARE", help="Probability of each code to change, from 0 to 1.")
    ] = 0.25,
    count: Count = 4,
    seed: Annotated[int, typer.Option(metavar="SEED", help="Seed of the changes, and of the noise to draw from.")] = 0,
    as_json: Codes = False,
    **shared,
):
    """Replaces some codes by others that stand for nearly the same."""

    def edit(studio: "Studio", codes: "torch.Tensor"):
        from ..edits import variations

        return variations(studio.image_tokenizer, codes.repeat(count, 1), strength, seed)

    _check_count(count, 1)
    _run([image], edit, as_json, seed=seed, **shared)


@with_options(_shared)
def _nearest(
    image: Image,
    place: Annotated[int, typer.Option(metavar="NUMBER", help="Place of the code to replace, from 1.")] = 16,
    count: Count = 6,
    as_json: Codes = False,
    **shared,
):
    """Replaces one code by each of those whose vectors are nearest to its own."""

    def edit(studio: "Studio", codes: "torch.Tensor"):
        from ..edits import nearest

        if not 1 <= place <= studio.num_codes:
            raise ValueError(f"`--place` is {place}; allowed: 1 to {studio.num_codes}.")
        most = len(studio.codes_of_place[place - 1]) - 1
        if count > most:
            raise ValueError(f"`--count` is {count}; allowed: 1 to {most}, the number of other codes.")
        edited = codes.repeat(count, 1)
        edited[:, place - 1] = nearest(studio.image_tokenizer, codes[0, place - 1], count)
        return edited

    _check_count(count, 1)
    _run([image], edit, as_json, **shared)


@with_options(_shared)
def _blend(
    image: Image,
    other: Other,
    count: Count = 8,
    **shared,
):
    """Draws the way from one image to another, in generation embeddings."""

    def edit(studio: "Studio", codes: "torch.Tensor"):
        from ..edits import interpolate

        return interpolate(studio.image_tokenizer, codes[0], codes[1], count)

    _check_count(count, 2)
    _run([image, other], edit, **shared)


@with_options(_shared)
def _first(
    image: Image,
    **shared,
):
    """Draws the first 1, 2, 4, ... codes of an image alone."""

    def edit(studio: "Studio", codes: "torch.Tensor"):
        import torch

        counts = [2**power for power in range(studio.num_codes.bit_length()) if 2**power < studio.num_codes]
        rows = [studio.image_tokenizer.decode(codes[:, :count].to(studio.image_tokenizer.device)) for count in counts]
        return torch.cat([*rows, studio.image_tokenizer.decode(codes.to(studio.image_tokenizer.device))]).detach()

    _run([image], edit, **shared)


LEAVES = {
    "continue": ("Keep the first codes; the language model writes the others again.", _continue),
    "mix": ("Left codes of one image, right codes of another.", _mix),
    "vary": ("Replace some codes by near ones.", _vary),
    "nearest": ("Replace one code by those nearest to it.", _nearest),
    "blend": ("Pictures on the way from one image to another.", _blend),
    "first": ("Pictures of the first 1, 2, 4, ... codes.", _first),
}


def _check_count(count: int, least: int):
    if count < least:
        raise ValueError(f"`--count` is {count}; allowed: {least} or more.")


def _run(
    files: list[Path],
    edit: Callable[["Studio", "torch.Tensor"], "torch.Tensor"],
    as_json: bool = False,
    *,
    output: Path,
    seed: int,
    steps: int | None,
    guidance: float | None,
    model: str,
    device: str | None,
):
    """Reads, edits, draws all from the same noise, and writes one picture."""
    import torch

    from ..studio import Studio

    if output.suffix.lower() != ".png":
        raise ValueError(f"`--output` is {str(output)!r}; allowed: a name that ends in .png.")
    output.parent.mkdir(parents=True, exist_ok=True)
    images = [_read(file) for file in files]
    studio = Studio.load(*announce(model, device))
    edited = edit(studio, studio.encode(images))
    inputs = {"generation_embeds": edited} if edited.is_floating_point() else {"codes": edited}
    generators = [torch.Generator().manual_seed(seed) for _ in edited]
    pictures = studio.pipeline(
        **inputs, generator=generators, num_inference_steps=steps, guidance_scale=guidance
    ).images
    _side_by_side(images, pictures).save(output)
    if as_json:
        for row in edited.tolist():
            print(json.dumps({"codes": row}))
    print(f"wrote {output}: {len(images)} given, {len(pictures)} drawn", file=sys.stderr)


def _read(file: Path):
    from ..models.image_processing_seed import load_rgb_image

    try:
        return load_rgb_image(file, name=str(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error.__cause__ or error}") from error


def _side_by_side(images: list, pictures: list):
    from PIL import Image as PillowImage
    from PIL import ImageOps

    width, height = pictures[0].size
    tiles = [*(ImageOps.pad(image, (width, height), color="white") for image in images), *pictures]
    gap = width // 8
    sheet = PillowImage.new("RGB", (len(tiles) * width + gap, height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number * width + gap * (number >= len(images)), 0))
    return sheet


__all__ = ["LEAVES"]
