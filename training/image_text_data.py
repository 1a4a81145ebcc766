"""Image-caption pairs for the stages that look at pictures, and their augmentation."""

import io
import math
from collections import defaultdict
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from datasets import Image as ImageFeature
from PIL import Image, ImageEnhance


class CaptionedImages(torch.utils.data.Dataset):
    r"""
    Image-caption pairs grouped so that one pass shows each *caption* once: two pictures of the same caption in one
    batch would be false negatives of the contrastive loss. Which picture of a group a pass shows is drawn from the
    sample's generator.

    Args:
        rows (`datasets.Dataset`): Columns `image` (bytes) and `caption`; optionally `tags`.
        group_by (`str`, defaults to `"caption"`): Column whose equal values are shown once a pass; `""` for none.
    """

    def __init__(self, rows: Dataset, group_by: str = "caption"):
        self.rows = rows.cast_column("image", ImageFeature(decode=False))
        self.tags = list(rows["tags"]) if "tags" in rows.column_names else [[]] * len(rows)
        groups = defaultdict(list)
        for index, key in enumerate(rows[group_by] if group_by else range(len(rows))):
            groups[key].append(index)
        self.groups = list(groups.values())

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.groups)

    def __getitem__(self, index: int) -> list[int]:
        """Row numbers of a group; [`CaptionedImages.draw`] picks one of them."""
        return self.groups[index]

    def draw(self, group: list[int], generator: torch.Generator) -> tuple[Image.Image, str, list[str]]:
        """One picture of a group: RGB picture, caption, tags."""
        row_number = group[int(torch.randint(len(group), (1,), generator=generator))]
        row = self.rows[row_number]
        return open_image(row["image"]["bytes"]), row["caption"], self.tags[row_number]


def open_image(data: bytes) -> Image.Image:
    """Bytes of an image file -> RGB."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def load_rows(dataset: str, split: str) -> Dataset:
    r"""
    Rows of one split.

    Args:
        dataset (`str`): `"emoji"` for the set in this repository, a glob of parquet files, or a `datasets` id.
        split (`str`): Split name; for parquet files the value of a column `split`.

    Raises:
        ValueError: If nothing is left.
    """
    if dataset == "emoji":
        folder = Path(__file__).parent / "data" / "emoji"
        return load_dataset("parquet", data_files=str(folder / f"{split}.parquet"), split="train")
    if not dataset.endswith(".parquet"):
        return load_dataset(dataset, split=split)
    rows = load_dataset("parquet", data_files=dataset, split="train")
    if "split" in rows.column_names:
        rows = rows.filter(lambda value: value == split, input_columns="split")
    if not len(rows):
        raise ValueError(f"`split` {split!r} leaves no row of {dataset!r}.")
    return rows


def add_augmentation_arguments(group) -> None:
    """Flags of [`augment`]; the defaults are LAVIS' `blip2_image_train`."""
    group.add_argument("--crop_scale", type=float, default=0.5, help="smallest area of the random crop (LAVIS: 0.5)")
    group.add_argument("--flip_probability", type=float, default=0.5, help="of a mirror image (LAVIS: 0.5)")
    group.add_argument("--rotation_degrees", type=float, default=0.0, help="largest rotation to either side")
    group.add_argument("--color_jitter", type=float, default=0.0, help="largest change of colour, light and contrast")


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def augment(image: Image.Image, size: int, generator: torch.Generator, args) -> Image.Image:
    r"""
    Random resized crop, flip, rotation and colour jitter in one resampling.

    LAVIS' `blip2_image_train` is the crop (scale 0.5 to 1) and the flip; rotation and jitter are ours, for small data,
    and off unless asked for. Corners that a rotation uncovers are white.
    """
    width, height = image.size
    area = uniform(args.crop_scale, 1.0, generator) * width * height
    ratio = math.exp(uniform(math.log(3 / 4), math.log(4 / 3), generator))
    crop_w, crop_h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = uniform(0, width - crop_w, generator), uniform(0, height - crop_h, generator)
    flip = -1.0 if uniform(0, 1, generator) < args.flip_probability else 1.0
    angle = math.radians(uniform(-args.rotation_degrees, args.rotation_degrees, generator))
    cos, sin = math.cos(angle), math.sin(angle)
    # output pixel (x, y) -> input pixel: centre, flip, rotate, scale to the crop, move to the crop's centre
    scale_x, scale_y = crop_w / size, crop_h / size
    a, b, d, e = flip * cos * scale_x, -sin * scale_x, flip * sin * scale_y, cos * scale_y
    c = left + crop_w / 2 - (a + b) * size / 2
    f = top + crop_h / 2 - (d + e) * size / 2
    image = image.transform((size, size), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC,
                            fillcolor=(255, 255, 255))  # fmt: skip
    if args.color_jitter > 0:
        for enhancer in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
            image = enhancer(image).enhance(uniform(1 - args.color_jitter, 1 + args.color_jitter, generator))
    return image


def with_tags(caption: str, tags: list[str], probability: float, generator: torch.Generator) -> str:
    """The caption, with some probability followed by one to three of its tags in random order."""
    if not tags or uniform(0, 1, generator) >= probability:
        return caption
    order = torch.randperm(len(tags), generator=generator).tolist()
    count = 1 + int(torch.randint(3, (1,), generator=generator))
    return ", ".join([caption, *(tags[i] for i in order[:count])])
