"""What has become worse since the results that are kept, and the curves of results."""

import json
import re
from pathlib import Path


# Of a ratio: what two runs of the same code differ by where the rows say nothing of their own spread.
LEAST_TOLERANCE = 0.03
UNKNOWN_TOLERANCE = 0.1
_MACHINE_KIND = ("cpu", "cores", "torch_threads", "gpu")


def read_results(folder: Path, names) -> dict[str, dict]:
    """Results of the benchmarks that have been run, by name."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def what_got_worse(kept: dict[str, dict], now: dict[str, dict]) -> list[str]:
    """Compares ratios with those of an earlier run.

    Args:
        kept (`dict[str, dict]`): Results of the earlier run, from [`read_results`].
        now (`dict[str, dict]`): Results of this run.

    Returns:
        `list[str]`: a line for each ratio that is worse by more than both runs' spread, for each case that is no
        longer there, and for each benchmark that another kind of machine or another size was kept of.
    """
    lines = []
    for name in kept.keys() & now.keys():
        before, after = _kind(kept[name]), _kind(now[name])
        if before != after:
            lines.append(f"{name}: not compared, since {before} was kept and this is {after}")
            continue
        rows = {row["case"]: row for row in now[name]["rows"]}
        for row in kept[name]["rows"]:
            if row["case"] not in rows:
                lines.append(f"{name}: {row['case']} is no longer measured")
            elif _is_worse(row, rows[row["case"]]):
                lines.append(f"{name}: {row['case']}: {_shown(row)} before, {_shown(rows[row['case']])} now")
    return sorted(lines)


def _kind(result: dict) -> str:
    kind = ", ".join(f"{name} {result['machine'].get(name)}" for name in _MACHINE_KIND if result["machine"].get(name))
    return kind + (", toy sizes" if result["quick"] else "")


def _is_worse(before: dict, now: dict) -> bool:
    if before["ratio"] is None or now["ratio"] is None:
        return now["met"] is False and before["met"] is True
    change = (now["ratio"] - before["ratio"]) / before["ratio"]
    return (-change if now.get("better") == "higher" else change) > _tolerance(before) + _tolerance(now)


def _shown(row: dict) -> str:
    if row["ratio"] is None:
        return "goal met" if row["met"] else "goal missed"
    return f"{row['ratio']:.3f}"


def _tolerance(row: dict) -> float:
    """Half of what lies between the quartiles of the rounds, as a share of the ratio."""
    timed = row.get("timed", {})
    if timed.get("rounds", 0) < 3:
        return UNKNOWN_TOLERANCE
    return max(timed["ratio_spread"] / timed["ratio"], LEAST_TOLERANCE)


def draw_curves(folder: Path, name: str, rows: list[dict]) -> list[Path]:
    """Draws the rows with a `point`, one picture for each curve.

    Args:
        folder (`Path`): Folder to write to.
        name (`str`): Name of the benchmark.
        rows (`list[dict]`): Rows of the benchmark.

    Returns:
        `list[Path]`: the pictures.
    """
    curves: dict[str, list[dict]] = {}
    for row in rows:
        if "point" in row:
            curves.setdefault(row["point"]["curve"], []).append(row["point"])
    return [_draw(folder / f"{name}-{_slug(title)}.png", title, points) for title, points in curves.items()]


def _draw(path: Path, title: str, points: list[dict]) -> Path:
    # inside, since only results with curves need it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for line in dict.fromkeys(point["line"] for point in points):
        pairs = sorted(_values(point) for point in points if point["line"] == line)
        axes.plot(*zip(*pairs, strict=True), marker="o", label=line)
    for axis, values in zip("xy", zip(*map(_values, points), strict=True), strict=True):
        if min(values) > 0 and max(values) > 30 * min(values):
            axes.set(**{f"{axis}scale": "log"})
    axes.set(title=title, xlabel=next(iter(points[0]["x"])), ylabel=next(iter(points[0]["y"])))
    axes.legend()
    figure.savefig(path, dpi=100)
    return path


def _values(point: dict) -> tuple[float, float]:
    return next(iter(point["x"].values())), next(iter(point["y"].values()))


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")
