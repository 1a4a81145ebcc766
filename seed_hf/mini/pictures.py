"""Images of the emoji set as tensors, for the two scripts that train the picture decoder."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import load_dataset
from PIL import Image

from ..data.settings import STYLES
from ..hub.fetch import emoji_folder


@dataclass
class Pictures:
    """Images with their names.

    Attributes:
        pixels (`torch.ByteTensor` of shape `(num_pictures, 3, height, width)`): RGB in [0, 255].
        captions (`list[str]`): One name per image.
        tags (`list[list[str]]`): Keywords of each image, possibly none.
    """

    pixels: torch.Tensor
    captions: list[str]
    tags: list[list[str]]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.captions)


def load_pictures(
    data_files: str, split: str, styles: Sequence[str] = STYLES, size: int = 64, flags: bool = True
) -> Pictures:
    """Read one image per caption of a split of the emoji parquet files into memory.

    Args:
        data_files (`str`): `"emoji"` for the set in this repository, or a glob of parquet files like its own.
        split (`str`): Value of the column `split` to keep.
        styles (`Sequence[str]`, *optional*): Values of the column `style` to keep, best first: each caption's image
            is the first of these that the split has.
        size (`int`, *optional*, defaults to 64): Side of the images in pixels.
        flags (`bool`, *optional*, defaults to `True`): Whether to keep rows whose column `is_flag` is set:
            these are many and near-duplicates.

    Raises:
        ValueError: If no image is left.
    """
    data_files = str(emoji_folder() / "*.parquet") if data_files == "emoji" else data_files
    table = load_dataset("parquet", data_files=data_files, split="train").with_format(None)
    columns = table.select_columns(["split", "style", "is_flag", "caption"]).to_list()
    allowed = [
        (styles.index(row["style"]), index)
        for index, row in enumerate(columns)
        if row["split"] == split and row["style"] in styles and (flags or not row["is_flag"])
    ]
    # the best style last, so that it stays
    keep = sorted({columns[index]["caption"]: index for _, index in sorted(allowed, reverse=True)}.values())
    if not keep:
        raise ValueError(f"`split` {split!r} and `styles` {styles!r} leave no image in {data_files!r}.")
    table = table.select(keep)
    if "image" in table.features and hasattr(table.features["image"], "decode"):
        table = table.cast_column("image", type(table.features["image"])(decode=False))
    pixels = torch.stack([_decode(row["bytes"], size) for row in table["image"]])
    return Pictures(
        pixels=pixels,
        captions=list(table["caption"]),
        tags=[list(tags) for tags in table["tags"]],
    )


def to_unit_range(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels to float32 in [-1, 1], as diffusers' autoencoders expect."""
    return pixels.float().div(127.5).sub(1.0)


def _decode(data: bytes, size: int) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as picture:
        picture = picture.convert("RGB")
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
