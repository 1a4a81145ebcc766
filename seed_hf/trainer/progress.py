"""Commands that are run one after the other, or some at once, and go on where they stopped."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Lock

from tqdm.auto import tqdm

from .signals import call_on_signals


# glibc gives large blocks back to the system in every step, which clears them for the next one; so they are kept
KEEPS_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}


class Progress:
    """Which commands have ended, and how long each took over all starts; kept in a file.

    SIGTERM and SIGUSR1 are passed on to what runs, whose time then counts, though it has not ended.

    Args:
        file (`Path`): JSON file; made when the first command ends or fails.
        root (`Path`): Folder that commands run in, and that they import from.
    """

    def __init__(self, file: Path, root: Path):
        self.file, self.root = file, root
        self.state = json.loads(file.read_text()) if file.is_file() else {}
        self._lock, self._running, self._asked_to_stop = Lock(), set[subprocess.Popen](), False

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each command so far."""
        return {name: entry["seconds"] for name, entry in self.state.items()}

    def run_all(self, commands: Mapping[str, list[str]], needs: Mapping[str, Sequence[str]], jobs: int) -> None:
        """Runs commands as soon as those that they need have ended, up to some number of them at once.

        With more than one at once, each writes to a file of its own beside that of the progress, and gets its share
        of the cores, unless `OMP_NUM_THREADS` says how many.

        Args:
            commands (`Mapping[str, list[str]]`): Programs and arguments, by name.
            needs (`Mapping[str, Sequence[str]]`): Names of the commands that must have ended before each.
            jobs (`int`): Largest number of commands at once.

        Raises:
            ValueError: If `jobs` is less than 1.
            CalledProcessError: If one fails; those that run then go on to their ends, no further ones start.
            SystemExit: If a signal asks for a stop.
        """
        if jobs < 1:
            raise ValueError(f"jobs={jobs}; allowed: at least 1.")
        order = TopologicalSorter(needs)
        order.prepare()
        running: dict[Future, str] = {}
        with call_on_signals(self._stop), ThreadPoolExecutor(jobs) as pool:
            try:
                while order.is_active():
                    for name in order.get_ready():
                        log = self.file.parent / f"{name}.log" if jobs > 1 else None
                        running[pool.submit(self.run, name, commands[name], log, jobs)] = name
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        future.result()
                        order.done(running.pop(future))
            finally:
                pool.shutdown(cancel_futures=True)

    def run(self, name: str, command: list[str], log: Path | None = None, jobs: int = 1) -> None:
        """Runs a command, unless the same one has ended well before.

        Args:
            name (`str`): Its name in the file.
            command (`list[str]`): Program and arguments.
            log (`Path`, *optional*): File for what it writes, which is added to; `None`: what this process writes to.
            jobs (`int`): Number of commands that share the cores.

        Raises:
            CalledProcessError: If it fails; its time counts all the same.
            SystemExit: If a signal asks for a stop.
        """
        entry = self.state.setdefault(name, {"seconds": 0.0, "done": None})
        if entry["done"] == command:
            _say(f"{name}: done before, in {entry['seconds'] / 60:.1f} minutes")
            return
        started = time.monotonic()
        place = f" >> {log}" if log else ""
        _say(f"$ {shlex.join(command)}{place}".replace(f"{self.root}/", ""))
        environment = {**KEEPS_MEMORY, **os.environ, "PYTHONPATH": str(self.root)}
        if jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        try:
            with call_on_signals(self._stop), log.open("a") if log else nullcontext() as output:
                self._call(command, cwd=self.root, env=environment, stdout=output, stderr=output)
            entry["done"] = command
        finally:
            entry["seconds"] += time.monotonic() - started
            with self._lock:
                self._write()
        _say(f"{name}: {entry['seconds'] / 60:.1f} minutes")

    def _write(self) -> None:
        """As a whole: a process that ends in the middle leaves the state before."""
        partial = self.file.with_name(f"{self.file.name}.partial")
        partial.write_text(json.dumps(self.state, indent=2))
        os.replace(partial, self.file)

    def _call(self, command: list[str], **settings) -> None:
        """`subprocess.run`, which a signal ends in time."""
        with subprocess.Popen(command, **settings) as process:
            self._running.add(process)
            if self._asked_to_stop:
                process.terminate()
            code = process.wait()
            self._running.discard(process)
        # a stage that was asked to stop has saved a checkpoint, and says that all went well
        if self._asked_to_stop:
            raise SystemExit("Stopped; the same command goes on from there.")
        if code:
            raise subprocess.CalledProcessError(code, command)

    def _stop(self) -> None:
        self._asked_to_stop = True
        for process in list(self._running):
            process.terminate()


def _say(text: str) -> None:
    """Before what the command itself writes."""
    tqdm.write(text)
    sys.stdout.flush()
