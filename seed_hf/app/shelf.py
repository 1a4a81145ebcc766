"""Sets of images that visitors search: 32 integers and a few floats each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import torch

from ..models.image_formats_seed import IMAGE_SUFFIXES
from .limits import Desk, Job, refuse
from .parts import Examples


EXAMPLES, FOLDER, UPLOADS = "Example images", "Images of this server", "My own images"
_AT_ONCE = 16
_THUMBNAIL = 320


@dataclass
class Shelf:
    """
    A set of images.

    Args:
        paths (`list[Path]`): Image files.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Their codes.
        features (`torch.FloatTensor` of shape `(num_images, dim)`): Their features, from codes alone.
    """

    paths: list[Path]
    codes: torch.Tensor
    features: torch.Tensor

    @classmethod
    def of(cls, job: Job, paths: Sequence[Path]) -> "Shelf":
        """Makes one, without files that cannot be read."""
        kept, codes = [], []
        for start in range(0, len(paths), _AT_ONCE):
            images = {path: image for path in paths[start : start + _AT_ONCE] if (image := job.try_read(path))}
            kept += images
            codes += [job.studio.encode(list(images.values()))] if images else []
        if not kept:
            raise refuse("None of these files can be read as an image.")
        codes = torch.cat(codes)
        return cls(kept, codes, job.studio.image_features(codes).cpu())

    def show(self, job: Job, numbers: Sequence[int], captions: Sequence[str]) -> list[tuple[PIL.Image.Image, str]]:
        """Some of the images for a gallery, without those that are gone by now."""
        images = [job.try_read(self.paths[number]) for number in numbers]
        for image in filter(None, images):
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        return [(image, caption) for image, caption in zip(images, captions, strict=True) if image]


class Shelves:
    """
    The sets that are there for every visitor.

    Args:
        desk ([`Desk`]): Models.
        examples ([`Examples`]): The first set.
        folder (`Path`, *optional*): A folder of the operator, with its sub-folders, which is the second.
    """

    def __init__(self, desk: Desk, examples: Examples, folder: Path | None = None):
        self.desk, studio = desk, desk.studio
        codes = examples.codes
        self.sets = {EXAMPLES: Shelf(examples.paths, codes, studio.image_features(codes).cpu())}
        if folder is not None:
            self.sets = {FOLDER: self._read(folder), **self.sets}

    def _read(self, folder: Path) -> Shelf:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        if not paths:
            raise ValueError(f"`images` {str(folder)!r} has no images; allowed: a folder with some.")
        with self.desk.job() as job:
            return Shelf.of(job, paths)

    @property
    def names(self) -> list[str]:
        """What a visitor can choose from."""
        return [*self.sets, UPLOADS]

    def find(self, name: str, uploads: Shelf | None) -> Shelf:
        """The set of a name, or `gr.Error`."""
        if name not in self.names:
            raise refuse(f"Please choose one of these: {', '.join(self.names)}.")
        shelf = uploads if name == UPLOADS else self.sets.get(name)
        if shelf is None:
            raise refuse("Please upload some images first.")
        return shelf


__all__ = ["EXAMPLES", "FOLDER", "UPLOADS", "Shelf", "Shelves"]
