"""`seed-hf report`: the report card of an image tokenizer, by [`~seed_hf.report.make_report`]."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .flags import LANGUAGE_MODEL, Device, ImageSize, announce, model_flag
from .images import Failures, find_images, has_codes, read_codes, reason_of


# of an image in memory; no image tokenizer sees more
_LONGEST_SIDE = 1024

EXAMPLES = """examples:
  seed-hf report photos --output report.html
  seed-hf report photos --model owner/seed-1 --output report.html
  seed-hf report photos --model seed-mini janus --output compared.html     # beside each other
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
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", help="Number of images at most, spread over all; of codes all count.")
    ] = 256,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL...",
            help="Folder or Hub id of an image tokenizer or a pipeline, by default seed-mini; several are compared on "
            "the same images, in one page.",
        ),
    ] = None,
    language_model: Annotated[
        str | None, model_flag(f"{LANGUAGE_MODEL}, which says what a code tells when those before it are known")
    ] = None,
    device: Device = None,
    image_size: ImageSize = None,
) -> int:
    """Writes the page and the numbers, and prints the faults."""
    # these bring torch, for which `--help` must not wait
    from ..mini import mini_pictures_path

    if limit < 2:
        raise ValueError(f"`--limit` is {limit}; allowed: 2 or more.")
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"`--output` is {str(output)!r}; allowed: a name that ends in .html.")
    output.parent.mkdir(parents=True, exist_ok=True)
    failures, models = Failures(), model or ["seed-mini"]
    paths = paths or [mini_pictures_path()]
    is_codes = len(paths) == 1 and has_codes(paths[0])
    if len(models) > 1 and (is_codes or language_model):
        raise ValueError(f"`--model` names {len(models)} models; allowed: one, with codes or a language model.")
    files = [] if is_codes else find_images(paths, failures)
    about = {"data": [Path(path).name for path in paths]}
    images = None if is_codes else _read(files[:: max(1, -(-len(files) // limit))], failures)
    if images == []:
        raise ValueError(f"`PATHS` is {paths}, with no image that can be read; allowed: images, or a file of codes.")
    if len(models) > 1:
        reports = _compare(models, images, output, device, image_size, about)
        _write_numbers(output, {"reports": reports})
    else:
        image_tokenizer, speaker = _load(models[0], language_model, device, image_size)
        report = _report(models[0], image_tokenizer, paths, images, speaker) | about
        if language_model is not None:
            report["language_model"]["name"] = language_model
        _write_one(report, output, image_tokenizer, images)
        reports = [report]
    _print_faults(reports, output)
    return failures.finish()


def _load(model: str, language_model: str | None, device: str | None, image_size: int | None) -> tuple:
    from ..loading import load_image_tokenizer, load_language_model

    image_tokenizer = load_image_tokenizer(*announce(model, device), image_size)
    return image_tokenizer, None if language_model is None else load_language_model(language_model, device)


def _report(name: str, image_tokenizer, paths: list[str], images: list | None, speaker: tuple | None = None) -> dict:
    """Of images, or where there are none, of the codes at the only path."""
    from ..models.image_tokens_seed import check_codes
    from ..provenance import describe_model, package_versions
    from ..report import make_report

    settings = {"model": image_tokenizer, "images": images, "language_model": speaker}
    if images is None:
        codes = read_codes(Path(paths[0]))[1]
        settings["codes"] = check_codes(codes, image_tokenizer.codebook_size, image_tokenizer.num_codes)
    title = name if images is not None else f"{paths[0]} ({name})"
    report = make_report(title, image_tokenizer, **settings)
    return report | {"model": describe_model(name, image_tokenizer.folder), "versions": package_versions()}


def _write_one(report: dict, output: Path, image_tokenizer, images: list | None) -> None:
    from ..report import write_page

    write_page(report, output, image_tokenizer if images else None, images)
    _write_numbers(output, {key: value for key, value in report.items() if key != "codes"})


def _compare(models: list[str], images: list, output: Path, device, image_size, about: dict) -> list[dict]:
    """One after the other, so that only one is in memory."""
    import torch

    from ..image_tokenizers import find_image_tokenizer_files
    from ..report import reconstruct, write_comparison

    reports, pictures = [], []
    for name in models:
        size = None if find_image_tokenizer_files(name).has_one_size else image_size
        image_tokenizer, _ = _load(name, None, device, size)
        report = _report(name, image_tokenizer, [], images) | about
        drawn = reconstruct(image_tokenizer, images, torch.tensor(report.pop("codes")))
        sizes = {"tokenizer": image_tokenizer.name, "image_size": image_tokenizer.image_size}
        reports.append(report | sizes | {"psnr": drawn and drawn["psnr"]})
        pictures.append(drawn and drawn["images"])
    write_comparison(reports, output, images, pictures)
    return reports


def _write_numbers(output: Path, numbers: dict) -> None:
    from ..data.resumable import write_whole

    with write_whole(output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def _print_faults(reports: list[dict], output: Path) -> None:
    faults = [(report["name"], fault) for report in reports for fault in report["faults"]]
    for name, fault in faults:
        start = f"{name}: " if len(reports) > 1 else ""
        print(f"{start}{fault['name']}: {fault['text']}")
    print(f"wrote {output} and {output.with_suffix('.json').name}: {len(faults)} faults", file=sys.stderr)


def _read(files: list[Path], failures: Failures) -> list:
    from ..models.image_processing_seed import load_rgb_image

    images = []
    for file in files:
        try:
            image = load_rgb_image(file, name=str(file))
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
            images.append(image)
        except ValueError as error:
            failures.add(f"{file}: {reason_of(error)}")
    return images


__all__ = ["run"]
