"""`seed-hf reconstruct`: images to codes and back to pictures, with [`SeedPipeline`]."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .flags import PATHS_HELP, Device, Guidance, Seed, Steps, announce, model_flag
from .images import Failures, counted, encode_files, find_images, has_codes, read_codes
from .pictures import draw_codes, free_name


EXAMPLES = """examples:
  seed-hf reconstruct photo.jpg --output seen
  seed-hf reconstruct photos --output seen --seed 1 --steps 20
  seed-hf reconstruct codes.jsonl --output seen     # what seed-hf tokenize wrote
"""


def run(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS...", help=f"{PATHS_HELP[:-1]}; or codes of seed-hf tokenize or seed-hf encode."),
    ],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write PNG files to, made if missing.")],
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Annotated[str, model_flag("a pipeline")] = "seed-mini",
    device: Device = None,
) -> int:
    """Draws each image from its codes alone, all from the same noise."""
    from ..loading import load_pipeline  # brings torch, for which `--help` must not wait

    failures = Failures()
    tables = [read_codes(Path(path)) for path in paths if has_codes(path)]
    files = find_images([path for path in paths if not has_codes(path)], failures)
    output.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(*announce(model, device))
    # nobody's image is overwritten, also not before it is read
    sources = [*files, *(Path(name) for names, _ in tables for name in names)]
    taken, count = {file.stem.lower() for file in sources if file.resolve().parent == output.resolve()}, 0
    batches = (([Path(name) for name in names], codes) for names, codes in tables)
    for source in (batches, encode_files(files, pipeline.encode_image, failures)):
        for names, codes in source:
            for name, picture in zip(names, draw_codes(pipeline, codes, seed, steps, guidance), strict=True):
                picture.save(output / f"{free_name(name.stem, taken)}.png")
                count += 1
    print(f"wrote {counted(count, 'picture')} to {output}", file=sys.stderr)
    return failures.finish()


__all__ = ["run"]
