"""Random views of a picture, drawn from a sample's own generator."""

import argparse
import math

import torch
from PIL import Image, ImageEnhance


def add_augmentation_arguments(group: argparse._ActionsContainer) -> None:
    """Adds the flags of [`augment`]; the defaults are LAVIS' `blip2_image_train`.

    Args:
        group (`argparse.ArgumentParser` or a group of one): to extend.
    """
    group.add_argument("--crop_scale", type=float, default=0.5, help="smallest area of the random crop (LAVIS: 0.5)")
    group.add_argument("--flip_probability", type=float, default=0.5, help="of a mirror image (LAVIS: 0.5)")
    group.add_argument("--rotation_degrees", type=float, default=0.0, help="largest rotation to either side")
    group.add_argument("--color_jitter", type=float, default=0.0, help="largest change of colour, light and contrast")


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draws one number.

    Args:
        low (`float`): smallest.
        high (`float`): not reached.
        generator (`torch.Generator`): source of randomness.

    Returns:
        `float`: in `[low, high)`.
    """
    return low + (high - low) * torch.rand((), generator=generator).item()


def augment(image: Image.Image, size: int, generator: torch.Generator, args: argparse.Namespace) -> Image.Image:
    r"""Draws a view of a picture: random resized crop, flip, rotation and colour jitter.

    LAVIS' `blip2_image_train` is the crop (scale 0.5 to 1) and the flip; rotation and jitter are ours, for small data,
    and off unless asked for. Crop, flip and rotation are one resampling; with a rotation it does not smooth, so
    pictures should not be much larger than `size` then, and corners that it uncovers are white.

    Args:
        image (`PIL.Image.Image`): RGB.
        size (`int`): side of the view in pixels.
        generator (`torch.Generator`): source of randomness.
        args (`argparse.Namespace`): flags of [`add_augmentation_arguments`].

    Returns:
        `PIL.Image.Image`: RGB, `size` x `size` pixels.
    """
    width, height = image.size
    area = uniform(args.crop_scale, 1.0, generator) * width * height
    ratio = math.exp(uniform(math.log(3 / 4), math.log(4 / 3), generator))
    crop_w, crop_h = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = uniform(0, width - crop_w, generator), uniform(0, height - crop_h, generator)
    flip = -1.0 if uniform(0, 1, generator) < args.flip_probability else 1.0
    angle = math.radians(uniform(-args.rotation_degrees, args.rotation_degrees, generator))
    if args.rotation_degrees:
        image = _rotated_crop(image, size, (left, top, crop_w, crop_h), flip, angle)
    else:
        box = (left, top, min(width, left + crop_w), min(height, top + crop_h))
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip < 0 else image
    if args.color_jitter > 0:
        for enhancer in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
            image = enhancer(image).enhance(uniform(1 - args.color_jitter, 1 + args.color_jitter, generator))
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


__all__ = ["add_augmentation_arguments", "augment"]
