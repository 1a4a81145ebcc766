"""The log of a training run, `metrics.jsonl`: reading and plotting it. Imports no torch."""

import json
import os
from pathlib import Path


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """Reads `metrics.jsonl`; a last line that a kill cut off is left out.

    Args:
        path (`str` or `os.PathLike`): The file.

    Returns:
        `list[dict[str, float]]`: Its lines, each with `step`.

    Raises:
        ValueError: If a line other than the last is not what a run writes.
    """
    lines, damaged = split_lines(Path(path))
    for number, line in damaged.items():
        raise ValueError(f"Line {number} of {path} is not JSON with a step: {line[:80]!r}.")
    return lines


def split_lines(path: Path) -> tuple[list[dict[str, float]], dict[int, bytes]]:
    """Lines of a run, and by number what cannot be one; a last line that was cut off is neither."""
    content = path.read_bytes().split(b"\n")
    lines, damaged = [], {}
    for number, line in enumerate(content, start=1):
        try:
            values = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):  # no JSON, or no UTF-8
            values = {}
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            lines.append(values)
        elif values is not None:
            damaged[number] = line
    last = max((number for number, line in enumerate(content, start=1) if line.strip()), default=0)
    damaged.pop(last, None)
    return lines, damaged


def plot_metrics(path: str | os.PathLike, picture: str | os.PathLike) -> None:
    """Draws every metric of a run against the step, one small panel each.

    Args:
        path (`str` or `os.PathLike`): `metrics.jsonl` of the run.
        picture (`str` or `os.PathLike`): File to write, such as `curves.png`.

    Raises:
        ValueError: If there is nothing to draw.
    """
    # here, since matplotlib takes a second and is needed for this only
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_metrics(path)
    names = sorted({name for line in lines for name in line} - {"step", "seconds", "eta_seconds"})
    if not names:
        raise ValueError(f"path={str(path)!r} holds no metrics.")
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(rows, columns, squeeze=False).flat, names, strict=False):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(names) :]:
        axes.set_visible(False)
    figure.savefig(picture, dpi=110)
