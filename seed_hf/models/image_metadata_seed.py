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
"""Image files without their metadata, for those whose metadata Pillow cannot read although the pixels are good."""

import struct
import zlib
from collections.abc import Iterator


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"eXIf")
_JPEG_START_OF_SCAN = 0xDA
_JPEG_COMMENT = 0xFE
# JFIF, EXIF and Adobe, with the length from which they are whole; JFIF and Adobe say what the colours are.
_JPEG_KEPT = {0xE0: 16, 0xE1: 8, 0xEE: 14}
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")
_JPEG_SIGNATURE = b"\xff\xd8\xff"
SIGNATURES = (_PNG_SIGNATURE, _JPEG_SIGNATURE, *_TIFF_SIGNATURES)  # of the files that can be read without metadata
_TIFF_UNUSED_TAG = 65000
# Size, compression, colours, layout, orientation and palette: what the pixels need.
_TIFF_KEPT = (
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 347, *range(512, 522), 529, 530, 531, 532),
)


def without_metadata(data: bytes) -> bytes | None:
    """Drops what describes an image but not its pixels.

    Args:
        data (`bytes`): An image file.

    Returns:
        `bytes`: The file without it; `None` if nothing was dropped or the format has no such parts.
    """
    if data.startswith(_PNG_SIGNATURE):
        result = _PNG_SIGNATURE + b"".join(_png_chunks(data))
    elif data.startswith(_JPEG_SIGNATURE):
        result = b"".join(_jpeg_segments(data))
    elif data.startswith(_TIFF_SIGNATURES):
        result = _tiff_without_metadata(data)
    else:
        return None
    return None if result == data else result


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """The chunks to keep, each with its length and checksum."""
    at = len(_PNG_SIGNATURE)
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0] + 12
        chunk = data[at : at + size]
        is_whole = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if chunk[4:8] in _PNG_KEPT and (is_whole or chunk[4:8] != b"eXIf"):
            yield chunk
        at += size


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """The segments to keep, and everything from the first scan on."""
    yield data[:2]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_START_OF_SCAN:
        marker = data[at + 1]
        size = struct.unpack_from(">H", data, at + 2)[0] + 2
        is_metadata = 0xE0 <= marker <= 0xEF or marker == _JPEG_COMMENT
        if not is_metadata or size - 2 >= _JPEG_KEPT.get(marker, size):
            yield data[at : at + size]
        at += size
    yield data[at:]


def _tiff_without_metadata(data: bytes) -> bytes:
    """The first directory with other tags made into empty ones, so that no offset changes."""
    order = "<" if data.startswith(b"II") else ">"
    result = bytearray(data)
    try:
        start = struct.unpack_from(f"{order}I", data, 4)[0]
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", data, at)[0] not in _TIFF_KEPT:
                struct.pack_into(f"{order}HHI4x", result, at, _TIFF_UNUSED_TAG, 1, 1)
    except struct.error:  # the directory is not whole
        return data
    return bytes(result)
