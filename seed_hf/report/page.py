"""The report card as one HTML file that needs nothing else: figures are drawn in it, images are inside."""

import base64
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..demo.page import STYLE
from ..edits import nearest


OWN_STYLE = """
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
.fault { border-left: 4px solid #c8502d; padding: .25rem 1rem; background: var(--card); margin: .5rem 0; }
.fine { border-left: 4px solid #3f9a5a; padding: .25rem 1rem; background: var(--card); margin: .5rem 0; }
.same { display: flex; gap: 4px; flex-wrap: wrap; align-items: center; margin: .25rem 0; }
.same img { width: 44px; height: 44px; } .same span { min-width: 11rem; font-size: .8rem; color: var(--soft); }
"""
SIDE = 48
WIDTH, HEIGHT = 560, 170


def write_page(report: dict[str, Any], path: Path, model: Any = None, images: list[Image.Image] | None = None) -> None:
    """
    Writes a report card.

    Args:
        report (`dict`): What [`~seed_hf.report.make_report`] gives.
        path (`Path`): HTML file to write.
        model ([`SeedImageTokenizer`] or [`ImageTokenizer`], *optional*): Shows, with `images`, what codes stand for.
        images (`list[PIL.Image.Image]`, *optional*): The images whose codes the report is about.
    """
    places = report["places"]
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Report: {escape(report["name"])}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}{OWN_STYLE}</style></head><body><h1>{escape(report['name'])}</h1>",
        f'<p class="soft">Report card of an image tokenizer, from {report["num_images"]:,} images of '
        f"{report['num_codes']} codes each.</p>",
        _faults(report["faults"]),
        "<h2>In numbers</h2>",
        _table(_numbers(report)),
        _figure(
            "Codes in use at each place",
            f"The line is the number of codes that may stand at a place, {report['codes_per_place']:,}.",
            _bars([place["num_used"] for place in places], report["codes_per_place"], "codes"),
        ),
        _figure(
            "Bits of each place",
            f"Entropy of the codes at each place; the line is the most that is possible, {_most(report):.1f} bits. "
            "With few images it cannot be reached.",
            _bars([place["entropy"] for place in places], _most(report)),
        ),
        _figure(
            "What the code before leaves open",
            "Bits of each place that are not known yet when the code before it is known.",
            _bars([place["conditional_entropy"] for place in places], _most(report)),
        ),
    ]
    if report.get("language_model"):
        parts.append(
            _figure(
                "What all codes before leave open",
                "Bits of each place for a language model that knows all codes before it. It needs at least the "
                "conditional entropy, and has not seen these images.",
                _bars(report["language_model"]["places"], _most(report)),
            )
        )
    if report.get("prefixes"):
        parts.append(
            _figure(
                "What the first codes say",
                "Share of images that are found among all images by the first codes alone.",
                _curve({int(count): share for count, share in report["prefixes"].items()}),
            )
        )
    if report.get("stability"):
        rows = [(name, f"{100 * share:.1f} %") for name, share in report["stability"].items()]
        parts.append(f"<h2>Codes that stay the same</h2>{_table(rows)}")
    if model is not None and images:
        parts.append(_neighbours(report, model, images))
    path.write_text("\n".join([*parts, "</body></html>\n"]), encoding="utf-8")


def _most(report: dict[str, Any]) -> float:
    return report["most_bits_per_image"] / report["num_codes"]


def _faults(faults: list[dict[str, str]]) -> str:
    if not faults:
        return '<div class="fine">No fault was found.</div>'
    return "".join(
        f'<div class="fault"><strong>{escape(fault["name"])}</strong>: {escape(fault["text"])}</div>'
        for fault in faults
    )


def _numbers(report: dict[str, Any]) -> list[tuple[str, str]]:
    used = report["codebook_size"] - report["dead_codes"]
    rows = [
        ("codes in use", f"{used:,} of {report['codebook_size']:,}"),
        ("dead codes, which no image has", f"{report['dead_codes']:,}"),
        ("perplexity of all codes", f"{report['perplexity']:,.1f}"),
        ("bits of an image", f"{report['bits_per_image']:.0f} of {report['most_bits_per_image']:.0f}"),
        ("the same, each code given the one before", f"{report['conditional_bits_per_image']:.0f}"),
        ("images with the codes of another image", f"{report['equal_images']:,}"),
    ]
    if told := report.get("language_model"):
        bits = f"{told['bits_per_image']:.0f}, {told['bits_per_code']:.2f} a code"
        rows.append(("bits of an image for the language model", bits))
    if "relative_error" in report:
        rows.append(("error of the codes, relative to the variance", f"{report['relative_error']:.2f}"))
    if "leak" in report:
        rows.append(("a query changes codes before it by", f"{100 * report['leak']:.2g} % of its own change"))
    return rows


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _figure(title: str, text: str, svg: str) -> str:
    return f'<h2>{escape(title)}</h2><p class="soft">{escape(text)}</p><article>{svg}</article>'


def _svg(body: str, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 20}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _bars(values: list[float], most: float, unit: str = "bits") -> str:
    most = max(most, *values)  # a language model may need more bits than there are codes
    step = (WIDTH - 20) / len(values)
    bars = "".join(
        f'<rect x="{10 + step * number:.1f}" y="{HEIGHT - HEIGHT * value / most:.1f}" width="{max(1, step - 3):.1f}" '
        f'height="{HEIGHT * value / most:.1f}" fill="var(--accent)">'
        f"<title>place {number + 1}: {value if isinstance(value, int) else round(value, 2)} {unit}</title></rect>"
        for number, value in enumerate(values)
    )
    ticks = "".join(
        f'<text x="{10 + step * (number + 0.5):.1f}" y="{HEIGHT + 14}" text-anchor="middle">{number + 1}</text>'
        for number in range(0, len(values), max(1, len(values) // 8))
    )
    line = f'<line x1="5" x2="{WIDTH - 5}" y1="1" y2="1" stroke="var(--soft)" stroke-dasharray="4 4"/>'
    return _svg(line + bars + ticks, f"{unit} of each place")


def _curve(points: dict[int, float]) -> str:
    last = max(points)
    spots = [(30 + (WIDTH - 50) * count / last, 10 + (HEIGHT - 20) * (1 - share)) for count, share in points.items()]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--accent)">'
        f"<title>first {count}: {100 * share:.0f} %</title></circle>"
        f'<text x="{x:.1f}" y="{HEIGHT + 14}" text-anchor="middle">{count}</text>'
        for (x, y), (count, share) in zip(spots, points.items(), strict=True)
    )
    scale = f'<text x="0" y="14">100 %</text><text x="0" y="{HEIGHT - 6}">0 %</text>'
    return _svg(
        f'{scale}<polyline points="{line}" fill="none" stroke="var(--accent)"/>{marks}', "share by number of codes"
    )


def _neighbours(report: dict[str, Any], model: Any, images: list[Image.Image]) -> str:
    """Images that share a code, and those with the nearest other code, at four places."""
    codes = torch.tensor(report["codes"])
    rows = []
    for place in sorted({0, codes.shape[1] // 3, 2 * codes.shape[1] // 3, codes.shape[1] - 1}):
        values, counts = codes[:, place].unique(return_counts=True)
        code = values[counts.argmax()]
        others = nearest(model, code, k=1)
        for name, value in (("code", code), ("nearest code", others[0])):
            shown = (codes[:, place] == value).nonzero()[:10, 0].tolist()
            pictures = "".join(_image(images[number]) for number in shown) or "no image has it"
            rows.append(f'<div class="same"><span>place {place + 1}, {name} {int(value)}</span>{pictures}</div>')
    text = "Images with the most frequent code of a place, and images with the code whose vector is nearest to it."
    return f'<h2>What codes stand for</h2><p class="soft">{text}</p>{"".join(rows)}'


def _image(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((2 * SIDE, 2 * SIDE))
    file = BytesIO()
    small.save(file, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


__all__ = ["write_page"]
