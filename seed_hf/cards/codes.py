"""The main numbers of `seed-hf report`, for the card of the image tokenizer that it was about."""

import json
import os
from pathlib import Path

from .results import weights_in


REPORT_FILE = "evaluation/report.json"


def read_report(path: str | os.PathLike, folder: Path) -> dict[str, list[str] | str]:
    r"""
    Reads a report of `seed-hf report`, and makes sure that it is about the weights in a folder.

    Args:
        path (`str` or `os.PathLike`): JSON file that `seed-hf report` wrote.
        folder (`Path`): Folder of the repository.

    Returns:
        `dict`: `text`, a line on what was measured, and `rows`, a name and a text of each number.

    Raises:
        ValueError: The file is no report of images, or one of other weights.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        measured, rows = report["model"]["sha256"], _rows(report)
        text = f"{report['num_images']:,} images of {', '.join(report['data'])}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"`report` is {str(path)!r}, which is no report of `seed-hf report` on images: {error!r}."
        ) from error
    own = weights_in(folder)
    if measured not in own:
        raise ValueError(
            f"`report` is {str(path)!r}, which is about the weights {measured}; allowed: {sorted(own)}, those in "
            f"{str(folder)!r}."
        )
    return {"text": text, "rows": rows, "file": REPORT_FILE}


def _rows(report: dict) -> list[tuple[str, str]]:
    size, told = report["codebook_size"], report.get("language_model")
    rows = [
        ("codes in use", f"{size - report['dead_codes']:,} of {size:,}"),
        ("perplexity of all codes", f"{report['perplexity']:,.0f}"),
        ("bits of an image", f"{report['bits_per_image']:.0f} of {report['most_bits_per_image']:.0f}"),
        ("the same, each code given the one before", f"{report['conditional_bits_per_image']:.0f}"),
    ]
    if told:
        rows.append(("the same, by the language model given all before", f"{told['bits_per_image']:.0f}"))
    rows += [(f"codes that stay: {name}", f"{100 * share:.1f} %") for name, share in report["stability"].items()]
    rows += [
        (f"images found by their first {'code' if int(count) == 1 else f'{count} codes'}", f"{100 * share:.0f} %")
        for count, share in (report["prefixes"] or {}).items()
        if int(count).bit_count() == 1  # enough for a card
    ]
    rows.append(("a query changes codes before it by", f"{100 * report['leak']:.2g} % of its own change"))
    return [*rows, ("faults", ", ".join(fault["name"] for fault in report["faults"]) or "none")]


__all__ = ["REPORT_FILE", "read_report"]
