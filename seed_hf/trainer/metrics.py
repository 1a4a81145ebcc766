"""Metrics of a training run: means over steps, in `metrics.jsonl` and a tracker."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from transformers.utils import logging

from ..data.resumable import write_whole
from ..provenance import describe_machine, package_versions
from .curves import split_lines


logger = logging.get_logger(__name__)

_FILE_NAME = "metrics.jsonl"
MACHINE_FILE = "training_machine.json"


class MetricsLog:
    """Averages the metrics of steps and writes them, from the main process only.

    Args:
        output_dir (`str` or `os.PathLike`): Folder of the run.
        accelerator (`Accelerator`): Tells which process is the main one, and holds the tracker.

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
            step (`int`): Number of optimizer updates made.
            arguments (`Mapping`): Written to `training_arguments.json`; `training_machine.json` says what it runs on.
        """
        if self.accelerator.is_main_process:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self._read_or_set_aside() if self.path.exists() else []
            kept = [line for line in lines if line["step"] <= step]
            with write_whole(self.path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
            arguments_file = self.path.parent / "training_arguments.json"
            arguments_file.write_text(json.dumps(dict(arguments), indent=2, default=str))
            machine = {"machine": describe_machine(), "num_processes": self.accelerator.num_processes}
            machine_file = self.path.parent / MACHINE_FILE
            machine_file.write_text(json.dumps({**machine, "versions": package_versions()}, indent=2))
        self.accelerator.init_trackers("logs", init_kwargs={"tensorboard": {"purge_step": step + 1}})

    def _read_or_set_aside(self) -> list[dict[str, float]]:
        """A damaged log must not keep a run from going on."""
        lines, damaged = split_lines(self.path)
        if damaged:
            aside = self.path.with_suffix(".damaged")
            with aside.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in damaged.values()))
            logger.warning(f"Damaged lines of {self.path} are now in {aside}; their numbers were {list(damaged)[:8]}.")
        return lines

    def add(self, metrics: Mapping[str, float], num_samples: int, seconds: float) -> None:
        """Adds one step.

        Args:
            metrics (`Mapping[str, float]`): Numbers of the step.
            num_samples (`int`): Samples read, over all processes.
            seconds (`float`): Wall time of the step.
        """
        for name, value in {**metrics, "_samples": num_samples, "_seconds": seconds}.items():
            total, count = self.window.get(name, (0.0, 0))
            self.window[name] = [total + value, count + 1]

    def write(self, step: int, max_steps: int) -> dict[str, float]:
        """Writes the means since the last line, and starts again.

        Args:
            step (`int`): Number of optimizer updates made.
            max_steps (`int`): Total number of optimizer updates.

        Returns:
            `dict[str, float]`: A few of them for the progress bar.
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
            step (`int`): Number of optimizer updates made.
            results (`Mapping[str, float]`): Numbers by name.
        """
        self._append(step, {f"eval_{name.removeprefix('eval_')}": float(value) for name, value in results.items()})

    def write_picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Keeps a picture, such as a grid of samples, in the output folder and shows it to the tracker.

        Args:
            step (`int`): Number of optimizer updates made.
            name (`str`): What it shows; the file is `<name>-<step>.png`.
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
