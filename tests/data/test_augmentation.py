"""Augmented views: LAVIS' random resized crop and flip, drawn from a sample's own generator."""

import numpy as np
import pytest
import torch
from PIL import Image

from seed_hf.data.augmentation import Augmentation, augment


def draw(image, size, seed=0, **settings):
    return augment(image, size, torch.Generator().manual_seed(seed), Augmentation(**settings))


def gradient(width, height):
    """Red rises from left to right, green from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def test_views_belong_to_their_generator():
    image = gradient(64, 48)
    views = [np.asarray(draw(image, 16, seed=seed)) for seed in (0, 0, 1)]
    assert (views[0] == views[1]).all() and (views[0] != views[2]).any()


@pytest.mark.parametrize("size", [(200, 150), (150, 200), (300, 100)])
def test_crops_and_flips_are_those_of_the_recipe(size):
    image, areas, flips = gradient(*size), [], []
    for seed in range(300):
        red, green, _ = np.asarray(draw(image, 16, seed=seed), float).transpose(2, 0, 1)
        # what the view spans of the gradients, half a pixel missing on each side
        width, height = abs(red[8, -1] - red[8, 0]) / 255 * 16 / 15, (green[-1, 8] - green[0, 8]) / 255 * 16 / 15
        areas.append(width * height)
        flips.append(red[8, 0] > red[8, -1])
    assert 0.4 < np.mean(flips) < 0.6
    assert max(areas) < 1.05
    if max(size) < 1.5 * min(size):  # a longer picture has no such large crops in these proportions
        assert min(areas) > 0.45 and np.quantile(areas, 0.9) > 0.85


def test_fine_patterns_are_smoothed_not_sampled():
    checks = np.indices((256, 256)).sum(0) % 2 * 255
    image = Image.fromarray(np.repeat(checks[..., None], 3, 2).astype(np.uint8))
    view = np.asarray(draw(image, 32), float)
    assert view.std() < 3 and abs(view.mean() - 127.5) < 3


def test_rotation_uncovers_white_corners_and_jitter_changes_colours():
    black = Image.new("RGB", (40, 40))
    turned = np.asarray(draw(black, 32, rotation_degrees=45, crop_scale=1))
    assert turned.max() == 255 and turned[16, 16].max() == 0
    red = Image.new("RGB", (8, 8), (200, 40, 40))
    assert np.asarray(draw(red, 8)).std((0, 1)).max() == 0 and (np.asarray(draw(red, 8))[0, 0] == (200, 40, 40)).all()
    assert (np.asarray(draw(red, 8, color_jitter=0.5))[0, 0] != (200, 40, 40)).any()
