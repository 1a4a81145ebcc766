"""What the demo found out, as plain objects for the sheet, the page and the terminal."""

from dataclasses import dataclass, field

import torch
from PIL import Image


@dataclass
class SeenPicture:
    """
    One image and everything that was made of its codes.

    Args:
        name (`str`): Name of the drawing, or of the file.
        origin (`str`): Where the image is from, such as `"held-out drawing, twemoji"`.
        image (`PIL.Image.Image`): RGB.
        codes (`list[int]`, *optional*): Codes in `[0, codebook_size)`.
        caption (`str`, *optional*): Written by the language model.
        answer (`str`, *optional*): Answer to the demo's question.
        nearest (`list[tuple[str, float]]`, *optional*): Captions with cosine similarity in [-1, 1], best first.
        reconstruction (`PIL.Image.Image`, *optional*): Drawn from the codes alone.
        reads_as (`str`, *optional*): Nearest caption of the reconstruction.
    """

    name: str
    origin: str
    image: Image.Image
    codes: list[int] = field(default_factory=list)
    caption: str | None = None
    answer: str | None = None
    nearest: list[tuple[str, float]] = field(default_factory=list)
    reconstruction: Image.Image | None = None
    reads_as: str | None = None


@dataclass
class DrawnPicture:
    """
    One prompt and the picture drawn for it.

    Args:
        prompt (`str`): Words that were asked for.
        codes (`list[int]`): Written by the language model, in `[0, codebook_size)`.
        image (`PIL.Image.Image`, *optional*): Drawn from the codes.
        reads_as (`str`, *optional*): Nearest caption of the picture.
    """

    prompt: str
    codes: list[int]
    image: Image.Image | None = None
    reads_as: str | None = None


@dataclass
class DemoResults:
    """
    All that one run of the demo shows.

    Args:
        question (`str`): Asked about every image.
        code_colors (`torch.ByteTensor` of shape `(codebook_size, 3)`): RGB; codes with similar vectors have similar
            colours.
        seen (`list[SeenPicture]`).
        drawn (`list[DrawnPicture]`).
        timings (`list[tuple[str, float]]`): What was done and how many seconds it took.
        problems (`list[str]`): Inputs that were skipped and parts that were not available.
    """

    question: str
    code_colors: torch.Tensor
    seen: list[SeenPicture] = field(default_factory=list)
    drawn: list[DrawnPicture] = field(default_factory=list)
    timings: list[tuple[str, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def color(self, code: int) -> tuple[int, int, int]:
        """RGB in [0, 255] of a code."""
        return tuple(self.code_colors[code].tolist())


@torch.no_grad()
def color_codes(code_vectors: torch.Tensor) -> torch.Tensor:
    """
    A colour for every code, from the three directions in which the codebook varies most.

    Args:
        code_vectors (`torch.FloatTensor` of shape `(codebook_size, code_dim)`): The codebook.

    Returns:
        `torch.ByteTensor` of shape `(codebook_size, 3)`: RGB in [50, 235].
    """
    centred = code_vectors.float() - code_vectors.float().mean(dim=0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
    # ranks, not values: otherwise most codes would share a few greys
    ranks = (centred @ directions.t()).argsort(dim=0).argsort(dim=0).float()
    return (50 + 185 * ranks / max(1, len(ranks) - 1)).round().to(torch.uint8)


__all__ = ["DemoResults", "DrawnPicture", "SeenPicture", "color_codes"]
