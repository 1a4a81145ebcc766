"""What is fuzzed, as the driver sees it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Target:
    """Makes one damaged input after another and says what became of it. Made and used in one worker process.

    Each input is written to `input`, a file or folder, before it is tried: if the process dies, it is still there.
    """

    share = 1.0  # of the time that all targets have together
    max_cpu_seconds = 10.0  # for one input
    max_seconds = 120.0  # of the clock, which other work on the machine slows down: beyond it an input hangs
    max_megabytes = 512.0  # of memory more than before the input

    def __init__(self, folder: Path):
        self.folder, self.input = folder, folder / "input"

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        """Tries one input; whatever it raises is a fault.

        Args:
            rng: Decides everything about the input.

        Returns:
            Kind of the input, "read" or "refused", and further counts.
        """
        raise NotImplementedError


def outcome_of(call: Callable[[], Any]) -> tuple[str, Any]:
    """("read", result), or ("refused", error) for a `ValueError` that is not about memory."""
    try:
        return "read", call()
    except ValueError as error:
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            raise
        return "refused", error


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, which can be a circle."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
