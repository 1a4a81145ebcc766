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
"""Image processor of SEED: images of any kind to `pixel_values`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling
from transformers.models.auto import image_processing_auto

from .hub_mixin_seed import HubUploadMixin
from .image_limits_seed import IMAGE_LIMITS
from .image_loading_seed import ALLOWED, load_rgb_image


class _ImageInputsMixin:
    """What the image processors of every backend share: settings, checks, and how images of any kind are read."""

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 224, "width": 224}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        _check_settings(vars(self))

    def _validate_preprocess_kwargs(self, **kwargs) -> None:
        """Also what transformers accepts although the result would be NaN, infinite or endless."""
        _check_settings(kwargs)
        super()._validate_preprocess_kwargs(**kwargs)

    def fetch_images(self, images: Any, input_data_format: str | None = None, name: str = "images") -> Any:
        """Load every image with [`~image_loading_seed.load_rgb_image`]; lists keep their nesting.

        Args:
            images: One image of any kind, a (nested) list of them, or an array or tensor with a batch axis.
            input_data_format (`str`, *optional*): `"channels_first"` or `"channels_last"`, for arrays and tensors.
            name (`str`, *optional*, defaults to `"images"`): Name of the argument in errors, which add the index.

        Returns:
            `PIL.Image.Image` or (nested) `list[PIL.Image.Image]`: RGB images.

        Raises:
            ValueError: If there is no image, or one cannot be read.
        """
        is_batch = isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4
        if is_batch or isinstance(images, list | tuple):
            return [self.fetch_images(image, input_data_format, f"{name}[{i}]") for i, image in enumerate(images)]
        return load_rgb_image(images, name, input_data_format)

    def _prepare_image_like_inputs(
        self, images: Any, *args, expected_ndims: int = 3, **kwargs
    ) -> Iterator[np.ndarray | torch.Tensor]:
        """Load and flatten; each image becomes uint8 of shape (3, height, width), as the backend has it.

        One at a time: `_preprocess` resizes it before it asks for the next, so only one is held at full size.
        """
        input_data_format = kwargs.pop("input_data_format", None)
        found = list(_flatten(images, "images"))
        if not found:
            raise ValueError(f"`images` is {images!r}, which holds no image. Allowed is {ALLOWED}.")
        for image, name in found:
            yield self.process_image(self.fetch_images(image, input_data_format, name), *args, **kwargs)


class SeedImageProcessor(HubUploadMixin, _ImageInputsMixin, PilBackend):
    """Images to the `pixel_values` of [`SeedImageTokenizer`]: squash to a square, no crop, CLIP mean and deviation.

    It takes PIL images, arrays, tensors, paths, URLs and bytes, alone, in lists, in nested lists (flattened) or as one
    array with a batch axis; see [`~image_loading_seed.load_rgb_image`] for how each kind is read, and
    [`~image_limits_seed.IMAGE_LIMITS`] for how much memory and time one may take. It uses Pillow and NumPy only, so
    codes do not depend on whether torchvision is installed; `backend="torchvision"` in `from_pretrained` of
    [`SeedProcessor`] and `AutoImageProcessor` gives [`SeedImageProcessorTorchvision`] instead.

    Source: `models/seed_llama_tokenizer.py` (`ImageTokenizer.processor`) of SEED. Departures: transparency is put on
    white, EXIF rotation is applied, 16-bit grey is scaled, and unreadable input raises `ValueError`.

    Args:
        size (`int` or `dict[str, int]`, *optional*, defaults to `{"height": 224, "width": 224}`):
            Size of the output in pixels (128 in seed-mini).
        resample (`int`, *optional*, defaults to bicubic):
            Filter of Pillow.
        image_mean, image_std (`list[float]`, *optional*, default to those of CLIP):
            Mean and deviation of each channel, in units of the full range.

    Example:

    ```python
    >>> from PIL import Image
    >>> from seed_hf.models.image_processing_seed import SeedImageProcessor

    >>> pixel_values = SeedImageProcessor()(Image.new("RGB", (640, 480)), return_tensors="pt")["pixel_values"]
    >>> tuple(pixel_values.shape)
    (1, 3, 224, 224)
    ```
    """


def _flatten(images: Any, name: str) -> Iterator[tuple[Any, str]]:
    """Every image in (nested) lists and batches, and what error messages call it."""
    is_batch = isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4
    if not is_batch and not isinstance(images, list | tuple):
        yield images, name
        return
    for index, image in enumerate(images):
        yield from _flatten(image, f"{name}[{index}]")


def _check_settings(settings: dict[str, Any]) -> None:
    """Refuses factors and sizes that no image can be processed with."""
    # a negative factor is one that transformers' own checks of processors use
    allowed = {"rescale_factor": ("other than 0", np.equal), "image_std": ("above 0", np.less_equal)}
    allowed["image_mean"] = ("", lambda numbers, _: False)
    for name, (range_words, is_wrong) in allowed.items():
        value = settings.get(name)
        if value is None:
            continue
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if not np.isfinite(numbers).all() or np.any(is_wrong(numbers, 0)):
            raise ValueError(f"`{name}` is {value}; allowed: finite numbers {range_words}".rstrip() + ".")
    for name in ("size", "crop_size", "pad_size"):
        sides = [side for side in dict(settings.get(name) or {}).values() if side is not None]
        if any(side < 1 for side in sides) or max(sides, default=1) ** 2 > IMAGE_LIMITS.max_image_pixels:
            raise ValueError(
                f"`{name}` is {settings[name]}; allowed: sides from 1 pixel, and as a square not more than the "
                f"{IMAGE_LIMITS.max_image_pixels} pixels of IMAGE_LIMITS.max_image_pixels."
            )


# Where torchvision is installed, `AutoImageProcessor` takes the torchvision backend by default, except for the classes
# in this list. Done here and not in the package's `__init__`, so that the copy of this file in a saved folder does it.
if SeedImageProcessor.__name__ not in image_processing_auto.DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS:
    image_processing_auto.DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS.append(SeedImageProcessor.__name__)


__all__ = ["SeedImageProcessor"]
