"""Showing what a model is about to do while it does it."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import PIL.Image
import torch

from .limits import Desk, Job


# `show(value)` shows a value
Show = Callable[[Any], None]
_PREVIEW_STEPS = 5
_DONE = object()


class LeftError(Exception):
    """The visitor has left."""


def stream(desk: Desk, work: Callable[[Job, Show], None]) -> Iterator[Any]:
    """
    Runs a job, and yields what it shows as soon as it shows it.

    Args:
        desk ([`Desk`]): Gives the job.
        work (`Callable`): Called with the job and with what shows a value; the latter ends it where the visitor has
            left.

    Returns:
        `Iterator[Any]`: The values.

    Raises:
        gr.Error: What the job raised.
    """
    shown, has_left = queue.Queue(), threading.Event()

    def show(value):
        if has_left.is_set():
            raise LeftError
        shown.put(value)

    def run():
        try:
            with desk.job() as job:
                work(job, show)
            shown.put(_DONE)
        except BaseException as error:  # raised again where somebody waits
            shown.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (value := shown.get()) is not _DONE:
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        has_left.set()
        thread.join()


class Writing:
    """
    Follows a model while it writes: for `on_tokens` of [`Studio`].

    Args:
        job ([`Job`]): Whose time counts.
        show (`Callable`): Called with the pieces so far and, now and then, with a quick picture of the codes so far.
        seed (`int`, defaults to 0): Seed of the quick pictures.
        guidance (`float`, *optional*): Strength of their guidance.
        previews (`int`, defaults to 8): Number of quick pictures.
    """

    def __init__(self, job: Job, show: Callable, seed: int = 0, guidance: float | None = None, previews: int = 8):
        self.job, self.show, self.seed, self.guidance = job, show, seed, guidance
        self.every = max(1, job.studio.num_codes // previews) if previews else 0

    def __call__(self, ids: torch.Tensor) -> None:
        """Shows what one chat has so far; ends it by an exception where the time is over."""
        self.job.check_time()
        pieces = self.job.studio.pieces(ids[0].tolist())
        codes = pieces[-1].codes if pieces else None
        is_shown = self.every and codes is not None and len(codes) % self.every == 0
        self.show(pieces, self._preview(codes) if is_shown else None)

    def _preview(self, codes: torch.Tensor) -> PIL.Image.Image | None:
        if len(codes) in (0, self.job.studio.num_codes):
            return None
        settings = {"steps": _PREVIEW_STEPS, "guidance": self.guidance}
        return self.job.draw(codes[None], [self.seed], **settings)[0]


def skip(count: int) -> list:
    """No change of some components."""
    return [gr.skip()] * count


__all__ = ["LeftError", "Writing", "skip", "stream"]
