"""Signals that ask a long run to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def call_on_signals(action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` on SIGTERM and SIGUSR1 (SLURM's warning before the time limit) while the block runs.

    Args:
        action (`Callable[[], None]`): Called from the signal handler.
    """
    signals = (signal.SIGTERM, signal.SIGUSR1) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, lambda *_: action()) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
