"""Augmented views of every picture, put once through a frozen model before training starts."""

import torch
from PIL import Image
from tqdm.auto import tqdm

from seed_hf.data.captioned_images import CaptionedImages, open_image
from seed_hf.data.reading import UnreadableSampleError


class CachedViews(torch.utils.data.Dataset):
    r"""
    What a frozen model gives for augmented views of a data set. A pass shows each group of `data` once; which picture
    of the group, and which view of it, is drawn from the sample's generator. A picture that cannot be read is reported
    when it is drawn, as without a cache.

    At 5 M pairs a view of causal embeddings takes 246 GB on disk; training on it costs a fifteenth of the FLOPs
    (recipe.md section 2.6).

    Args:
        data (`CaptionedImages`): Pictures and their groups.
        encode (`Callable`): From a list of pictures to a tensor, or a tuple of tensors, with one row per picture.
        transform (`Callable`): From a picture and a generator to an augmented picture.
        num_views (`int`): Views per picture.
        seed (`int`): Of the augmentation.
        batch_size (`int`, defaults to 128): Pictures per call of `encode`.
    """

    def __init__(self, data: CaptionedImages, encode, transform, num_views: int, seed: int, batch_size: int = 128):
        self.data, self.num_views = data, num_views
        self.unreadable: dict[int, UnreadableSampleError] = {}
        parts = []
        for view in range(num_views):
            for rows in tqdm(torch.arange(len(data.rows)).split(batch_size), desc=f"view {view + 1}/{num_views}"):
                generators = [torch.Generator().manual_seed(seed + view * len(data.rows) + int(row)) for row in rows]
                pictures = [self._open(int(row)) for row in rows]
                views = [transform(*pair) for pair in zip(pictures, generators, strict=True)]
                with torch.no_grad():
                    parts.append(encode(views))
        self.values = [torch.cat(column) for column in zip(*parts, strict=True)]

    def _open(self, row: int) -> Image.Image:
        try:
            return open_image(self.data.rows[row])
        except UnreadableSampleError as error:
            self.unreadable[row] = error
            return Image.new("RGB", (8, 8))

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.data)

    def __getitem__(self, index: int) -> list[int]:
        """Row numbers of a group."""
        return self.data[index]

    def draw(self, group: list[int], generator: torch.Generator) -> tuple[dict, list[torch.Tensor]]:
        """One picture of a group and one view of it: its row, and what `encode` gave for the view."""
        row = group[int(torch.randint(len(group), (1,), generator=generator))]
        if row in self.unreadable:
            raise self.unreadable[row]
        view = int(torch.randint(self.num_views, (1,), generator=generator))
        return self.data.rows[row], [value[view * len(self.data.rows) + row] for value in self.values]
