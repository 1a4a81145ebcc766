"""The judge that training never sees names the drawing most like a picture, and never asks the picture itself."""

import pytest
import torch
from PIL import Image, ImageOps

from seed_hf.mini import mini_image
from seed_hf.mini.judge import NearestDrawings
from seed_hf.models.modeling_seed_conv_stem import SeedConvStem


NAMES = ["strawberry", "guitar", "crown"]


@pytest.fixture(scope="module")
def images():
    return [Image.open(mini_image(name)).convert("RGB") for name in NAMES]


@pytest.fixture(scope="module")
def judge(images):
    torch.manual_seed(0)
    gallery = [*images, *map(ImageOps.mirror, images[:2])]  # of the crown there is one drawing only
    return NearestDrawings(gallery, [*NAMES, *NAMES[:2]], SeedConvStem(1, takes_inner=True), side=64)


def test_a_drawing_finds_itself(judge, images):
    assert judge.ranks(images, NAMES, [None] * 3).tolist() == [0, 0, 0]


def test_a_drawing_has_no_say_about_itself(judge, images):
    """Others of its name may still be found; a name without others cannot."""
    ranks = judge.ranks(images, NAMES, [0, 1, 2])
    assert ranks[2] == len(NAMES)
    assert judge.ranks(images[:1], NAMES[1:2], [None])[0] > 0
    changed = judge.ranks([images[0]], [NAMES[0]], [0])
    assert changed[0] == ranks[0]
