"""Random views of an image, drawn from a sample's own generator."""

import math

import torch
from PIL import Image, ImageEnhance

from .settings import Augmentation


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draws one number.

    Args:
        low (`float`): Smallest value.
        high (`float`): Upper end, which is not reached.
        generator (`torch.Generator`): Source of randomness.

    Returns:
        `float`: In `[low, high)`.
    """
    return low + (high - low) * torch.rand((), generator=generator).item()


def augment(image: Image.Image, size: int, generator: torch.Generator, settings: Augmentation) -> Image.Image:
    r"""Draws a view of an image: random resized crop, flip, rotation and colour jitter.

    LAVIS' `blip2_image_train` is the crop (scale 0.5 to 1) and the flip; rotation and jitter are ours, for small data,
    and off unless asked for. Crop, flip and rotation are one resampling; with a rotation it does not smooth, so
    images should not be much larger than `size` then, and corners that it uncovers are white.

    Args:
        image (`PIL.Image.Image`): RGB.
        size (`int`): Side of the view in pixels.
        generator (`torch.Generator`): Source of randomness.
        settings ([`~seed_hf.data.settings.Augmentation`]): How much views may differ.

    Returns:
        `PIL.Image.Image`: RGB, `size` x `size` pixels.
    """
    width, height = image.size
    area = uniform(settings.crop_scale, 1.0, generator) * width * height
    ratio = math.exp(uniform(math.log(3 / 4), math.log(4 / 3), generator))
    crop_w, crop_h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = uniform(0, width - crop_w, generator), uniform(0, height - crop_h, generator)
    flip = -1.0 if uniform(0, 1, generator) < settings.flip_probability else 1.0
    angle = math.radians(uniform(-settings.rotation_degrees, settings.rotation_degrees, generator))
    if settings.rotation_degrees:
        image = _rotated_crop(image, size, (left, top, crop_w, crop_h), flip, angle)
    else:
        box = (left, top, min(width, left + crop_w), min(height, top + crop_h))
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip < 0 else image
    if settings.color_jitter > 0:
        for enhancer in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
            image = enhancer(image).enhance(uniform(1 - settings.color_jitter, 1 + settings.color_jitter, generator))
    return image


def _rotated_crop(image: Image.Image, size: int, crop: tuple, flip: float, angle: float) -> Image.Image:
    left, top, crop_w, crop_h = crop
    cos, sin = math.cos(angle), math.sin(angle)
    # output pixel (x, y) -> input pixel: centre, flip, rotate, scale to the crop, move to the crop's centre
    scale_x, scale_y = crop_w / size, crop_h / size
    a, b, d, e = flip * cos * scale_x, -sin * scale_x, flip * sin * scale_y, cos * scale_y
    c = left + crop_w / 2 - (a + b) * size / 2
    f = top + crop_h / 2 - (d + e) * size / 2
    matrix = (a, b, c, d, e, f)
    mode, resampling = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return image.transform((size, size), mode, matrix, resampling, fillcolor=(255, 255, 255))


__all__ = ["Augmentation", "augment"]
