"""Worker processes that try inputs and may crash, hang, or ask for too much memory: the driver lives on."""

import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from fuzz.target import Target


# Nothing may take so much more than a worker has at its start; memory errors below it are faults, too.
ADDRESS_SPACE = 8 * 2**30
PREPARE_SECONDS = 600.0  # for what a target needs before its first input
# A fork has everything imported already; there is none on Windows.
_FORK = multiprocessing.get_context("fork")


@dataclass
class Result:
    """What became of one input."""

    number: int
    outcome: str
    kind: str = ""
    detail: str = ""
    more: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def is_failure(self) -> bool:
        return self.outcome not in ("read", "refused")


def input_rng(name: str, seed: int, number: int) -> random.Random:
    """Makes each input independent of all others, so that one alone can be repeated."""
    return random.Random(f"{name} {seed} {number}")


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _resident_megabytes() -> float:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return _peak_megabytes()
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20


def _limit_address_space() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESS_SPACE, resource.RLIM_INFINITY))


def try_input(target: Target, name: str, seed: int, number: int) -> Result:
    """Tries one input within the limits of its target."""
    before, started = _resident_megabytes(), time.process_time()
    result = Result(number, "wrong")
    try:
        result.kind, result.outcome, result.more = target.try_one(input_rng(name, seed, number))
    except BaseException:  # errors of Rust libraries are no `Exception`
        result.detail = traceback.format_exc()
    result.cpu_seconds = time.process_time() - started
    # the peak counts from the start of the process; whoever raises it beyond the limit is found
    result.megabytes = max(0.0, _peak_megabytes() - before)
    if not result.is_failure and result.cpu_seconds > target.max_cpu_seconds:
        result.outcome, result.detail = "hung", f"{result.cpu_seconds:.1f} CPU seconds for {result.kind}"
    if not result.is_failure and result.megabytes > target.max_megabytes:
        result.outcome, result.detail = "wrong", f"{result.megabytes:.0f} MB for {result.kind}"
    return result


def _work(make_target: Callable[[Path], Target], name: str, folder: Path, seed: int, pipe) -> None:
    log = os.open(folder / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    faulthandler.enable(log)
    _limit_address_space()
    target = make_target(folder)
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        pipe.send(try_input(target, name, seed, number))
    os._exit(0)  # no threads of libraries are waited for


class Worker:
    """One process that tries inputs, and is replaced when it dies."""

    def __init__(self, make_target: Callable[[Path], Target], name: str, folder: Path, seed: int, max_seconds: float):
        folder.mkdir(parents=True)
        self.folder, self.max_seconds = folder, max_seconds
        self.number: int | None = None
        self.pipe, other = _FORK.Pipe()
        self.process = _FORK.Process(target=_work, args=(make_target, name, folder, seed, other))
        self.process.start()
        other.close()
        self.started = time.monotonic()

    def give(self, number: int) -> None:
        """Hands an input to the process."""
        self.number, self.started = number, time.monotonic()
        with contextlib.suppress(OSError):  # that it has died, is seen when it is asked
            self.pipe.send(number)

    def receive(self) -> Result | str:
        """What the process says, or that it has died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return self._failure("crashed", f"exit code {self.process.exitcode}")

    def is_late(self) -> bool:
        return time.monotonic() - self.started > (PREPARE_SECONDS if self.number is None else self.max_seconds)

    def end_hang(self) -> Result:
        """Ends the process; where it stood comes into its log."""
        os.kill(self.process.pid, signal.SIGABRT)
        self.process.join(5)
        self.process.kill()
        self.process.join()
        return self._failure("hung", f"no answer within {self.max_seconds} seconds")

    def _failure(self, outcome: str, detail: str) -> Result:
        if self.number is None:
            raise RuntimeError(f"the target cannot be prepared ({detail}):\n{self.log_tail()}")
        return Result(self.number, outcome, detail=detail)

    def log_tail(self) -> str:
        """The end of what the process printed."""
        log = self.folder / "output.log"
        return log.read_text(errors="replace")[-8000:] if log.exists() else ""

    def stop(self) -> None:
        """Lets the process end, or ends it where it does not."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(10)
        self.process.kill()
        self.process.join()


def try_inputs(
    make_target: Callable[[Path], Target],
    name: str,
    folder: Path,
    seed: int,
    numbers: range | itertools.count,
    seconds: float,
    max_seconds: float,
    num_processes: int,
) -> Iterator[tuple[Result, Worker]]:
    """Tries inputs in several processes until they or the time run out.

    Returns:
        Each result as it comes, with the worker whose folder still holds the input.
    """
    folders = (folder / f"{name}-{index}" for index in itertools.count())
    numbers, deadline = iter(numbers), None

    def start() -> Worker:
        return Worker(make_target, name, next(folders), seed, max_seconds)

    workers = [start() for _ in range(num_processes)]
    try:
        while workers:
            ready = wait([worker.pipe for worker in workers], timeout=0.2)
            for worker in [worker for worker in workers if worker.pipe in ready or worker.is_late()]:
                result = worker.receive() if worker.pipe in ready else worker.end_hang()
                is_failure = isinstance(result, Result) and result.is_failure
                # the time that the target takes to get ready does not count
                deadline = deadline or time.monotonic() + seconds
                if isinstance(result, Result):
                    yield result, worker
                number = None if is_failure or time.monotonic() > deadline else next(numbers, None)
                if number is not None:
                    worker.give(number)
                    continue
                worker.stop()
                workers.remove(worker)
                if is_failure:
                    workers.append(start())
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
