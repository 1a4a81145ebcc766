"""Stages that are killed at random moments and started again, compared with ones that nobody killed."""

import json
import os
import random
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch._dynamo  # noqa: F401  the first step of an optimizer imports it: so early that all forks have it
from filelock import FileLock

from fuzz.stages import STAGES, Stage
from fuzz.target import Target


# What Python says of changes of files; libraries in C and Rust write between these.
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "shutil.rmtree")
DELAYS = (0.0, 0.0, 0.001, 0.005, 0.02)
AT_CHANGE_SHARE = 0.8  # of the kills; the others come at any time


class Kills(Target):
    """Each input is a run of a stage that is killed up to three times and ends as if nothing had happened."""

    share = 2.0
    max_seconds = 600.0
    stages: tuple[type[Stage], ...] = STAGES

    def _ready_stage(self, chosen: type[Stage]) -> tuple[Stage, float, int]:
        """A stage that has run once without a kill, its seconds, and how often it changed files.

        All workers share it.
        """
        stage = chosen(self.folder.with_name("stages") / chosen.name)
        stage.folder.mkdir(parents=True, exist_ok=True)
        measured = stage.folder / "measured.json"
        with FileLock(stage.folder / "lock"):
            if not measured.exists():
                in_fork(stage.make)
                started = time.monotonic()
                num_changes = in_fork(partial(stage.run, stage.straight), count_changes_of=stage.straight)
                measured.write_text(json.dumps([time.monotonic() - started, num_changes]))
            return stage, *json.loads(measured.read_text())

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        chosen = rng.choices(self.stages, [stage.weight for stage in self.stages])[0]
        stage, seconds, num_changes = self._ready_stage(chosen)
        shutil.rmtree(self.input, ignore_errors=True)
        more = {"kills": 0, "kills in a write": 0}
        for _ in range(rng.choice([1, 1, 2, 3])):
            change = rng.randrange(num_changes) if rng.random() < AT_CHANGE_SHARE else None
            delay = rng.choice(DELAYS) * rng.random() if change is not None else rng.uniform(0, seconds)
            was_killed = kill_fork(partial(stage.run, self.input), self.input, change, delay, self.max_seconds)
            more["kills"] += was_killed
            more["kills in a write"] += was_killed and bool(list(self.input.rglob(".incomplete*")))
        in_fork(lambda: stage.go_on(self.input))
        return stage.name, "read", more


def in_fork(function: Callable[[], None], count_changes_of: Path | None = None) -> int:
    """Runs a function in a fork, so that nothing of it stays here; returns the number of changes of files."""
    reading, writing = os.pipe()
    pid = _fork(function, reading, writing, count_changes_of, change=None)
    os.close(writing)
    num_changes = 0
    while said := os.read(reading, 2**16):
        num_changes += len(said)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise AssertionError(f"exit code {status}; what it printed says why")
    return num_changes


def kill_fork(
    function: Callable[[], None], output: Path, change: int | None, delay: float, max_seconds: float
) -> bool:
    """Runs a function in a fork and kills it, after a number of changes of files or at once, and a delay.

    Returns:
        Whether it was killed; otherwise it had ended before.
    """
    reading, writing = os.pipe()
    pid = _fork(function, reading, writing, output if change is not None else None, change)
    os.close(writing)
    if change is not None:
        select.select([reading], [], [], max_seconds)
        time.sleep(delay)
    else:
        select.select([reading], [], [], delay)  # readable at its end
    os.close(reading)
    os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise AssertionError(f"exit code {status} before the kill; what it printed says why")
    return status != 0


def _fork(function: Callable[[], None], reading: int, writing: int, folder: Path | None, change: int | None) -> int:
    """Starts a function in a fork that announces the changes of files in a folder, all or one of them."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.close(reading)
        if folder is not None:
            _announce_changes(str(folder), writing, change)
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _announce_changes(folder: str, pipe: int, change: int | None) -> None:
    count = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        if event not in CHANGES or not str(args[0]).startswith(folder):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if change in (None, count):
            os.write(pipe, b"!")
        count += 1

    sys.addaudithook(hook)
