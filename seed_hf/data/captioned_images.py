"""Image-caption pairs for the stages that look at pictures."""

import argparse
import logging

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from seed_hf.data.augmentation import uniform
from seed_hf.data.reading import UnreadableSampleError, read_image, row_key
from seed_hf.data.rows import load_rows as load_any_rows

from ..hub.fetch import emoji_folder


logger = logging.getLogger(__name__)


def add_data_arguments(group, required: bool = True) -> None:
    """Flags that say which data set, for every script that reads one."""
    group.add_argument(
        "--dataset", required=required, help="'emoji', tar shards, parquet, a folder, or a Hub id: see README.md"
    )
    group.add_argument("--train_split", default="train", help="also with a slice, as 'train[1000:]'")
    group.add_argument("--eval_split", default="validation", help="also with a slice, as 'train[:1000]'")
    outside_help = "also read what the data set names by a path or URL outside of its own folder or source"
    group.add_argument("--allow_outside_paths", action="store_true", help=outside_help)


def reading_settings(args: argparse.Namespace) -> dict:
    """What the flags say about reading a data set, as arguments of [`load_rows`]."""
    return {"max_unreadable_share": args.max_unreadable_share, "allow_outside_paths": args.allow_outside_paths}


def load_rows(dataset: str, split: str, **settings) -> Dataset:
    r"""
    Rows of one split.

    Args:
        dataset (`str`): `"emoji"` for the set in this repository, or what [`~seed_hf.data.rows.load_rows`] takes.
        split (`str`): Split name.
        settings: Its further arguments.
    """
    return load_any_rows(str(emoji_folder() / "*.parquet") if dataset == "emoji" else dataset, split, **settings)


class CaptionedImages(torch.utils.data.Dataset):
    r"""
    Image-caption pairs grouped so that one pass shows each *caption* once: two pictures of the same caption in one
    batch would be false negatives of the contrastive loss. Which picture of a group a pass shows, and which of its
    captions, is drawn from the sample's generator.

    Args:
        rows (`datasets.Dataset`): What [`load_rows`] gives; optionally with `tags`.
        group_by (`str`, defaults to `"caption"`): Column whose equal values are shown once a pass; `""` for none.

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

    def draw(self, group: list[int], generator: torch.Generator) -> tuple[Image.Image, str, list[str]]:
        """One picture of a group: RGB picture, caption, tags."""
        row = self.rows[group[int(torch.randint(len(group), (1,), generator=generator))]]
        return open_image(row), draw_caption(row, generator), row.get("tags") or []


def open_image(row: dict) -> Image.Image:
    """Picture of a row as RGB; `UnreadableSampleError` if it cannot be read."""
    return read_image(row)


def draw_caption(row: dict, generator: torch.Generator) -> str:
    """One of the captions of a picture (five, in COCO); the next pass may draw another."""
    captions = row.get("captions") or [row["caption"]]
    drawn = int(torch.randint(len(captions), (1,), generator=generator)) if len(captions) > 1 else 0
    if not (captions[drawn] or "").strip():
        raise UnreadableSampleError((row.get("image") or {}).get("path") or "", row_key(row), "no caption")
    return captions[drawn]


def all_captions(rows: Dataset) -> list[str]:
    """Every caption that [`draw_caption`] can give."""
    if "captions" not in rows.column_names:
        return list(rows["caption"])
    return [caption for captions in rows["captions"] for caption in captions]


def load_held_out(dataset: str, split: str, **settings) -> list[dict]:
    """Rows for evaluation: with a picture that can be read, and no flag (they look the same in all emoji sets)."""
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
