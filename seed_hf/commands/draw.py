"""`seed-hf draw`: words to codes to pictures, with [`SeedPipeline`]."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .flags import DRAWING_MODEL, Device, Guidance, Seed, Steps, announce, model_flag
from .pictures import draw_codes, free_name


EXAMPLES = """examples:
  seed-hf draw "red apple" --output apple.png
  seed-hf draw "red apple" "sad face" --count 4 --output drawn --seed 1
"""


def run(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPTS...", help="What to draw.")],
    output: Annotated[
        Path, typer.Option(metavar="PATH", help="PNG file for one picture, or folder for any number, made if missing.")
    ],
    count: Annotated[int, typer.Option(metavar="NUMBER", help="Number of pictures for each prompt.")] = 1,
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Annotated[str, model_flag(DRAWING_MODEL)] = "seed-mini",
    device: Device = None,
):
    """Draws the prompts, and says where the pictures are."""
    # these bring torch, for which `--help` must not wait
    from ..inference import check_context
    from ..loading import load_drawing_pipeline
    from ..models.image_formats_seed import IMAGE_SUFFIXES

    if count < 1:
        raise ValueError(f"`--count` is {count}; allowed: 1 or more.")
    if any(not prompt.strip() for prompt in prompts):
        raise ValueError("`prompt` is empty; allowed: some words.")
    is_file = output.suffix.lower() == ".png"
    if output.is_file() and not is_file or output.suffix.lower() in set(IMAGE_SUFFIXES) - {".png"}:
        raise ValueError(f"`--output` is {str(output)!r}; allowed: a name that ends in .png, or a folder.")
    if is_file and len(prompts) * count > 1:
        raise ValueError(f"`--output` is the file {str(output)!r}; allowed for several pictures: a folder.")
    folder = output.parent if is_file else output
    folder.mkdir(parents=True, exist_ok=True)
    pipeline, generation = load_drawing_pipeline(*announce(model, device))
    tokenizer = pipeline.processor.tokenizer
    for prompt in prompts:
        num_tokens = len(tokenizer(prompt)["input_ids"]) + tokenizer.num_query_tokens
        check_context(pipeline.language_model, num_tokens, "prompt")
    pictures = draw_codes(pipeline, pipeline.encode_prompt(prompts, **generation), seed, steps, guidance, count)
    taken = {path.stem.lower() for path in folder.iterdir()}
    names = [prompt for prompt in prompts for _ in range(count)]
    for name, picture in zip(names, pictures, strict=True):
        file = output if is_file else folder / f"{free_name(name, taken)}.png"
        picture.save(file)
        print(f"wrote {file}", file=sys.stderr)


__all__ = ["run"]
