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
"""Reads one image safely, from any place and with any content."""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
import stat
import struct
import urllib.parse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from .image_formats_seed import IMAGE_FORMATS
from .image_limits_seed import IMAGE_LIMITS, ImageRefusedError
from .image_metadata_seed import SIGNATURES, without_metadata
from .image_modes_seed import to_rgb, to_uint8
from .image_url_seed import open_url


ALLOWED = (
    "a PIL image, an array or tensor (height, width, channels) or (channels, height, width), a path, an http(s) URL, "
    "a base64 data URI, base64, the bytes of an image file, a binary file, or a list of these"
)
_READ_BYTES = 2**16
_MIN_BASE64_LENGTH = 64
_FILE_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def load_rgb_image(image: Any, name: str = "image", input_data_format: str | None = None) -> Image.Image:
    """Read one image of any kind as an upright, opaque 8-bit RGB image.

    Transparency is put on white (the original drops it, which shows whatever colour hides behind it), EXIF rotation
    is applied, 16-bit grey is scaled to 8 bits (Pillow alone clips it), and an animated file gives its first frame.
    Metadata that cannot be read is left out with a warning. [`~image_limits_seed.IMAGE_LIMITS`] bounds memory and
    time.

    Args:
        image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor`, `str`, `os.PathLike`, `bytes` or binary file):
            The image. A string is a path, an http(s) URL, a base64 data URI, or base64 alone; white space in base64 is
            ignored, and padding may be missing. A file is read from where it stands. Arrays have 1, 3 or 4 channels,
            or none; their values are integers in `[0, 255]`, `uint16` in `[0, 65535]`, booleans, or floats in
            `[0, 1]`.
        name (`str`, *optional*, defaults to `"image"`):
            Name of the image in errors.
        input_data_format (`str`, *optional*):
            `"channels_first"` or `"channels_last"`. By default it follows from the shape; where both are possible, the
            channels of NumPy arrays are last, and those of torch tensors are first.

    Returns:
        `PIL.Image.Image`: Mode RGB, at least 1x1 pixels.

    Raises:
        ValueError: If the image cannot be read, is empty, exceeds a limit, or is of another kind.

    Example:

    ```python
    >>> import numpy as np
    >>> from seed_hf.models.image_processing_seed import load_rgb_image

    >>> load_rgb_image(np.zeros((4, 6, 3), dtype=np.uint8)).size
    (6, 4)
    ```
    """
    try:
        if isinstance(image, np.ndarray | torch.Tensor):
            return to_rgb(_from_array(image, input_data_format))
        if isinstance(image, Image.Image):
            IMAGE_LIMITS.check_size(*image.size)
            return to_rgb(image)
        with _open_source(image) as file:
            return _decode(file)
    except Exception as error:  # Pillow's decoders raise many types: OSError, SyntaxError, EOFError, struct.error, ...
        raise ValueError(f"`{name}` is {_describe(image)}: {error}. Allowed is {ALLOWED}.") from error


def _describe(image: Any) -> str:
    """The value in an error message, short also for images given as bytes or base64, and without secrets of URLs."""
    if isinstance(image, bytes | bytearray | memoryview):
        return f"{len(image)} bytes"
    if isinstance(image, np.ndarray | torch.Tensor):
        return f"a {type(image).__name__} of shape {tuple(image.shape)} and {image.dtype}"
    text = repr(image)
    text = re.sub(r"(?<=//)\S*@", "...@", text)  # user name and password
    text = re.sub(r"(//[^\s?#]*)[?#][^\s'\"]*", r"\1?...", text)  # signatures
    return text if len(text) <= 120 else f"{text[:120]}..."


# --- where the bytes are ---


@contextmanager
def _open_source(source: Any) -> Iterator[BinaryIO]:
    """A file that can be read and sought, from any source."""
    if isinstance(source, str):
        with _open_text(source) as file:
            yield file
    elif isinstance(source, bytes | bytearray | memoryview):
        yield BytesIO(source)
    elif isinstance(source, os.PathLike):
        with _open_path(source) as file:
            yield file
    elif hasattr(source, "read"):
        yield _PartlyReadFile(source)
    else:
        raise ValueError(f"{type(source).__name__} is no kind of image")


@contextmanager
def _open_text(text: str) -> Iterator[BinaryIO]:
    """A path, a URL, a data URI, or base64."""
    scheme = re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*)://", text)
    if re.match(r"\s*data:", text, re.IGNORECASE):
        yield BytesIO(_from_data_uri(text))
    elif scheme and scheme[1].lower() in ("http", "https"):
        with open_url(text.strip()) as response:
            yield _PartlyReadFile(response)
    elif scheme:
        hint = ", and for a local file its path" if scheme[1].lower() == "file" else ""
        raise ValueError(f"{scheme[1]}:// is not read; allowed: http:// and https://{hint}")
    else:
        yield from _open_path_or_base64(text)


def _from_data_uri(uri: str) -> bytes:
    """The content of `data:[<media type>][;base64],<data>`; what it is, the content tells better than the type."""
    header, comma, body = uri.strip().partition(",")
    if not comma or not header.lower().rstrip().endswith(";base64"):
        raise ValueError("it is a data URI that is not base64; allowed: data:image/png;base64,...")
    return _from_base64(urllib.parse.unquote(body, errors="strict"))


def _from_base64(text: str) -> bytes:
    """Decodes as browsers do: white space is ignored and padding may be missing, other characters are errors."""
    compact = re.sub(r"[\t\n\f\r ]", "", text)
    return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)


def _open_path_or_base64(text: str) -> Iterator[BinaryIO]:
    """An existing file comes first; base64 of an image has no chance to be the name of one."""
    try:
        file = _open_path(text)
    except ImageRefusedError:
        raise
    except (OSError, ValueError) as no_file:
        if len(text) < _MIN_BASE64_LENGTH:
            raise
        try:
            yield BytesIO(_from_base64(text))
        except (binascii.Error, UnidentifiedImageError):  # it was meant as a path
            raise no_file from None
    else:
        with file:
            yield file


def _open_path(path: str | os.PathLike) -> BinaryIO:
    """A regular file; reading a pipe could wait for ever, and a device could have no end."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = _FILE_KINDS.get(stat.S_IFMT(found.st_mode), "special")
        raise ImageRefusedError(f"it is {kind}, not a regular file")
    IMAGE_LIMITS.check_bytes(found.st_size)
    return open(path, "rb")


class _PartlyReadFile:
    """A file over what can only be read forwards, from where it stands, and read no further than Pillow asks."""

    def __init__(self, source: Any):
        self._read = getattr(source, "read1", source.read)  # what is there, instead of waiting for all of it
        self._kept = BytesIO()
        self._size = 0
        self._at = 0
        self._end: Exception | None = None
        self.is_opened = False

    def _fill(self, size: int | None) -> None:
        """Reads on until so much is kept, the source has ended, or it may not be read any further."""
        while self._end is None and (size is None or self._size < size):
            try:
                chunk = self._read(_READ_BYTES)
                if not isinstance(chunk, bytes | bytearray):
                    raise ImageRefusedError(f"its `read` gives {type(chunk).__name__}; allowed: bytes")
                IMAGE_LIMITS.check_bytes(self._size + len(chunk))
            except TimeoutError:
                self._end = ImageRefusedError(
                    f"the download takes longer than the {IMAGE_LIMITS.max_url_seconds} seconds that "
                    "IMAGE_LIMITS.max_url_seconds (or the environment variable SEED_HF_MAX_URL_SECONDS) allows"
                )
            except ImageRefusedError as error:
                self._end = error
            else:
                self._end = None if chunk else EOFError()
                self._kept.seek(self._size)
                self._size += self._kept.write(chunk)

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; the error that stopped the source only where nothing is left before it."""
        wanted = None if size is None or size < 0 else self._at + size
        # Decoders read in blocks until they have enough: no waiting for the rest of a block, which may not be needed.
        if not (self.is_opened and size == ImageFile.MAXBLOCK and self._at < self._size):
            self._fill(self._at + 1 if self.is_opened and size == ImageFile.MAXBLOCK else wanted)
        self._kept.seek(self._at)
        data = self._kept.read(-1 if wanted is None else size)
        if not data and size != 0 and isinstance(self._end, ImageRefusedError):
            raise self._end
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        if whence == os.SEEK_END:
            self._fill(None)
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at


# --- what the bytes hold ---


def _decode(file: BinaryIO) -> Image.Image:
    """The image of an encoded file; once more without metadata if the file cannot be read with it."""
    try:
        return to_rgb(_open(file))
    except ImageRefusedError:
        raise
    except Exception as error:
        file.seek(0)
        head = file.read(8)
        repaired = without_metadata(head + file.read()) if head.startswith(SIGNATURES) else None
        if repaired is None:
            raise
        try:
            image = to_rgb(_open(BytesIO(repaired)))
        except Exception:  # the metadata was not the cause
            raise error from None
        warnings.warn(f"The metadata of an image cannot be read ({error}) and is left out.", stacklevel=4)
        return image


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Those of our formats that this release of Pillow opens."""
    Image.init()
    return tuple(name for name in IMAGE_FORMATS if name in Image.OPEN)


def _identify(file: BinaryIO, formats: tuple[str, ...]) -> Image.Image:
    """`Image.open`, whose error names an address in memory, which would make lists of skipped images differ."""
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise UnidentifiedImageError("cannot identify image file") from None
    except Image.DecompressionBombError as error:
        limit = f"twice the limit of Pillow, PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS}"
        raise ValueError(f"it has more pixels than {limit}") from error


def _open(file: BinaryIO) -> Image.Image:
    """Opens an encoded image without decoding it yet, at half its size if it is a JPEG that needs it."""
    head = file.read(32)
    if not head:
        raise ValueError("there is nothing to read: it is empty, or was read to its end before")
    _check_what_opening_decodes(file, head)
    file.seek(0)
    formats = _known_formats()
    # Image.open refuses JPEGs above Pillow's own limit before their size could be halved.
    image = Image.OPEN["JPEG"][0](file, "") if head.startswith(b"\xff\xd8\xff") else _identify(file, formats)
    if isinstance(file, _PartlyReadFile):
        file.is_opened = True
    width, height = image.size
    # Progressive files keep all coefficients in memory, so half the size does not help.
    if width * height > IMAGE_LIMITS.pixels() and image.format in ("JPEG", "MPO") and "progressive" not in image.info:
        if -(-width // 2) * -(-height // 2) <= IMAGE_LIMITS.pixels():
            image.draft(None, (width // 2, height // 2))
    IMAGE_LIMITS.check_size(*image.size)
    return image


def _check_what_opening_decodes(file: BinaryIO, head: bytes) -> None:
    """The sizes in WebP and ICO files, for which Pillow takes memory while it opens them."""
    if head[:4] == b"RIFF" and head[8:15] == b"WEBPVP8" and len(head) >= 30:
        IMAGE_LIMITS.check_size(*_webp_size(head))
    elif head[:4] == b"\0\0\1\0":
        (count,) = struct.unpack_from("<H", head, 4)
        file.seek(6)
        entries = file.read(16 * count)
        for at in range(12, len(entries) - 3, 16):
            file.seek(struct.unpack_from("<I", entries, at)[0])
            start = file.read(24)
            if start.startswith(b"\x89PNG") and len(start) == 24:
                IMAGE_LIMITS.check_size(*struct.unpack_from(">II", start, 16))
            elif len(start) == 24:  # a bitmap and its mask, one above the other
                width, height = struct.unpack_from("<ii", start, 4)
                IMAGE_LIMITS.check_size(max(1, abs(width)), max(1, abs(height) // 2))


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height in one of the three forms."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return max(1, width & 0x3FFF), max(1, height & 0x3FFF)


# --- arrays ---


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
    if array.size:
        IMAGE_LIMITS.check_size(array.shape[1], array.shape[0])
    return Image.fromarray(to_uint8(array))
