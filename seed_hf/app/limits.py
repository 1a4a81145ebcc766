"""What the app lets its visitors do: the limits, and a studio that keeps them."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import PIL.Image
import torch
from gradio.events import Dependency

from ..models.image_loading_seed import load_rgb_image
from ..studio import Studio


@dataclass(frozen=True)
class Limits:
    """
    Limits of the app.

    Args:
        waiting (`int`, defaults to 60): Number of requests that may wait for the model; more are refused.
        seconds (`float`, defaults to 60): Time for one request, without the wait.
        upload_bytes (`int`, defaults to 10485760): Size of an uploaded file.
        uploads_bytes (`int`, defaults to 268435456): Size of the files that are uploaded at once.
        folder_bytes (`int`, defaults to 4294967296): Size of all files of all visitors.
        request_bytes (`int`, defaults to 524288): Size of any other request.
        pixels (`int`, defaults to 25000000): Width times height of an image.
        images (`int`, defaults to 64): Number of images that one visitor can search.
        words (`int`, defaults to 500): Number of characters in a message.
        messages (`int`, defaults to 20): Number of messages in a chat.
        pictures (`int`, defaults to 4): Number of pictures drawn at once.
        steps (`int`, defaults to 50): Number of denoising steps.
        keep_seconds (`int`, defaults to 3600): How long uploads, chats and drawn pictures are kept at most.
    """

    waiting: int = 60
    seconds: float = 60
    upload_bytes: int = 10_485_760
    uploads_bytes: int = 268_435_456
    folder_bytes: int = 4_294_967_296
    request_bytes: int = 524_288
    pixels: int = 25_000_000
    images: int = 64
    words: int = 500
    messages: int = 20
    pictures: int = 4
    steps: int = 50
    keep_seconds: int = 3600


# without a trace in the operator's log, which might tell about visitors
_QUIET = {"title": "Not done", "duration": 8, "print_exception": False}


def refuse(message: str) -> gr.Error:
    """An error that the page shows as a message."""
    return gr.Error(message, **_QUIET)


def check_whole(value: Any, name: str, least: int, most: int) -> int:
    """What a browser says is a whole number, as one, or `gr.Error`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or value != int(value):
        raise refuse(f"{name} must be a whole number from {least} to {most}.")
    return int(value)


def check_words(value: Any, most: int) -> str:
    """What a browser says are words, or `gr.Error`."""
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        raise refuse(f"Please write some words, of at most {most} characters.")
    return value


class UnreadableError(gr.Error):
    """A file that is no image."""


class Job:
    """
    What one visitor asked for, while it has the models to itself.

    Args:
        studio ([`Studio`]): The models.
        limits ([`Limits`]): What is allowed.
        seconds (`float`): Time for the job.
    """

    def __init__(self, studio: Studio, limits: Limits, seconds: float):
        self.studio, self.limits = studio, limits
        self.ends = time.monotonic() + seconds

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.ends

    def check_time(self) -> None:
        """Raises `gr.Error` once the time is over."""
        if self.is_late:
            raise refuse(f"This took longer than {self.limits.seconds:g} seconds. Please ask for less at once.")

    def read(self, path: Path) -> PIL.Image.Image:
        """Reads an uploaded file as an RGB image, or raises `gr.Error`."""
        self.check_time()
        try:
            return load_rgb_image(Path(path))
        except ValueError:
            # always the same words: the reason may tell what files the server has
            message = f"This file cannot be read as an image of at most {self.limits.pixels:,} pixels."
            raise UnreadableError(message, **_QUIET) from None

    def try_read(self, path: Path) -> PIL.Image.Image | None:
        """As `read`, but gives `None` for a file that is no image."""
        try:
            return self.read(path)
        except UnreadableError:
            return None

    def encode(self, paths: Sequence[Path]) -> torch.LongTensor:
        """Codes of uploaded files, of shape `(len(paths), num_codes)`."""
        return self.studio.encode([self.read(path) for path in paths])

    def draw(self, codes: torch.LongTensor, seeds: Sequence[int], **settings) -> list[PIL.Image.Image]:
        """Draws as [`Studio.draw`], until the time is over."""
        pictures = self.studio.draw(codes, seeds, on_step=lambda step: self.is_late, **settings)
        self.check_time()
        return pictures


class Desk:
    """
    A studio for many visitors: it takes one job at a time, and turns what is wrong with one into a message.

    Args:
        studio ([`Studio`]): The models.
        limits ([`Limits`], *optional*): What is allowed.
    """

    def __init__(self, studio: Studio, limits: Limits | None = None):
        self.studio, self.limits = studio, limits or Limits()
        # until the page is ready, the operator may take the time that visitors may not
        self.is_open = False
        self._lock = threading.Lock()

    @contextmanager
    def job(self) -> Iterator[Job]:
        """Waits for the models, and gives them to one job."""
        with self._lock:
            try:
                yield Job(self.studio, self.limits, self.limits.seconds if self.is_open else math.inf)
            except ValueError as error:
                raise refuse(str(error)) from None

    def on_models(self, *triggers, **settings) -> Dependency:
        """`gr.on` for what needs the models: in a queue, one at a time."""
        return gr.on(list(triggers), concurrency_id="models", concurrency_limit=1, **settings)


__all__ = ["Desk", "Job", "Limits", "UnreadableError", "check_whole", "check_words", "refuse"]
