"""Damaged images of every format through `load_rgb_image`: RGB images or `ValueError`, in bounded time and memory."""

import base64
import io
import random
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
from mutations import mutate
from PIL import Image

from fuzz.target import Target, outcome_of
from seed_hf.models.image_limits_seed import IMAGE_LIMITS
from seed_hf.models.image_processing_seed import load_rgb_image


SIZE = (31, 23)
# A header can ask for any size; the limit is lower than a user's, so that many inputs can be tried.
MAX_PIXELS = 2**22
# Formats that Pillow writes, with the modes and settings that lead to other decoders.
SAVED = {
    "JPEG": [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 2})],
    "PNG": [*((mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")), ("P", {"transparency": 0})],
    "WEBP": [("RGB", {}), ("RGBA", {}), ("RGB", {"lossless": True})],
    "GIF": [("P", {}), ("L", {"transparency": 0})],
    "BMP": [("1", {}), ("L", {}), ("P", {}), ("RGB", {}), ("RGBA", {})],
    "TIFF": [
        *((mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "F", "I;16")),
        *(("RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        ("1", {"compression": "group4"}),
        ("RGB", {"big_tiff": True}),
    ],
    "MPO": [("RGB", {})],
    "AVIF": [("RGB", {}), ("RGBA", {})],
    "JPEG2000": [("RGB", {}), ("L", {}), ("RGBA", {}), ("RGB", {"no_jp2": True})],
    "PPM": [("1", {}), ("L", {}), ("I", {}), ("RGB", {}), ("F", {})],
    "ICO": [("RGBA", {"sizes": [(16, 16)]}), ("RGB", {"sizes": [(16, 16)], "bitmap_format": "bmp"})],
    "DIB": [("RGB", {}), ("P", {})],
    "DDS": [("RGB", {}), ("RGBA", {}), ("L", {}), ("RGBA", {"pixel_format": "DXT1"})],
    "SGI": [("RGB", {}), ("L", {})],
    "PCX": [("1", {}), ("L", {}), ("P", {}), ("RGB", {})],
    "QOI": [("RGB", {}), ("RGBA", {})],
    "MSP": [("1", {})],
    "IM": [("L", {}), ("P", {}), ("RGB", {})],
    "XBM": [("1", {})],
    "TGA": [("L", {}), ("P", {}), ("RGB", {}), ("RGBA", {"compression": "tga_rle"})],
}


def make_image(mode: str) -> Image.Image:
    """Noise, so that decoders have something to do."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3))
    if mode == "I;16":
        return Image.fromarray((noise[..., 0] * 257).astype(np.uint16))
    if mode == "LAB":
        return Image.merge("LAB", Image.fromarray(noise.astype(np.uint8)).split())
    if mode == "F":
        return Image.fromarray((noise[..., 0] / 255).astype(np.float32))
    image = Image.fromarray(noise.astype(np.uint8))
    return image.convert("L").convert(mode) if mode in ("I", "LA") else image.convert(mode)


def _save(image: Image.Image, image_format: str, **settings) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of formats that Pillow will not write any more
        image.save(file, image_format, **settings)
    return file.getvalue()


def _animated() -> Iterator[tuple[str, bytes]]:
    frames = {"save_all": True, "append_images": [make_image("RGB").rotate(180)]}
    for image_format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        if image_format in Image.SAVE_ALL:
            yield f"{image_format} frames", _save(make_image("RGB"), image_format, **frames)


def _with_metadata() -> Iterator[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    for image_format in ("JPEG", "PNG", "WEBP", "TIFF"):
        settings = {"exif": exif, "icc_profile": bytes(range(200))}
        yield f"{image_format} metadata", _save(make_image("RGB"), image_format, **settings)


def _written_by_hand() -> Iterator[tuple[str, bytes]]:
    """Formats that Pillow reads and does not write."""
    width, height = 16, 8
    pixels = np.random.default_rng(1).bytes(3 * width * height)
    yield "SUN RGB", struct.pack(">8I", 0x59A66A95, width, height, 24, len(pixels), 1, 0, 0) + pixels
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3)
    yield "PSD RGB", header + bytes(12) + struct.pack(">H", 0) + pixels
    icon = bytearray(_save(make_image("RGBA"), "ICO", sizes=[(16, 16)], bitmap_format="bmp"))
    icon[2] = 2
    yield "CUR RGB", bytes(icon)
    yield "DCX RGB", struct.pack("<3I", 0x3ADE68B1, 12, 0) + _save(make_image("RGB"), "PCX")
    rows = b",\n".join(b'"%s"' % line for line in (b"4 4 2 1", b"a c #FF0000", b"b c #00FF00", *[b"abab"] * 4))
    yield "XPM P", b"/* XPM */\nstatic char *a[] = {\n" + rows + b"\n};\n"
    pixar = bytearray(b"\x80\xe8\0\0" + bytes(1020) + pixels)
    struct.pack_into("<HH", pixar, 416, height, width)
    struct.pack_into("<HH", pixar, 424, 14, 2)
    yield "PIXAR RGB", bytes(pixar)
    yield "GBR L", struct.pack(">5I4sI", 33, 2, width, height, 1, b"GIMP", 1) + b"name\0" + pixels[: width * height]
    header = struct.pack("<4s7i", b"FTEX", 65544, width, height, 1, 1, 1, 32)
    yield "FTEX RGB", header + struct.pack("<i", len(pixels)) + pixels


def make_files() -> dict[str, bytes]:
    """Whole images by format and kind, all of which can be read; AVIF and others are not in every build of Pillow."""
    Image.init()
    files = {}
    for image_format, kinds in SAVED.items():
        for mode, settings in kinds if image_format in Image.SAVE else ():
            name = " ".join([image_format, mode, *map(str, settings.values())])
            files[name] = _save(make_image(mode), image_format, **settings)
    for source in (_animated, _with_metadata, _written_by_hand):
        files |= dict(source())
    return files


class _Stream:
    """What a download looks like: bytes that come once."""

    def __init__(self, data: bytes):
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


FORMS: list[Callable] = [bytes, io.BytesIO, _Stream, _base64, lambda data: f"data:image/png;base64,{_base64(data)}"]


class Images(Target):
    """Whole files with a few faults each, in every form that images are given in."""

    max_cpu_seconds = 5.0
    # What is documented: "a few copies" of at most 8 bytes a pixel, and what libraries take at their first use.
    max_megabytes = 5 * 8 * MAX_PIXELS / 2**20 + 64

    def __init__(self, folder: Path, kinds: str = ""):
        super().__init__(folder)
        self.files = {name: data for name, data in make_files().items() if name.startswith(kinds)}
        for name, data in self.files.items():
            image = self._load(data)
            assert image.mode == "RGB", name

    def _load(self, image) -> Image.Image:
        with patch.object(IMAGE_LIMITS, "max_image_pixels", MAX_PIXELS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_rgb_image(image)

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        name = rng.choice(list(self.files))
        data, form = mutate(self.files[name], rng), rng.choice(FORMS)
        self.input.write_bytes(data)
        outcome, image = outcome_of(lambda: self._load(form(data)))
        if outcome == "read":
            assert isinstance(image, Image.Image) and image.mode == "RGB" and min(image.size) > 0, (name, image)
            assert len(image.tobytes()) == 3 * image.width * image.height
        return name.partition(" ")[0], outcome, {}
