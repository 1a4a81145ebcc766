"""A judge of seed-mini's pictures that no stage of its training has seen.

seed-mini's own retrieval model was trained together with what it judges, and might know its ways. This one is a CNN of
ImageNet as it is published, EfficientNet-Lite2, which is not the one in seed-mini's stem, and all drawings of the data
set: it names what the drawings most like a picture show.
"""

from collections.abc import Iterable

import torch
from PIL import Image
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_conv_stem import SeedConvStem
from .vision_stem import IMAGE_MEAN, IMAGE_STD, load_stem


SIZE = "lite2"
NUM_AXES = 256


class NearestDrawings:
    """Names the drawings that are nearest to a picture.

    Args:
        images (`Iterable[PIL.Image.Image]`): Drawings, RGB.
        names (`list[str]`): What each shows.
        stem ([`SeedConvStem`], *optional*): CNN whose inner features are compared. Defaults to
            EfficientNet-Lite2.
        side (`int`, defaults to 128): Side of the images that the CNN sees, in pixels.
    """

    def __init__(
        self, images: Iterable[Image.Image], names: list[str], stem: SeedConvStem | None = None, side: int = 128
    ):
        if stem is None:
            stem = SeedConvStem(1, SIZE, takes_inner=True)
            load_stem(stem, SIZE)
        self.stem = stem.eval().to(memory_format=torch.channels_last)
        self.processor = SeedImageProcessor(
            size={"height": side, "width": side}, image_mean=IMAGE_MEAN, image_std=IMAGE_STD
        )
        self.names = sorted(set(names))
        places = {name: place for place, name in enumerate(self.names)}
        self.places = torch.tensor([places[name] for name in names])
        features = self.raw_features(list(images))
        self.mean = features.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the axes start from random ones: the same judge every time
            _, sizes, axes = torch.svd_lowrank(features - self.mean, q=min(NUM_AXES, *features.shape), niter=4)
        deviations = sizes / len(features) ** 0.5
        self.axes = axes / (deviations + 0.05 * deviations[0])
        self.features = self.normalise(features)

    @torch.no_grad()
    def raw_features(self, images: list[Image.Image]) -> torch.Tensor:
        """The CNN's finer inner layer, means over thirds of the image: one row for each image."""
        parts = []
        # few at a time: a CPU is faster with what fits into its caches
        for start in tqdm(range(0, len(images), 16), desc="judge", mininterval=5):
            pixels = self.processor(images[start : start + 16], return_tensors="pt")["pixel_values"]
            fine = F.pixel_shuffle(self.stem.get_features(pixels)[:, self.stem.num_coarse :], 2)
            parts.append(F.adaptive_avg_pool2d(fine, 3).flatten(1))
        return torch.cat(parts)

    def normalise(self, features: torch.Tensor) -> torch.Tensor:
        """Every principal axis weighs about the same, and every image exactly."""
        return F.normalize((features - self.mean) @ self.axes, dim=-1)

    def ranks(self, images: list[Image.Image], names: list[str], own: list[int | None]) -> torch.Tensor:
        """
        How many other names are nearer to each image than its own.

        Args:
            images (`list[PIL.Image.Image]`): RGB.
            names (`list[str]`): What each should show.
            own (`list[int | None]`): Number of the drawing that each image is, or is made from: it has no say.

        Returns:
            `torch.LongTensor` of shape `(len(images),)`: 0 where no name is nearer.
        """
        similarity = self.normalise(self.raw_features(images)) @ self.features.t()
        for row, number in enumerate(own):
            if number is not None:
                similarity[row, number] = -2
        best = torch.full((len(images), len(self.names)), -2.0)
        best = best.scatter_reduce(1, self.places.expand(len(images), -1), similarity, "amax")
        wanted = best.gather(1, torch.tensor([[self.names.index(name)] for name in names]))
        # a name that only the image's own drawing has can never be found
        return torch.where(wanted > -2, best > wanted, True).sum(1)


__all__ = ["NearestDrawings"]
