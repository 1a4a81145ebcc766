"""`seed-hf draw`: words to codes to pictures, with [`SeedPipeline`]."""

import argparse
import sys
from pathlib import Path

from .loading import add_model_arguments, announce
from .pictures import add_drawing_arguments, draw_codes, free_name


EXAMPLES = """examples:
  seed-hf draw "red apple" --output apple.png
  seed-hf draw "red apple" "sad face" --count 4 --output drawn --seed 1
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("prompts", nargs="+", metavar="prompt", help="what to draw")
    output_help = "PNG file for one picture, or folder for any number, made if missing"
    parser.add_argument("--output", type=Path, required=True, help=output_help)
    parser.add_argument("--count", type=int, default=1, help="number of pictures for each prompt (default: 1)")
    add_drawing_arguments(parser)
    add_model_arguments(parser, "a language model that names its pipeline, or a pipeline saved with one")


def run(args: argparse.Namespace):
    """Draws the prompts, and says where the pictures are."""
    from ..loading import load_drawing_pipeline  # brings torch, for which `--help` must not wait

    if args.count < 1:
        raise ValueError(f"`--count` is {args.count}; allowed: 1 or more.")
    if any(not prompt.strip() for prompt in args.prompts):
        raise ValueError("`prompt` is empty; allowed: some words.")
    is_file = args.output.suffix.lower() == ".png"
    if is_file and len(args.prompts) * args.count > 1:
        raise ValueError(f"`--output` is the file {str(args.output)!r}; allowed for several pictures: a folder.")
    pipeline, generation = load_drawing_pipeline(*announce(args))
    pictures = draw_codes(pipeline, pipeline.encode_prompt(args.prompts, **generation), args, args.count)
    folder, taken = args.output.parent if is_file else args.output, set()
    folder.mkdir(parents=True, exist_ok=True)
    names = [prompt for prompt in args.prompts for _ in range(args.count)]
    for name, picture in zip(names, pictures, strict=True):
        file = args.output if is_file else folder / f"{free_name(name, taken)}.png"
        picture.save(file)
        print(f"wrote {file}", file=sys.stderr)


__all__ = ["add_arguments", "run"]
