"""Images of every mode and storage that files come in, each with the pixels that it must give."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from seed_hf.models.image_modes_seed import to_rgb, to_uint8
from seed_hf.models.image_processing_seed import load_rgb_image


RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image, file_format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(image):
    """The first row."""
    return [tuple(pixel) for pixel in np.asarray(load_rgb_image(image))[0].tolist()]


def greys(image):
    """The first row of a grey image."""
    row = np.asarray(load_rgb_image(image))[0]
    assert (row == row[:, :1]).all()
    return row[:, 0].tolist()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth, colour, row, width, transparent):
    """One row of a PNG, with a transparent value."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(values, photometric, bits, sample_format=1, packed=None):
    """One row of an uncompressed little-endian TIFF."""
    data = packed or values.tobytes()
    tags = [(256, 4, len(values)), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, 1), (279, 4, len(data)), (339, 3, sample_format)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + b"\0\0\0\0"


@pytest.mark.parametrize(
    ("depth", "row", "value", "expected"),
    [
        (1, b"\x40", 0, [255, 255]),  # 0 is transparent, 1 is white
        (1, b"\x40", 1, [0, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),  # 0, 1, 2, 3
        (4, b"\x0f\x70", 7, [0, 255, 255, 0]),  # 0, 15, 7, 0
        (8, b"\x00\x05\xff", 5, [0, 255, 255]),
        (16, struct.pack(">4H", 0, 257, 300, 65535), 300, [0, 1, 255, 255]),
        (16, struct.pack(">2H", 300, 301), 300, [255, 1]),  # all 16 bits count
    ],
)
def test_grey_png_with_a_transparent_value(depth, row, value, expected):
    data = png(depth, 0, row, len(expected), struct.pack(">H", value))
    assert greys(data) == expected
    assert greys(Image.open(BytesIO(data))) == expected


def test_rgb_png_of_16_bits_with_a_transparent_value():
    row = struct.pack(">6H", 65535, 0, 0, 0, 65535, 0)
    assert pixels(png(16, 2, row, 2, struct.pack(">3H", 65535, 0, 0))) == [WHITE, GREEN]


def test_the_file_of_the_caller_keeps_its_transparent_value():
    image = Image.open(BytesIO(png(2, 0, b"\x1b", 4, struct.pack(">H", 1))))
    load_rgb_image(image)
    assert image.info["transparency"] == 1


@pytest.mark.parametrize(
    ("values", "bits", "sample_format", "black_is_zero"),
    [
        (np.array([0, 64, 255], dtype=np.uint8), 8, 1, [0, 64, 255]),
        (np.array([0, 257, 32896, 65535], dtype=np.uint16), 16, 1, [0, 1, 128, 255]),
        (np.array([0.0, 0.2, 1.0], dtype=np.float32), 32, 3, [0, 51, 255]),
    ],
)
def test_tiff_white_is_zero(values, bits, sample_format, black_is_zero):
    assert greys(tiff(values, 1, bits, sample_format)) == black_is_zero
    assert greys(tiff(values, 0, bits, sample_format)) == [255 - value for value in black_is_zero]


@pytest.mark.parametrize("photometric", [0, 1])
def test_float_tiff_outside_the_range_is_refused(photometric):
    with pytest.raises(ValueError, match=r"span -0.5 to 0.5, outside \[0, 1\]"):
        load_rgb_image(tiff(np.array([-0.5, 0.5], dtype=np.float32), photometric, 32, 3))


def test_tiff_of_12_bits():
    """0, 4095, 2048, 1024 in three nibbles each."""
    data = tiff(np.zeros(4), 1, 12, packed=b"\x00\x0f\xff\x80\x04\x00")
    assert greys(data) == [0, 255, 128, 64]


def without_adobe_marker(data):
    """The JPEG without its APP14 segment, which says nothing about the pixels but how they are stored."""
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack_from(">H", data, at + 2)[0] :]


def test_cmyk_jpeg_with_and_without_the_adobe_marker():
    """Adobe stores CMYK inverted and says so; without the marker, 0 is no ink."""
    image = Image.new("CMYK", (8, 8), (0, 200, 200, 0))
    inverted = Image.new("CMYK", (8, 8), (255, 55, 55, 255))
    expected = np.asarray(image.convert("RGB"), dtype=int)[0, 0]
    for data in (encode(image, "JPEG", quality=95), without_adobe_marker(encode(inverted, "JPEG", quality=95))):
        found = np.asarray(load_rgb_image(data), dtype=int)[0, 0]
        assert np.abs(found - expected).max() <= 3  # JPEG is lossy


def gif_with_a_small_frame(transparent):
    """A red dot at (1, 1) in a screen of 3x3, and colour 0 green."""
    palette = bytes([*GREEN, *RED])
    control = b"!\xf9\x04\x01\0\0\0\0" if transparent else b""
    frame = b"," + struct.pack("<4H", 1, 1, 1, 1) + b"\0"
    return b"GIF89a" + struct.pack("<HH", 3, 3) + b"\x80\0\0" + palette + control + frame + b"\x02\x02\x4c\x01\0;"


@pytest.mark.parametrize("transparent", [False, True])
def test_gif_frame_smaller_than_its_screen(transparent):
    """What no frame covers is transparent, not the first colour."""
    data = gif_with_a_small_frame(transparent)
    expected = np.full((3, 3, 3), 255)
    expected[1, 1] = RED
    loaded = Image.open(BytesIO(data))
    loaded.load()
    for image in (data, Image.open(BytesIO(data)), loaded):
        np.testing.assert_array_equal(np.asarray(load_rgb_image(image)), expected)


def test_palette_with_an_alpha_for_each_colour():
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 0, 0, 0, *RED])
    image.putdata([0, 1, 2])
    assert greys(encode(image.crop((0, 0, 2, 1)), transparency=bytes([0, 128]))) == [255, 127]
    assert pixels(encode(image, transparency=bytes([255, 0, 255]))) == [(0, 0, 0), WHITE, RED]


def test_palette_with_alpha_channel():
    """The colour of the palette under the alpha of the pixel, whatever release of Pillow converts it."""
    image = Image.merge("PA", (Image.frombytes("L", (3, 1), b"\0\1\1"), Image.frombytes("L", (3, 1), b"\xff\xff\0")))
    image.putpalette([*RED, *GREEN])
    assert pixels(image) == [RED, GREEN, WHITE]


def one_pixel(mode, *values):
    return Image.frombytes(mode, (1, 1), bytes(values))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (one_pixel("1", 0x80), WHITE),
        (one_pixel("1", 0), (0, 0, 0)),
        (one_pixel("LA", 0, 128), (127, 127, 127)),
        (Image.new("LA", (1, 1), (0, 0)).convert("La"), WHITE),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 0)).convert("RGBa"), WHITE),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)).convert("RGBa"), RED),
        (one_pixel("RGBX", 255, 0, 0, 9), RED),
        (one_pixel("CMYK", 0, 255, 255, 0), RED),
        (one_pixel("HSV", 0, 255, 255), RED),
        (one_pixel("YCbCr", 255, 128, 128), WHITE),
        (one_pixel("I;16", 0x80, 0x80), (128, 128, 128)),
        (one_pixel("I;16L", 0x01, 0x80), (128, 128, 128)),  # 32769 of 65535
        (one_pixel("I;16B", 0x80, 0x01), (128, 128, 128)),
        (Image.new("F", (1, 1), 0.2), (51, 51, 51)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_modes(image, expected):
    assert pixels(image) == [expected]


def test_lab():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.new("RGB", (2, 2), (200, 60, 40)), *profiles, outputMode="LAB")
    found = np.asarray(load_rgb_image(lab), dtype=int)
    assert np.abs(found - (200, 60, 40)).max() <= 2  # LAB has 8 bits for each value


def test_large_images_equal_small_ones():
    """Conversion goes in strips; a strip boundary must not show."""
    values = np.random.default_rng(0).integers(0, 256, (700, 3001, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(whole))
    grey = np.random.default_rng(0).integers(0, 65536, (700, 3001), dtype=np.uint16)
    expected = np.rint(grey / 257).astype(np.uint8)
    np.testing.assert_array_equal(to_uint8(grey), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(Image.fromarray(grey)))[..., 0], expected)


def test_result_is_a_new_image():
    image = Image.new("RGB", (2, 2))
    to_rgb(image).putpixel((0, 0), RED)
    assert image.getpixel((0, 0)) == (0, 0, 0)
