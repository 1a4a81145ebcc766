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
"""Limits the memory and time of one image, and the addresses that it may come from."""

import os
from dataclasses import dataclass, fields

from PIL import Image


class ImageRefusedError(ValueError):
    """An image that is not read because of [`IMAGE_LIMITS`], whatever else is right or wrong with it."""


@dataclass
class ImageLimits:
    """Limits of [`~image_loading_seed.load_rgb_image`], for the whole process.

    Change [`IMAGE_LIMITS`], or set the environment variable `SEED_HF_` + the name in capitals before the start.

    Args:
        max_image_pixels (`int`, *optional*, defaults to 67108864):
            Width times height, 8192 x 8192. Decoded, that is 256 MiB, of which a few copies exist at a time. JPEG
            files of up to four times as many pixels, such as those of phones with 108 and 200 megapixels, are decoded
            at half their width and height. If `PIL.Image.MAX_IMAGE_PIXELS` is lower, that holds.
        max_image_bytes (`int`, *optional*, defaults to 536870912):
            Size of the file: `max_image_pixels` uncompressed at 8 bytes, the most that Pillow reads. A download
            ends as soon as the image is whole, so what follows it does not count.
        max_url_seconds (`int`, *optional*, defaults to 60):
            Seconds for the whole download, redirects included.
        allow_private_urls (`bool`, *optional*, defaults to `False`):
            Whether URLs may lead to loopback, link-local, multicast and other addresses that are not public. In the
            environment variable, 1 or 0.

    Example:

    ```python
    >>> from seed_hf.models.image_limits_seed import IMAGE_LIMITS

    >>> IMAGE_LIMITS.max_image_pixels
    67108864
    ```
    """

    max_image_pixels: int = 67108864
    max_image_bytes: int = 536870912
    max_url_seconds: int = 60
    allow_private_urls: bool = False

    @classmethod
    def from_environment(cls) -> "ImageLimits":
        """The defaults, or what environment variables say, which child processes inherit.

        Returns:
            `ImageLimits`: The limits.

        Raises:
            ValueError: If a variable is no integer.
        """
        values = {}
        for field in fields(cls):
            variable = f"SEED_HF_{field.name.upper()}"
            text = os.environ.get(variable, str(int(field.default)))
            try:
                values[field.name] = type(field.default)(int(text))
            except ValueError:
                raise ValueError(f"The environment variable {variable} is {text!r}; allowed: an integer.") from None
        return cls(**values)

    def pixels(self) -> int:
        """The limit that holds now, Pillow's own included."""
        return min(self.max_image_pixels, Image.MAX_IMAGE_PIXELS or self.max_image_pixels)

    def check_size(self, width: int, height: int) -> None:
        """Refuses an image that is empty or too large.

        Args:
            width (`int`): Width in pixels.
            height (`int`): Height in pixels.

        Raises:
            ImageRefusedError: If it is.
        """
        if width < 1 or height < 1:
            raise ImageRefusedError(f"it has {width}x{height} pixels")
        if width * height > self.pixels():
            raise ImageRefusedError(
                f"it has {width}x{height} pixels, more than the {self.pixels()} that IMAGE_LIMITS.max_image_pixels "
                "(or the environment variable SEED_HF_MAX_IMAGE_PIXELS) and PIL.Image.MAX_IMAGE_PIXELS allow"
            )

    def check_bytes(self, size: int) -> None:
        """Refuses a file that is too large.

        Args:
            size (`int`): Number of bytes.

        Raises:
            ImageRefusedError: If it is.
        """
        if size > self.max_image_bytes:
            raise ImageRefusedError(
                f"it has more than the {self.max_image_bytes} bytes that IMAGE_LIMITS.max_image_bytes (or the "
                "environment variable SEED_HF_MAX_IMAGE_BYTES) allows"
            )


IMAGE_LIMITS = ImageLimits.from_environment()
