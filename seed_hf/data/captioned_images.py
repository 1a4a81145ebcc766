"""Image-caption pairs for the stages that look at images."""

import logging

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from .augmentation import uniform
from .reading import UnreadableSampleError, read_image, row_key
from .rows import load_rows


logger = logging.getLogger(__name__)


class CaptionedImages(torch.utils.data.Dataset):
    """Image-caption pairs grouped so that one pass shows each *caption* once.

    Two images of the same caption in one batch would be false negatives of the contrastive loss. Which image of a
    group a pass shows, and which of its captions, is drawn from the sample's generator.

    Args:
        rows (`datasets.Dataset`): What [`~seed_hf.data.rows.load_rows`] gives; optionally with `tags`.
        group_by (`str`, defaults to `"caption"`): Column of whose equal values a pass shows one; `""` for none.

    Attributes:
        blocks (`torch.LongTensor` or `None`): Shard of each group, for [`~seed_hf.data.batches.epoch_order`].
    """

    def __init__(self, rows: Dataset, group_by: str = "caption"):
        self.rows = rows
        if group_by:
            # arrays and not lists: at 5 M rows a list of lists would take gigabytes in every process
            column = rows.select_columns(group_by).with_format("arrow")[:][group_by].combine_chunks()
            keys = column.dictionary_encode().indices.fill_null(-1).to_numpy()
            self.order = np.argsort(keys, kind="stable")
            self.starts = np.flatnonzero(np.diff(keys[self.order], prepend=-2, append=-2))
        else:
            self.order, self.starts = np.arange(len(rows)), np.arange(len(rows) + 1)
        self.blocks = None
        if "shard" in rows.column_names:
            self.blocks = torch.as_tensor(np.asarray(rows["shard"][:]))[self.order[self.starts[:-1]]].long()

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> list[int]:
        """Row numbers of a group; [`CaptionedImages.draw`] picks one of them."""
        return self.order[self.starts[index] : self.starts[index + 1]].tolist()

    def draw_row(self, index: int, generator: torch.Generator) -> int:
        """Number of one row of a group."""
        group = self[index]
        return group[int(torch.randint(len(group), (1,), generator=generator))]

    def draw(self, index: int, generator: torch.Generator) -> tuple[Image.Image, str, list[str]]:
        """One image of a group: RGB image, caption, tags."""
        row = self.rows[self.draw_row(index, generator)]
        return open_image(row), draw_caption(row, generator), row.get("tags") or []


def open_image(row: dict) -> Image.Image:
    """Image of a row as RGB; `UnreadableSampleError` if it cannot be read."""
    return read_image(row)


def draw_caption(row: dict, generator: torch.Generator) -> str:
    """One of the captions of an image (five, in COCO); the next pass may draw another."""
    captions = row.get("captions") or [row["caption"]]
    drawn = int(torch.randint(len(captions), (1,), generator=generator)) if len(captions) > 1 else 0
    if not (captions[drawn] or "").strip():
        raise UnreadableSampleError((row.get("image") or {}).get("path") or "", row_key(row), "no caption")
    return captions[drawn]


def all_captions(rows: Dataset) -> list[str]:
    """Every caption that [`draw_caption`] can give."""
    if "captions" not in rows.column_names:
        return list(rows["caption"])
    # as in `draw_caption`, the first one stands for those that a row does not have
    pairs = zip(rows["captions"], rows["caption"], strict=True)
    return [caption for captions, first in pairs for caption in captions or [first]]


def load_held_out(dataset: str, split: str, **settings) -> list[dict]:
    """Rows for evaluation: with an image that can be read, and no flag (flags look the same in all emoji sets)."""
    readable = []
    for row in load_rows(dataset, split, **settings):
        if row.get("is_flag"):
            continue
        try:
            open_image(row)
        except UnreadableSampleError as error:
            logger.warning(f"Left out of the evaluation: {error}")
        else:
            readable.append(row)
    return readable


def with_tags(caption: str, tags: list[str], probability: float, generator: torch.Generator) -> str:
    """The caption, with some probability followed by one to three of its tags in random order."""
    if not tags or uniform(0, 1, generator) >= probability:
        return caption
    order = torch.randperm(len(tags), generator=generator).tolist()
    count = 1 + int(torch.randint(3, (1,), generator=generator))
    return ", ".join([caption, *(tags[i] for i in order[:count])])
