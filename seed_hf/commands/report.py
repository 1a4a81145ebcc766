"""`seed-hf report`: the report card of an image tokenizer, by [`~seed_hf.report.make_report`]."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .flags import LANGUAGE_MODEL, Device, announce, model_flag
from .images import Failures, find_images, has_codes, read_codes


EXAMPLES = """examples:
  seed-hf report photos --output report.html
  seed-hf report photos --model owner/seed-1 --output report.html
  seed-hf report photos --language-model seed-mini --output report.html     # its bits a code, too
  seed-hf report codes.jsonl --output report.html     # what seed-hf tokenize wrote: the codes alone
"""


def run(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATHS...",
            help="Image files, folders with images or globs, or one .jsonl or .parquet file of seed-hf tokenize, or "
            "folder of seed-hf encode; by default the shipped drawings, which are few.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="HTML file to write; a JSON file of the same name goes beside it.")
    ] = Path("report.html"),
    limit: Annotated[int, typer.Option(metavar="NUMBER", help="Number of images at most, spread over all.")] = 256,
    model: Annotated[str, model_flag("an image tokenizer or a pipeline")] = "seed-mini",
    language_model: Annotated[
        str | None, model_flag(f"{LANGUAGE_MODEL}, which says what a code tells when those before it are known")
    ] = None,
    device: Device = None,
) -> int:
    """Writes the page and the numbers, and prints the faults."""
    # these bring torch, for which `--help` must not wait
    from ..data.resumable import write_whole
    from ..hub.fetch import find_image_tokenizer
    from ..loading import load_image_tokenizer, load_language_model
    from ..mini import mini_pictures_path
    from ..models.image_processing_seed import SeedImageProcessor
    from ..provenance import describe_model, package_versions
    from ..report import make_report, write_page

    if limit < 2:
        raise ValueError(f"`--limit` is {limit}; allowed: 2 or more.")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"`--output` is {str(output)!r}; allowed: a name that ends in .html.")
    output.parent.mkdir(parents=True, exist_ok=True)
    failures = Failures()
    paths = paths or [mini_pictures_path()]
    is_codes = len(paths) == 1 and has_codes(paths[0])
    files = [] if is_codes else find_images(paths, failures)
    image_tokenizer, _, folder = load_image_tokenizer(*announce(model, device))
    speaker = None if language_model is None else load_language_model(language_model, device)
    if is_codes:
        images, (_, codes) = None, read_codes(Path(paths[0]))
        name, settings = f"{paths[0]} ({model})", {"codes": codes, "model": image_tokenizer}
    else:
        images = _read(files[:: max(1, -(-len(files) // limit))], failures)
        processor = SeedImageProcessor.from_pretrained(find_image_tokenizer(model)[1])
        name, settings = model, {"model": image_tokenizer, "processor": processor, "images": images}
    report = make_report(name, image_tokenizer.config, **settings, language_model=speaker)
    report |= {"model": describe_model(model, folder), "data": [Path(path).name for path in paths]}
    report |= {"versions": package_versions()}
    if language_model is not None:
        report["language_model"]["name"] = language_model
    write_page(report, output, image_tokenizer if images else None, images)
    numbers = {key: value for key, value in report.items() if key != "codes"}
    with write_whole(output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    for fault in report["faults"]:
        print(f"{fault['name']}: {fault['text']}")
    print(f"wrote {output} and {output.with_suffix('.json').name}: {len(report['faults'])} faults", file=sys.stderr)
    return failures.finish()


def _read(files: list[Path], failures: Failures) -> list:
    from ..models.image_processing_seed import load_rgb_image

    images = []
    for file in files:
        try:
            images.append(load_rgb_image(file, name=str(file)))
        except ValueError as error:
            failures.add(f"{file}: {error.__cause__ or error}")
    return images


__all__ = ["run"]
