"""Parts that several tabs use: uploads, pictures, the example images."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gradio as gr
import torch
from gradio.utils import get_upload_folder, is_in_or_equal

from ..mini import mini_pictures_path
from .limits import Desk, refuse


# large simple shapes come first
_FIRST = ("strawberry", "rainbow", "guitar", "crown", "green-heart")
# what marks a file for Gradio, which then checks and moves it
_META = {"_type": "gradio.FileData"}


def image_upload(value=None, **settings) -> gr.Image:
    """An image from the visitor. Events take it with `preprocess=False`, and then [`upload_path`]: otherwise Gradio
    would open it before any limit is checked."""
    settings = {"sources": ["upload", "clipboard"], "elem_classes": ["picture"], "buttons": [], **settings}
    return gr.Image(value, type="filepath", image_mode=None, **settings)


def upload_path(value: dict | None) -> Path | None:
    """
    Where an upload lies. Without `preprocess` Gradio checks only files that have `meta`, so this checks all.

    Args:
        value (`dict`, *optional*): What a browser says the file is.

    Returns:
        `Path`: A path in the folder of uploads, whether or not a file is there; `None` without `value`.

    Raises:
        gr.Error: It is something else.
    """
    if value is None:
        return None
    path = value.get("path") if isinstance(value, dict) and value.get("meta") == _META else None
    if not isinstance(path, str) or not is_upload(path):
        raise refuse("Please upload the image as a file.")
    return Path(path).resolve()


def is_upload(path: str) -> bool:
    """Whether a path, with its links followed, leads into the folder of uploads."""
    try:
        return is_in_or_equal(path, get_upload_folder())
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a null character
        return False


def picture_view(value=None, label: str = "Picture", **settings) -> gr.Image:
    """A drawn picture, which may be small, as large as its place."""
    classes = ["picture"]
    return gr.Image(value, label=label, interactive=False, elem_classes=classes, buttons=["download"], **settings)


def picture_row(value: list, label: str, elem_id: str) -> gr.Gallery:
    """Pictures beside each other, with a line under each."""
    settings = {"columns": max(1, len(value)), "height": None, "object_fit": "contain", "allow_preview": False}
    return gr.Gallery(
        value, label=label, interactive=False, elem_id=elem_id, elem_classes=["strip"], buttons=[], **settings
    )


@dataclass
class Examples:
    """
    The example images of the package, with their codes.

    Args:
        desk ([`Desk`]): Encodes them.
    """

    desk: Desk

    @cached_property
    def paths(self) -> list[Path]:
        """Image files, those that look best when drawn again first."""
        entries = json.loads((Path(mini_pictures_path()) / "pictures.json").read_text(encoding="utf-8"))
        paths = {Path(entry["file"]).stem: Path(mini_pictures_path()) / entry["file"] for entry in entries}
        return [paths.pop(name) for name in _FIRST if name in paths] + list(paths.values())

    @cached_property
    def codes(self) -> torch.LongTensor:
        """Their codes, of shape `(num_images, num_codes)`."""
        with self.desk.job() as job:
            return job.encode(self.paths)

    def choose_for(self, image: gr.Image, **settings) -> None:
        """A row of the images, each of which a click puts into a component."""
        examples = [[str(path)] for path in self.paths]
        gr.Examples(examples, [image], examples_per_page=len(examples), label="Or take one of these", **settings)


__all__ = ["Examples", "image_upload", "is_upload", "picture_row", "picture_view", "upload_path"]
