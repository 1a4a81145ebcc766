"""Augmented views of images: drawn anew in every pass, or a few of them put once through a frozen model."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm

from .captioned_images import CaptionedImages, draw_caption, open_image
from .reading import UnreadableSampleError
from .resumable import write_whole


Augment = Callable[[Image.Image, torch.Generator], Image.Image]


class AugmentedViews(torch.utils.data.Dataset):
    """Image-caption pairs with a new view of the image in every pass.

    Args:
        data (`CaptionedImages`): Images and their groups.
        augment (`Callable`): From an image and a generator to a view.
    """

    def __init__(self, data: CaptionedImages, augment: Augment):
        self.data, self.augment, self.blocks = data, augment, data.blocks

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.data)

    def draw(self, index: int, generator: torch.Generator) -> tuple[Image.Image, str, list[str]]:
        """One image of a group: a view, a caption, and the tags."""
        image, caption, tags = self.data.draw(index, generator)
        return self.augment(image, generator), caption, tags


class ViewsInOrder(torch.utils.data.Dataset):
    """The views that a cache holds, made in whichever process reads them: each with the reason why it has no image.

    Args:
        rows (`Sequence[dict]`): Rows of images; a pass over all of them gives the next view of each.
        augment (`Callable`): From an image and a generator to a view.
        numbers (`range`): Numbers of the views.
        seed (`int`): Seed of the first view.
    """

    def __init__(self, rows: Sequence[dict], augment: Augment, numbers: range, seed: int):
        self.rows, self.augment, self.numbers, self.seed = rows, augment, numbers, seed

    def __len__(self) -> int:
        """Number of views."""
        return len(self.numbers)

    def __getitem__(self, place: int) -> tuple[Image.Image, int, UnreadableSampleError | None]:
        """A view, the number of its row, and what is wrong with that."""
        number, error = self.numbers[place], None
        row = number % len(self.rows)
        try:
            image = open_image(self.rows[row])
        except UnreadableSampleError as failure:
            image, error = Image.new("RGB", (8, 8)), failure
        return self.augment(image, torch.Generator().manual_seed(self.seed + number)), row, error


class ViewStore:
    """Rows of one shape, in memory or in a file that survives an interruption.

    Args:
        file (`str` or `os.PathLike`, *optional*): Where they are kept. Defaults to memory.
        made_with (`dict`): What they depend on; a file that was made with something else is made anew.

    Attributes:
        values (`torch.Tensor` or `None`): All rows, once the first ones are written.
        done (`int`): Number of rows written.
        unreadable (`dict[int, UnreadableSampleError]`): What is wrong with images among them, by number.
    """

    def __init__(self, file: str | os.PathLike | None, made_with: dict):
        self.file, self.made_with = file and Path(file), made_with
        self.values, self.done, self.unreadable = None, 0, {}
        if self.file and self._state_file.is_file():
            state = json.loads(self._state_file.read_text())
            if state["made_with"] == made_with:
                self._open(state["shape"], getattr(torch, state["dtype"]))
                self.done = state["done"]
                self.unreadable = {number: UnreadableSampleError(*error) for number, error in state["unreadable"]}

    @property
    def _state_file(self) -> Path:
        return self.file.with_suffix(".json")

    def _open(self, shape: list[int], dtype: torch.dtype) -> None:
        if not self.file:
            self.values = torch.empty(shape, dtype=dtype)
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.values = torch.from_file(str(self.file), True, math.prod(shape), dtype=dtype).view(shape)

    def begins_with(self, rows: torch.Tensor) -> bool:
        """Whether the first rows are these, but for rounding."""
        kept = self.values[: len(rows)]
        return kept.shape == rows.shape and torch.allclose(kept.float(), rows.float(), rtol=0.1, atol=0.1)

    def write(self, start: int, rows: torch.Tensor, total: int, unreadable: dict[int, UnreadableSampleError]) -> None:
        """Puts rows at their place; the file says that they are there once they are."""
        if self.values is None or start == 0:
            self._open([total, *rows.shape[1:]], rows.dtype)
        self.values[start : start + len(rows)] = rows
        self.done = start + len(rows)
        if self.file:
            state = {"done": self.done, "shape": list(self.values.shape), "dtype": str(rows.dtype).split(".")[1]}
            state |= {"unreadable": [(number, error.args) for number, error in unreadable.items()]}
            state |= {"made_with": self.made_with}
            with self.file.open("rb") as values:
                os.fsync(values.fileno())  # before anything says that they are there
            with write_whole(self._state_file) as temporary:
                temporary.write_text(json.dumps(state))


class CachedViews(torch.utils.data.Dataset):
    """What a frozen model gives for augmented views of a data set, which it sees once, before training.

    A pass shows each group of `data` once; which image of the group, and which view of it, is drawn from the sample's
    generator. An image that cannot be read is reported when it is drawn, as without a cache.

    At 5 M pairs a view of causal embeddings takes 246 GB on disk; training on it costs a fifteenth of the FLOPs.

    Args:
        data (`CaptionedImages`): Images and their groups.
        encode (`Callable`): From a list of views to a tensor with one row per view.
        augment (`Callable`): From an image and a generator to a view.
        num_views (`int`): Number of views per image.
        seed (`int`): Seed of the augmentation.
        batch_size (`int`, defaults to 128): Number of images per call of `encode`.
        file (`str` or `os.PathLike`, *optional*): Where to keep the values, so that a run that goes on need not make
            them again, and memory need not hold them. Where it goes on from, and what for, is in a JSON file beside
            it. Defaults to memory.
        made_with (`dict`, *optional*): Settings that the values depend on, as JSON can hold them; a file that was made
            with others, or whose first values are no longer what `encode` gives, is made anew.
        num_workers (`int`, defaults to 0): Additional processes that make views; values do not depend on it.

    Attributes:
        values (`torch.Tensor`): What `encode` gave: first one view of each image, then another.
    """

    def __init__(
        self,
        data: CaptionedImages,
        encode: Callable[[list[Image.Image]], torch.Tensor],
        augment: Augment,
        num_views: int,
        seed: int,
        batch_size: int = 128,
        file: str | os.PathLike | None = None,
        made_with: dict | None = None,
        num_workers: int = 0,
    ):
        self.data, self.num_views = data, num_views
        store = ViewStore(file, {"rows": len(data.rows), "views": num_views, "seed": seed, **(made_with or {})})
        # also of images that can be read by now: their views are black
        self.unreadable = dict(store.unreadable)
        total = num_views * len(data.rows)

        def encoded(start: int, num_workers: int) -> Iterator[torch.Tensor]:
            views = ViewsInOrder(data.rows, augment, range(start, total), seed)
            # a generator of its own: making views must not change what is random elsewhere
            loading = {"num_workers": num_workers, "collate_fn": list, "generator": torch.Generator()}
            for batch in torch.utils.data.DataLoader(views, batch_size, **loading):
                self._note(batch)
                with torch.no_grad():
                    rows = encode([view for view, _, _ in batch])
                yield rows

        # weights may have changed since, which no setting tells
        if store.done and not store.begins_with(next(encoded(0, num_workers=0))):
            store.done, self.unreadable = 0, {}
        starts = range(store.done, total, batch_size)
        batches = zip(starts, encoded(store.done, num_workers), strict=True)
        for start, rows in tqdm(batches, total=len(starts), desc=f"{num_views} views", mininterval=10):
            store.write(start, rows, total, self.unreadable)
        self.values = store.values

    def _note(self, views: Iterable[tuple]) -> None:
        """Keeps what is wrong with images."""
        self.unreadable |= {row: error for _, row, error in views if error}

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.data)

    def draw(self, index: int, generator: torch.Generator) -> tuple[int, str, list[str]]:
        """One image of a group: the number of one view of it among `values`, a caption, and the tags."""
        number = self.data.draw_row(index, generator)
        if number in self.unreadable:
            raise self.unreadable[number]
        view = int(torch.randint(self.num_views, (1,), generator=generator))
        row = self.data.rows[number]
        return view * len(self.data.rows) + number, draw_caption(row, generator), row.get("tags") or []


__all__ = ["AugmentedViews", "CachedViews"]
