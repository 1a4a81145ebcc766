"""Metrics of a training run: means over steps, in `metrics.jsonl` and a tracker, and a plot of them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from transformers.utils import logging

from ..provenance import describe_machine, package_versions


logger = logging.get_logger(__name__)

_FILE_NAME = "metrics.jsonl"
MACHINE_FILE = "training_machine.json"


class MetricsLog:
    """Averages the metrics of steps and writes them, from the main process only.

    Args:
        output_dir (`str` or `os.PathLike`): folder of the run.
        accelerator (`Accelerator`): tells which process is the main one, and holds the tracker.

    Attributes:
        window (`dict[str, list[float]]`): `[sum, count]` by metric since the last line; saved with checkpoints so that
            a resumed run writes the same lines.
    """

    def __init__(self, output_dir: str | os.PathLike, accelerator: Accelerator):
        self.path = Path(output_dir) / _FILE_NAME
        self.accelerator = accelerator
        self.window: dict[str, list[float]] = {}

    def start(self, step: int, arguments: Mapping) -> None:
        """Opens the files; lines after `step`, from a run that was killed, are dropped, and damaged ones set aside.

        Args:
            step (`int`): optimizer updates done.
            arguments (`Mapping`): written to `training_arguments.json`; `training_machine.json` says what it runs on.
        """
        if self.accelerator.is_main_process:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self._read_or_set_aside() if self.path.exists() else []
            kept = [line for line in lines if line["step"] <= step]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            os.replace(temporary, self.path)
            arguments_file = self.path.parent / "training_arguments.json"
            arguments_file.write_text(json.dumps(dict(arguments), indent=2, default=str))
            machine = {"machine": describe_machine(), "num_processes": self.accelerator.num_processes}
            machine_file = self.path.parent / MACHINE_FILE
            machine_file.write_text(json.dumps({**machine, "versions": package_versions()}, indent=2))
        self.accelerator.init_trackers("logs", init_kwargs={"tensorboard": {"purge_step": step + 1}})

    def _read_or_set_aside(self) -> list[dict[str, float]]:
        """A damaged log must not keep a run from going on."""
        lines, damaged = _split_lines(self.path)
        if damaged:
            aside = self.path.with_suffix(".damaged")
            with aside.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in damaged.values()))
            logger.warning(f"Damaged lines of {self.path} are now in {aside}; their numbers were {list(damaged)[:8]}.")
        return lines

    def add(self, metrics: Mapping[str, float], num_samples: int, seconds: float) -> None:
        """Adds one step.

        Args:
            metrics (`Mapping[str, float]`): numbers of the step.
            num_samples (`int`): samples read, over all processes.
            seconds (`float`): wall time of the step.
        """
        for name, value in {**metrics, "_samples": num_samples, "_seconds": seconds}.items():
            total, count = self.window.get(name, (0.0, 0))
            self.window[name] = [total + value, count + 1]

    def write(self, step: int, max_steps: int) -> dict[str, float]:
        """Writes the means since the last line, and begins anew.

        Args:
            step (`int`): optimizer updates done.
            max_steps (`int`): optimizer updates in all.

        Returns:
            `dict[str, float]`: a few of them for the progress bar.
        """
        samples, (seconds, num_steps) = self.window.pop("_samples")[0], self.window.pop("_seconds")
        means = {name: total / count for name, (total, count) in self.window.items()}
        self.window = {}
        means["images_per_second"] = round(samples / max(seconds, 1e-9), 2)
        means["seconds"] = round(seconds, 3)
        if "tokens" in means:
            means["tokens_per_second"] = round(means["tokens"] * num_steps / max(seconds, 1e-9), 1)
        means["eta_seconds"] = round((max_steps - step) * seconds / num_steps, 1)
        if self.accelerator.device.type == "cuda":
            means["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        self._append(step, means)
        return {"loss": round(means["loss"], 4), "images/s": means["images_per_second"]}

    def write_evaluation(self, step: int, results: Mapping[str, float]) -> None:
        """Writes the results of an evaluation, with `eval_` before their names.

        Args:
            step (`int`): optimizer updates done.
            results (`Mapping[str, float]`): numbers by name.
        """
        self._append(step, {f"eval_{name.removeprefix('eval_')}": float(value) for name, value in results.items()})

    def write_picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Keeps a picture, such as a grid of samples, in the output folder and shows it to the tracker.

        Args:
            step (`int`): optimizer updates done.
            name (`str`): what it shows; the file is `<name>-<step>.png`.
            picture (`PIL.Image.Image`): RGB.
        """
        if self.accelerator.is_main_process:
            picture.save(self.path.parent / f"{name}-{step}.png")
        for tracker in self.accelerator.trackers:
            settings = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            if hasattr(tracker, "log_images"):
                tracker.log_images({name: np.asarray(picture)[None]}, step=step, **settings)

    def _append(self, step: int, values: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        self.accelerator.log(values, step=step)

    def close(self) -> None:
        """Flushes and closes the tracker."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """Reads `metrics.jsonl`; a last line that a kill cut off is left out.

    Args:
        path (`str` or `os.PathLike`): the file.

    Returns:
        `list[dict[str, float]]`: its lines, each with `step`.

    Raises:
        ValueError: if a line other than the last is not what a run writes.
    """
    lines, damaged = _split_lines(Path(path))
    for number, line in damaged.items():
        raise ValueError(f"Line {number} of {path} is not JSON with a step: {line[:80]!r}.")
    return lines


def _split_lines(path: Path) -> tuple[list[dict[str, float]], dict[int, bytes]]:
    """Lines of a run, and by number what can not be one; a last line that was cut off is neither."""
    content = path.read_bytes().split(b"\n")
    lines, damaged = [], {}
    for number, line in enumerate(content, start=1):
        try:
            found = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):  # no JSON, or no UTF-8
            found = {}
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            lines.append(found)
        elif found is not None:
            damaged[number] = line
    last = max((number for number, line in enumerate(content, start=1) if line.strip()), default=0)
    damaged.pop(last, None)
    return lines, damaged


def plot_metrics(path: str | os.PathLike, picture: str | os.PathLike) -> None:
    """Draws every metric of a run against the step, one small panel each.

    Args:
        path (`str` or `os.PathLike`): `metrics.jsonl` of the run.
        picture (`str` or `os.PathLike`): file to write, such as `curves.png`.

    Raises:
        ValueError: if there is nothing to draw.
    """
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
