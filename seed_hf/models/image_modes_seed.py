# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Turns decoded images and arrays of any kind into upright, opaque 8-bit RGB, with NumPy and Pillow only."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms


_PIXELS_AT_A_TIME = 2**20
_TIFF_PHOTOMETRIC, _TIFF_BITS, _WHITE_IS_ZERO = 262, 258, 0
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A PNG file gives its transparent value in its own depth, and Pillow keeps that while it scales the pixels.
_TRANSPARENT_TO_8_BITS: dict[str, Callable[[int], int]] = {
    "1": lambda value: (value & 1) * 255,
    "L;2": lambda value: (value & 3) * 85,
    "L;4": lambda value: (value & 15) * 17,
    "L": lambda value: value & 255,
    "RGB": lambda value: value & 255,
    "RGB;16B": lambda value: value >> 8,
}


def to_uint8(array: np.ndarray, white: int | None = None) -> np.ndarray:
    """Scales values to `[0, 255]` by their type; never clips.

    Args:
        array (`np.ndarray`): Booleans, floats in `[0, 1]`, `uint16` in `[0, 65535]`, other integers in `[0, 255]`.
        white (`int`, *optional*): The largest value, where it is not that of the type.

    Returns:
        `np.ndarray`: `uint8` of the same shape.

    Raises:
        ValueError: If it is empty, of another type, or holds values outside the range or NaN.
    """
    if array.size == 0:
        raise ValueError("it is empty")
    if array.dtype == np.uint8 and white is None:
        return np.ascontiguousarray(array)
    high = white or _type_white(array.dtype)
    _check_range(array, high)
    result = np.empty(array.shape, dtype=np.uint8)
    # some rows at a time: the floats of a whole image would take eight times its memory
    rows = max(1, _PIXELS_AT_A_TIME * array.shape[0] // array.size)
    for start in range(0, array.shape[0], rows):
        result[start : start + rows] = np.rint(array[start : start + rows] * np.float64(255 / high))
    return result


def _type_white(dtype: np.dtype) -> int:
    """The value of white in an array of this type."""
    if dtype.kind not in "bfui":
        raise ValueError(f"{dtype} values are no pixels")
    return 1 if dtype.kind in "bf" else 65535 if dtype.kind == "u" and dtype.itemsize == 2 else 255


def _check_range(array: np.ndarray, high: int) -> None:
    """Refuses values that would have to be clipped."""
    low, top = array.min(), array.max()
    if not (low >= 0 and top <= high):  # written so that NaN fails too
        raise ValueError(f"its values span {low} to {top}, outside [0, {high}] for {array.dtype}")


@dataclass
class _Storage:
    """What the file says about its values that Pillow does not apply."""

    transparent: int | tuple[int, ...] | None  # in units of the decoded pixels
    inverted: bool  # small values are light
    white: int | None  # the largest grey value
    box: tuple[int, int, int, int] | None  # which part of the image the file fills


def _storage(image: Image.Image) -> _Storage:
    """Must be called before the image is loaded, which forgets part of it."""
    tags = getattr(image, "tag_v2", {})
    is_grey = image.mode == "F" or image.mode.startswith("I")
    inverted = is_grey and tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.format in ("JPEG", "MPO") and image.mode == "CMYK":
        inverted = "adobe" not in image.info  # Pillow inverts always, but only files with Adobe's marker need it
    bits = tags.get(_TIFF_BITS) if image.mode.startswith("I;16") else None
    is_first_gif_frame = image.format == "GIF" and image.tell() == 0
    return _Storage(
        transparent=_transparent_value(image),
        inverted=inverted,
        white=4095 if bits == (12,) else None,
        box=getattr(image, "dispose_extent", None) if is_first_gif_frame else None,
    )


def _transparent_value(image: Image.Image) -> Any:
    """The colour that a file calls transparent, as it is among the decoded pixels."""
    value = image.info.get("transparency")
    if value is None or image.format != "PNG" or not getattr(image, "tile", None):
        return value
    rawmode = image.tile[0][3]
    scale = _TRANSPARENT_TO_8_BITS.get(rawmode[0] if isinstance(rawmode, tuple) else rawmode)
    if scale is None:
        return value
    return tuple(map(scale, value)) if isinstance(value, tuple) else scale(value)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to upright RGB, without clipping and on white.

    Args:
        image (`PIL.Image.Image`): Image to load; it is not changed.

    Returns:
        `PIL.Image.Image`: A new image of mode RGB.

    Raises:
        ValueError: If its values are outside their range, or its mode is unknown.
    """
    storage = _storage(image)
    image.load()
    if image.mode == "RGB" and storage.transparent is None:
        result = image.copy()
    else:
        result = _in_strips(image, storage)
    if storage.box is not None and storage.box != (0, 0, *image.size):
        part, result = result.crop(storage.box), Image.new("RGB", image.size, "white")
        result.paste(part, storage.box[:2])
    method = _TO_UPRIGHT.get(_orientation(image))
    return result if method is None else result.transpose(method)


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation; metadata that cannot be read must not cost the image."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        return orientation if isinstance(orientation, int) else None
    except Exception as error:  # Pillow raises many types here: SyntaxError, ValueError, struct.error, ...
        warnings.warn(f"The EXIF data of an image cannot be read ({error}), so it is not turned.", stacklevel=2)
        return None


def _in_strips(image: Image.Image, storage: _Storage) -> Image.Image:
    """Converts some rows at a time, because the steps in between would take several times the memory of the image."""
    result = Image.new("RGB", image.size)
    rows = max(1, _PIXELS_AT_A_TIME // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(_strip_to_rgb(strip, storage), (0, top))
    return result


def _strip_to_rgb(strip: Image.Image, storage: _Storage) -> Image.Image:
    """The pixels of one strip."""
    if strip.mode == "F" or strip.mode.startswith("I"):
        return _grey_to_rgb(np.asarray(strip), storage)
    if strip.mode == "CMYK" and storage.inverted:
        strip = ImageChops.invert(strip)
    if strip.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(strip, *profiles, outputMode="RGB")
    if storage.transparent is not None:
        is_bits = strip.mode == "1"
        strip = strip.convert("L") if is_bits else strip
        strip.info["transparency"] = (255 if storage.transparent else 0) if is_bits else storage.transparent
    if strip.has_transparency_data:
        strip = strip.convert("LA").convert("RGBA") if strip.mode == "La" else strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
    return strip.convert("RGB")


def _grey_to_rgb(values: np.ndarray, storage: _Storage) -> Image.Image:
    """Grey of 12 or 16 bits, or floats."""
    is_transparent = values == storage.transparent if isinstance(storage.transparent, int) else None
    if values.dtype.kind != "f":
        # Pillow reads some 16-bit files as 32-bit integers
        _check_range(values, 65535)
        values = values.astype(np.uint16)
    if storage.inverted:
        white = storage.white or _type_white(values.dtype)
        _check_range(values, white)
        values = values.dtype.type(white) - values
    grey = to_uint8(values, storage.white)
    if is_transparent is not None:
        grey[is_transparent] = 255
    return Image.fromarray(grey).convert("RGB")
