"""`seed-hf reconstruct`: images to codes and back to pictures, with [`SeedPipeline`]."""

import argparse
import sys
from pathlib import Path

from .images import PATHS_HELP, Failures, encode_files, find_images, is_codes_file, read_codes
from .loading import add_model_arguments, announce
from .pictures import add_drawing_arguments, draw_codes, free_name


EXAMPLES = """examples:
  seed-hf reconstruct photo.jpg --output seen
  seed-hf reconstruct photos --output seen --seed 1 --steps 20
  seed-hf reconstruct codes.jsonl --output seen     # what seed-hf tokenize wrote
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("paths", nargs="+", help=f"{PATHS_HELP}; or .jsonl or .parquet files of seed-hf tokenize")
    parser.add_argument("--output", type=Path, required=True, help="folder to write PNG files to, made if missing")
    add_drawing_arguments(parser)
    add_model_arguments(parser, "a pipeline")


def run(args: argparse.Namespace) -> int:
    """Draws each image from its codes alone, all from the same noise."""
    from ..loading import load_pipeline  # brings torch, for which `--help` must not wait

    failures = Failures()
    tables = [read_codes(Path(path)) for path in args.paths if is_codes_file(path)]
    files = find_images([path for path in args.paths if not is_codes_file(path)], failures)
    pipeline = load_pipeline(*announce(args))
    args.output.mkdir(parents=True, exist_ok=True)
    taken = set()
    batches = (([Path(name) for name in names], codes) for names, codes in tables)
    for source in (batches, encode_files(files, pipeline.encode_image, failures)):
        for names, codes in source:
            for name, picture in zip(names, draw_codes(pipeline, codes, args), strict=True):
                picture.save(args.output / f"{free_name(name.stem, taken)}.png")
    print(f"wrote {len(taken)} pictures to {args.output}", file=sys.stderr)
    return failures.finish()


__all__ = ["add_arguments", "run"]
