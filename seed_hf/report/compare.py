"""Several image tokenizers beside each other, on the same images: one page."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..image_tokenizers import ImageTokenizer, decode_images
from .page import OWN_STYLE, STYLE, _bars, _faults, _image, _most


NUM_RECONSTRUCTED = 8
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Image tokenizers compared</title>
<meta name="viewport" content="width=device-width, initial-scale=1">"""
# name of a row -> its text for one report
_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda report: report["tokenizer"],
    "side of an image, pixels": lambda report: f"{report['image_size']}",
    "codes of an image": lambda report: f"{report['num_codes']:,}",
    "codes in the codebook": lambda report: f"{report['codebook_size']:,}",
    "bits of an image, at most": lambda report: f"{report['most_bits_per_image']:,.0f}",
    "bits of an image, measured": lambda report: f"{report['bits_per_image']:,.0f}",
    "codes in use": lambda report: f"{report['codebook_size'] - report['dead_codes']:,}",
    "perplexity of all codes": lambda report: f"{report['perplexity']:,.1f}",
    "images with the codes of another image": lambda report: f"{report['equal_images']:,}",
    "error of the codes, relative to the variance": lambda report: f"{report['relative_error']:.2f}",
    "codes that stay after JPEG, quality 75": lambda report: _stable(report, "JPEG"),
    "codes that stay after half the size": lambda report: _stable(report, "resized"),
    "codes that stay in bfloat16": lambda report: _stable(report, "bfloat16"),
    "PSNR of reconstructions, dB": lambda report: _psnr(report),
    "faults": lambda report: f"{len(report['faults'])}",
}


def reconstruct(tokenizer: ImageTokenizer, images: list[Image.Image], codes: Any) -> dict[str, Any] | None:
    """
    Turns the codes of the first images into images again.

    Args:
        tokenizer ([`ImageTokenizer`]): Any.
        images (`list[PIL.Image.Image]`): RGB.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Their codes.

    Returns:
        `dict`: `images`, at most 8, and `psnr`, the mean of theirs in decibels; `None` where there is no decoder.
    """
    if not tokenizer.can_decode:
        return None
    drawn = decode_images(tokenizer, codes[:NUM_RECONSTRUCTED])
    values = [_decibels(image.resize(picture.size), picture) for image, picture in zip(images, drawn, strict=False)]
    return {"images": drawn, "psnr": sum(values) / len(values)}


def _decibels(image: Image.Image, picture: Image.Image) -> float:
    first, second = (np.asarray(each.convert("RGB"), dtype=np.float64) / 255 for each in (image, picture))
    return float(-10 * np.log10(max(1e-10, np.square(first - second).mean())))


def write_comparison(
    reports: list[dict[str, Any]], path: Path, images: list[Image.Image], pictures: list[list[Image.Image] | None]
) -> None:
    """
    Writes the page.

    Args:
        reports (`list[dict]`): What [`~seed_hf.report.make_report`] gives for each image tokenizer on the same images,
            with `tokenizer` (the class of the model), `image_size` (in pixels) and `psnr` (in decibels, or `None`).
        path (`Path`): HTML file to write.
        images (`list[PIL.Image.Image]`): The images.
        pictures (`list`): For each image tokenizer the images of [`reconstruct`], or `None`.
    """
    names = [report["name"] for report in reports]
    parts = [
        f"{_HEAD}<style>{STYLE}{OWN_STYLE}</style></head><body><h1>Image tokenizers compared</h1>",
        f'<p class="soft">{len(names)} image tokenizers on the same {len(images):,} images, each made into a square '
        "of the size that the image tokenizer reads. Only numbers of the same images can be compared.</p>",
        _table(names, reports),
        _pictures(names, images, pictures),
    ]
    for report in reports:
        bits = _bars([place["entropy"] for place in report["places"]], _most(report))
        parts.append(f"<h2>{escape(report['name'])}: bits of each place</h2>")
        parts.append(f"<article>{bits}</article>{_faults(report['faults'])}")
    path.write_text("\n".join([*parts, "</body></html>\n"]), encoding="utf-8")


def _table(names: list[str], reports: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
    lines = [f"<tr>{head}</tr>"]
    for name, text_of in _ROWS.items():
        cells = "".join(f"<td>{escape(text_of(report))}</td>" for report in reports)
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _pictures(names: list[str], images: list[Image.Image], pictures: list[list[Image.Image] | None]) -> str:
    rows = {"image": images[:NUM_RECONSTRUCTED], **dict(zip(names, pictures, strict=True))}
    lines = [
        f'<div class="same"><span>{escape(name)}</span>{"".join(map(_image, shown)) if shown else "no decoder"}</div>'
        for name, shown in rows.items()
    ]
    text = (
        "Images again from their codes alone. An image tokenizer that keeps what an image shows, and not its pixels, "
        "has a low PSNR even where it is good."
    )
    return f'<h2>Reconstructions</h2><p class="soft">{text}</p>{"".join(lines)}'


def _stable(report: dict[str, Any], start: str) -> str:
    return next(f"{100 * share:.1f} %" for name, share in report["stability"].items() if name.startswith(start))


def _psnr(report: dict[str, Any]) -> str:
    return "no decoder" if report["psnr"] is None else f"{report['psnr']:.1f}"


__all__ = ["reconstruct", "write_comparison"]
