"""Image processor of SEED: any picture to `pixel_values`, and what it takes to read any picture safely."""

from __future__ import annotations

import base64
import os
import urllib.request
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

from .hub_seed import HubUploadMixin


ALLOWED = (
    "a PIL image, an array or tensor (height, width, channels) or (channels, height, width), a path, an http(s) URL, "
    "a data URI, the bytes of an image file, or a list of these"
)
URL_TIMEOUT_SECONDS = 30.0


def load_rgb_image(image: Any, name: str = "image", input_data_format: str | None = None) -> Image.Image:
    """Read one picture of any kind as an upright, opaque 8-bit RGB image.

    Transparency is put on white (the original drops it, which shows whatever colour hides behind it), EXIF rotation is
    applied, 16-bit grey is scaled to 8 bits (Pillow alone clips it), and an animated file gives its first frame.

    Args:
        image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str`, `os.PathLike`, `bytes` or binary file):
            The picture. A string is a path, an http(s) URL or a data URI. Arrays have 1, 3 or 4 channels, or none;
            their values are integers in `[0, 255]`, `uint16` in `[0, 65535]`, booleans, or floats in `[0, 1]`.
        name (`str`, *optional*, defaults to `"image"`):
            What error messages call it.
        input_data_format (`str`, *optional*):
            `"channels_first"` or `"channels_last"`. By default told from the shape; where both are possible, the
            channels of numpy arrays are last and those of torch tensors first.

    Returns:
        `PIL.Image.Image`: Mode RGB, at least 1x1 pixels.

    Raises:
        ValueError: If the picture cannot be read, is empty, exceeds Pillow's pixel limit, or is of another kind.

    Example:

    ```python
    >>> import numpy as np
    >>> from seed_hf.image_processing_seed import load_rgb_image

    >>> load_rgb_image(np.zeros((4, 6, 3), dtype=np.uint8)).size
    (6, 4)
    ```
    """
    try:
        if isinstance(image, np.ndarray | torch.Tensor):
            return _to_rgb(_from_array(image, input_data_format))
        if isinstance(image, Image.Image):
            return _to_rgb(image)
        with _open(image) as picture:
            return _to_rgb(picture)
    except Exception as error:  # Pillow's decoders raise many types: OSError, SyntaxError, EOFError, struct.error, ...
        raise ValueError(f"`{name}` is {_describe(image)}: {error}. Allowed is {ALLOWED}.") from error


def _describe(image: Any) -> str:
    """The value in an error message, short also for pictures given as bytes or base64."""
    if isinstance(image, bytes | bytearray | memoryview):
        return f"{len(image)} bytes"
    if isinstance(image, np.ndarray | torch.Tensor):
        return f"a {type(image).__name__} of shape {tuple(image.shape)} and {image.dtype}"
    text = repr(image)
    return text if len(text) <= 120 else f"{text[:120]}..."


def _open(source: Any) -> Image.Image:
    """Open an encoded picture, wherever it is, without decoding it yet."""
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        request = urllib.request.Request(source, headers={"User-Agent": "seed_hf"})  # some servers refuse Python's own
        with urllib.request.urlopen(request, timeout=URL_TIMEOUT_SECONDS) as response:
            source = BytesIO(response.read())
    elif isinstance(source, str) and source.startswith("data:"):
        source = BytesIO(base64.b64decode(source.partition(",")[2], validate=True))
    elif isinstance(source, bytes | bytearray | memoryview):
        source = BytesIO(source)
    elif not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        raise ValueError(f"{type(source).__name__} is no kind of picture")
    picture = Image.open(source)
    # Pillow itself refuses only at twice its limit and warns below that.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        raise ValueError(
            f"it has {picture.width}x{picture.height} pixels, more than the {limit} of PIL.Image.MAX_IMAGE_PIXELS"
        )
    return picture


def _from_array(array: np.ndarray | torch.Tensor, input_data_format: str | None) -> Image.Image:
    """An array or tensor as an 8-bit image with 1, 3 or 4 channels."""
    channel_axes = (-1, 0)
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
        channel_axes = (0, -1)
    if input_data_format == "channels_first":
        channel_axes = (0,)
    elif input_data_format == "channels_last":
        channel_axes = (-1,)
    elif input_data_format is not None:
        raise ValueError(f"`input_data_format` is {input_data_format!r}, not 'channels_first' or 'channels_last'")
    if array.ndim == 3:
        axis = next((axis for axis in channel_axes if array.shape[axis] in (1, 3, 4)), None)
        if axis is None:
            raise ValueError("no axis has 1, 3 or 4 channels")
        array = np.moveaxis(array, axis, -1)
        array = array[..., 0] if array.shape[-1] == 1 else array
    elif array.ndim != 2:
        raise ValueError(f"it has {array.ndim} axes, not 2 or 3")
    return Image.fromarray(_to_uint8(array))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    """Scale values to `[0, 255]` by their type; never clip."""
    if array.size == 0:
        raise ValueError("it is empty")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    kind = array.dtype.kind
    if kind in "bf":
        low, high, factor = 0, 1, 255
    elif kind == "u" and array.dtype.itemsize == 2:
        low, high, factor = 0, 65535, 1 / 257
    elif kind in "ui":
        low, high, factor = 0, 255, 1
    else:
        raise ValueError(f"{array.dtype} values are no pixels")
    if not (array.min() >= low and array.max() <= high):  # written so that NaN fails too
        raise ValueError(f"its values span {array.min()} to {array.max()}, outside [{low}, {high}] for {array.dtype}")
    return np.rint(array * np.float64(factor)).astype(np.uint8)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode of Pillow to upright RGB, without clipping and on white."""
    if not picture.width or not picture.height:
        raise ValueError(f"it has {picture.width}x{picture.height} pixels")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F" or picture.mode.startswith("I"):
        values = np.asarray(picture)
        # Pillow reads some 16-bit files as 32-bit integers.
        picture = Image.fromarray(_to_uint8(values if picture.mode == "F" else _as_uint16(values)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _as_uint16(values: np.ndarray) -> np.ndarray:
    """Integers of a 16-bit picture as `uint16`."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values span {values.min()} to {values.max()}, outside [0, 65535]")
    return values.astype(np.uint16)


class SeedImageProcessor(HubUploadMixin, PilBackend):
    """Pictures to the `pixel_values` of [`SeedImageTokenizer`]: squash to a square, no crop, CLIP mean and deviation.

    It takes PIL images, arrays, tensors, paths, URLs and bytes, alone, in lists, in nested lists (flattened) or as one
    array with a batch axis; see [`~image_processing_seed.load_rgb_image`] for how each kind is read. It uses Pillow
    and NumPy only, so codes do not depend on whether torchvision is installed.

    Source: `models/seed_llama_tokenizer.py` (`ImageTokenizer.processor`) of SEED. Departures: transparency is put on
    white, EXIF rotation is applied, 16-bit grey is scaled, and unreadable input raises `ValueError`.

    Args:
        size (`int` or `dict[str, int]`, *optional*, defaults to `{"height": 224, "width": 224}`):
            Size of the output in pixels; seed-mini has 64.
        resample (`int`, *optional*, defaults to bicubic):
            Filter of Pillow.
        image_mean, image_std (`list[float]`, *optional*, default to those of CLIP):
            For each channel, in units of the full range.

    Example:

    ```python
    >>> from PIL import Image
    >>> from seed_hf.image_processing_seed import SeedImageProcessor

    >>> pixel_values = SeedImageProcessor()(Image.new("RGB", (640, 480)), return_tensors="pt")["pixel_values"]
    >>> tuple(pixel_values.shape)
    (1, 3, 224, 224)
    ```
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 224, "width": 224}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def fetch_images(self, images: Any, input_data_format: str | None = None, name: str = "images") -> Any:
        """Load every picture with [`~image_processing_seed.load_rgb_image`]; lists keep their nesting.

        Args:
            images: One picture of any kind, a (nested) list of them, or an array or tensor with a batch axis.
            input_data_format (`str`, *optional*): `"channels_first"` or `"channels_last"`, for arrays and tensors.
            name (`str`, *optional*, defaults to `"images"`): What error messages call it; they add the index.

        Returns:
            `PIL.Image.Image` or (nested) `list[PIL.Image.Image]`: RGB images.

        Raises:
            ValueError: If there is no picture, or one cannot be read.
        """
        is_batch = isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4
        if is_batch or isinstance(images, list | tuple):
            return [self.fetch_images(image, input_data_format, f"{name}[{i}]") for i, image in enumerate(images)]
        return load_rgb_image(images, name, input_data_format)

    def _prepare_image_like_inputs(self, images: Any, *args, expected_ndims: int = 3, **kwargs) -> list[np.ndarray]:
        """Load and flatten; each picture becomes a uint8 array (3, height, width)."""
        loaded = [self.fetch_images(images, kwargs.pop("input_data_format", None))]
        while any(isinstance(image, list) for image in loaded):
            loaded = [image for part in loaded for image in (part if isinstance(part, list) else [part])]
        if not loaded:
            raise ValueError(f"`images` is {images!r}, which holds no picture. Allowed is {ALLOWED}.")
        return [self.process_image(image, *args, **kwargs) for image in loaded]


__all__ = ["SeedImageProcessor"]
