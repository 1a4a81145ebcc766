"""Where the bytes of an image may be, what they may cost; damaged files are in test_fuzz.py."""

import base64
import os
import socket
import struct
import urllib.parse
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from seed_hf.models.image_formats_seed import IMAGE_FORMATS, IMAGE_SUFFIXES
from seed_hf.models.image_limits_seed import IMAGE_LIMITS, ImageLimits
from seed_hf.models.image_processing_seed import SeedImageProcessor, load_rgb_image


def make_photo(width=37, height=23):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encode(image, file_format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def assert_same(image, expected):
    np.testing.assert_array_equal(np.asarray(load_rgb_image(image)), np.asarray(expected.convert("RGB")))


# --- formats ---


def test_formats_agree_with_pillow():
    Image.init()
    ours = {suffix: name for name, suffixes in IMAGE_FORMATS.items() for suffix in suffixes}
    assert len(ours) == len(IMAGE_SUFFIXES)
    for suffix, name in ours.items():
        assert Image.EXTENSION.get(suffix, name) == name
    written = {suffix for suffix, name in Image.EXTENSION.items() if name in IMAGE_FORMATS}
    assert written - set(IMAGE_SUFFIXES) == set()


@pytest.mark.parametrize("name", sorted(IMAGE_FORMATS))
def test_every_format_that_pillow_writes_is_read(name):
    Image.init()
    if name not in Image.SAVE:
        assert name in Image.OPEN or name == "AVIF"  # read only; AVIF is not in every build
        return
    photo = make_photo(32, 32).convert("1" if name in ("MSP", "XBM") else "RGB")
    assert load_rgb_image(encode(photo, name)).size == (32, 32)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("data", [EPS, b"\xd7\xcd\xc6\x9a\0\0" + bytes(80), b"GRIB" + bytes(60), b"SIMPLE  =  T"])
def test_formats_that_need_a_program_are_not_opened(monkeypatch, data):
    """EPS would start Ghostscript."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: pytest.fail("a program was started"))
    with pytest.raises(ValueError, match="cannot identify image"):
        load_rgb_image(data)


# --- sources ---


def test_base64():
    photo = make_photo()
    raw = encode(photo)
    plain = base64.b64encode(raw).decode()
    lines = base64.encodebytes(raw).decode()
    quoted = urllib.parse.quote(plain, safe="")
    for text in (plain, lines, plain.rstrip("="), f"\t{lines}\r\n"):
        assert_same(text, photo)
        for header in ("data:image/png;base64,", "DATA:image/png;charset=x;Base64,", "data:;base64,"):
            assert_same(header + text, photo)
    assert_same("data:image/png;base64," + quoted, photo)
    # all three lengths of what is left over at the end
    for extra in range(3):
        assert_same(base64.b64encode(raw + bytes(extra)).decode().rstrip("="), photo)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/svg+xml,<svg/>", "a data URI that is not base64"),
        ("data:image/png,%89PNG", "a data URI that is not base64"),
        ("data:image/png;base64", "a data URI that is not base64"),
        ("data:image/png;base64,", "there is nothing to read"),
        ("data:image/png;base64,AAAAA", "base64|padd|data characters"),
        ("data:image/png;base64,iVBO*w0K", "[Bb]ase64"),
        ("data:image/png;base64," + "AAAA" * 30, "cannot identify image"),
        ("x" * 300, "too long"),
        ("a\0b.png", "null"),
        ("a/" * 3000, "too long"),
    ],
)
def test_text_that_is_no_image(uri, message):
    with pytest.raises(ValueError, match=f"`image` is .*{message}"):
        load_rgb_image(uri)


def test_a_file_whose_name_is_base64_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "A" * 80
    make_photo().save(name, "PNG")
    assert_same(name, make_photo())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes and devices in folders")
def test_special_files_are_refused_without_reading(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.open(tmp_path, os.O_RDONLY)  # short, as names of sockets must be
        bound.bind(f"/proc/self/fd/{folder}/s" if os.path.isdir("/proc/self/fd") else str(tmp_path / "s"))
        os.close(folder)
        kinds = {"pipe": "a named pipe", "link": "a device", "s": "a socket", ".": "a directory"}
        for name, kind in kinds.items():
            for path in (tmp_path / name, str(tmp_path / name)):
                with pytest.raises(ValueError, match=f"it is {kind}, not a regular file"):
                    load_rgb_image(path)


class Forward:
    """A source that can only be read forwards, such as a socket or the output of a program."""

    def __init__(self, data, block=1000):
        self.file, self.block, self.num_read = BytesIO(data), block, 0

    def read(self, size=-1):
        data = self.file.read(min(self.block, size) if size >= 0 else self.block)
        self.num_read += len(data)
        return data


FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "ICO", "JPEG2000"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_files_are_read_from_where_they_stand(file_format):
    first, second = Image.new("RGB", (32, 32)), make_photo(32, 32)
    data = encode(second, file_format)
    expected = load_rgb_image(data)
    file = BytesIO(encode(first, file_format) + data)
    file.seek(len(file.getvalue()) - len(data))
    assert_same(file, expected)
    assert_same(Forward(data), expected)
    assert_same(Forward(data, block=1), expected)


def test_a_file_that_stands_at_its_end():
    file = BytesIO(encode(make_photo()))
    file.seek(0, os.SEEK_END)
    with pytest.raises(ValueError, match="nothing to read: it is empty, or was read to its end"):
        load_rgb_image(file)


def test_text_files_and_endless_files(monkeypatch):
    from io import StringIO

    with pytest.raises(ValueError, match="its `read` gives str; allowed: bytes"):
        load_rgb_image(StringIO("text"))
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_bytes", 2**20)
    webp = encode(make_photo(), "WEBP")
    source = Forward(webp + bytes(2**22))
    assert load_rgb_image(source).size == (37, 23)  # Pillow asks for all there is, and gets it up to the limit
    assert source.num_read < 2**21
    source = Forward(encode(make_photo()) + bytes(2**22))
    assert load_rgb_image(source).size == (37, 23)
    assert source.num_read < 2**17


def test_large_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode(make_photo()))
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_bytes", 100)
    with pytest.raises(ValueError, match="100 bytes that IMAGE_LIMITS.max_image_bytes"):
        load_rgb_image(path)


# --- limits ---


def png_header(width, height, depth=8, colour=2):
    """A PNG of a few bytes that says it is large."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    chunks = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def webp_header(width, height):
    """The 34 bytes of a lossless WebP."""
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<I", 13) + b"\x2f" + struct.pack("<I", bits) + bytes(8)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def ico(content):
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(content), 22) + content


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10000, 10000), (16383, 16383), (65535, 2000)])
def test_small_files_of_large_images(size):
    files = [png_header(*size), png_header(*size, 16, 0), ico(png_header(*size))]
    files += [webp_header(*size)] if max(size) < 16384 else []
    for data in files:
        with pytest.raises(
            ValueError, match=rf"it has {size[0]}x{size[1]} pixels, more than|it has more pixels than twice"
        ):
            load_rgb_image(data)


def test_no_camera_meets_the_limit():
    """The largest sensors of today: 151 and 102 megapixels in medium format (as JPEG), 200 in phones."""
    for width, height in ((8192, 8192), (9504, 6336), (8256, 5504)):
        ImageLimits().check_size(width, height)
    for width, height in ((11656, 8742), (12000, 9000), (14204, 10652), (16384, 12288)):
        ImageLimits().check_size(width // 2, height // 2)


@pytest.mark.parametrize("file_format", ["JPEG", "MPO"])
def test_a_large_jpeg_is_read_at_half_its_size(monkeypatch, file_format):
    photo = make_photo(8, 6).resize((401, 301), Image.Resampling.BICUBIC)
    data = encode(photo, file_format, quality=95)
    whole = load_rgb_image(data)
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_pixels", 401 * 301)
    np.testing.assert_array_equal(np.asarray(load_rgb_image(data)), np.asarray(whole))
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_pixels", 401 * 301 - 1)
    half = load_rgb_image(data)
    assert half.size == (201, 151)
    difference = np.asarray(half, dtype=int) - np.asarray(whole.resize(half.size, Image.Resampling.BOX), dtype=int)
    assert np.abs(difference).mean() < 3
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_pixels", 201 * 151 - 1)
    with pytest.raises(ValueError, match="it has 401x301 pixels, more than"):
        load_rgb_image(data)


def test_a_large_progressive_jpeg_is_refused(monkeypatch):
    data = encode(make_photo(400, 300), "JPEG", progressive=True)
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_pixels", 100_000)
    with pytest.raises(ValueError, match="it has 400x300 pixels, more than the 100000"):
        load_rgb_image(data)


def test_limit_for_images_and_arrays_in_memory(monkeypatch):
    photo = make_photo()
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_pixels", 37 * 23 - 1)
    for image in (
        photo,
        np.asarray(photo),
        Image.open(BytesIO(encode(photo))),
        Image.open(BytesIO(encode(photo, "JPEG"))),
    ):
        with pytest.raises(ValueError, match="it has 37x23 pixels, more than the 850"):
            load_rgb_image(image)
    assert load_rgb_image(encode(photo, "JPEG")).size == (19, 12)


def test_limits_from_the_environment(monkeypatch):
    monkeypatch.setenv("SEED_HF_MAX_IMAGE_PIXELS", "1000")
    monkeypatch.setenv("SEED_HF_ALLOW_PRIVATE_URLS", "1")
    assert ImageLimits.from_environment() == ImageLimits(max_image_pixels=1000, allow_private_urls=True)
    monkeypatch.setenv("SEED_HF_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(ValueError, match="SEED_HF_MAX_IMAGE_PIXELS is 'many'; allowed: an integer"):
        ImageLimits.from_environment()


def peak_bytes(function):
    """Of NumPy's arrays, at one time."""
    import tracemalloc

    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_16_bits_and_floats_are_converted_in_pieces():
    """Floats of a whole image would take eight bytes for each value."""
    for image in (Image.new("I;16", (3000, 3000), 1000), Image.new("F", (3000, 3000), 0.5)):
        assert peak_bytes(lambda image=image: load_rgb_image(image)) < 4 * image.width * image.height
    array = np.full((3000, 3000, 1), 500, dtype=np.uint16)
    assert peak_bytes(lambda: load_rgb_image(array)) < 4 * array.size


def test_a_batch_is_held_one_image_at_a_time(monkeypatch):
    """The second image is read when the first has been resized."""
    processor, events = SeedImageProcessor(size=8), []
    fetch, resize = processor.fetch_images, processor.resize
    monkeypatch.setattr(processor, "fetch_images", lambda *args: events.append("fetch") or fetch(*args))
    monkeypatch.setattr(processor, "resize", lambda **kwargs: events.append("resize") or resize(**kwargs))
    processor([[make_photo()], [make_photo(), make_photo()]])
    assert events == ["fetch", "resize"] * 3


# --- metadata ---


def with_chunk(data, kind, content, at_end=False, checksum=None):
    at = len(data) - 12 if at_end else 33
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return data[:at] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum) + data[at:]


def with_segment(data, marker, content):
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


BROKEN_CHUNKS = {
    "exif": (b"eXIf", b"garbageg"),
    "exif text": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 4\nzz")),
    "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0\xff\xfe tiff:Orientation="),
    "icc": (b"iCCP", b"profile\0\x09garbage"),
    "icc without a name": (b"iCCP", b""),
    "large icc": (b"iCCP", b"profile\0\0" + zlib.compress(bytes(4 * 2**20))),
    "large text": (b"zTXt", b"key\0\0" + zlib.compress(bytes(100 * 2**20))),
    "dpi": (b"pHYs", b"\1"),
    "gamma": (b"gAMA", b""),
    "chromaticities": (b"cHRM", b"\1\2"),
}


@pytest.mark.filterwarnings("ignore:The (EXIF data|metadata) of an image")
@pytest.mark.parametrize("name", BROKEN_CHUNKS)
def test_broken_png_metadata(name):
    photo = make_photo(6, 4)
    for at_end in (False, True):
        for checksum in (None, 1):
            assert_same(with_chunk(encode(photo), *BROKEN_CHUNKS[name], at_end, checksum), photo)


@pytest.mark.filterwarnings("ignore:The (EXIF data|metadata) of an image", "ignore:Image appears to be")
@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF"),
        (0xE0, b"JFIF\0"),
        (0xE1, b"Exif\0\0garbage"),
        (0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff tiff:Orientation="),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
        (0xED, b"Photoshop 3.0\x008BIM\3"),
        (0xEE, b"Adobe"),
        (0xFE, b""),
    ],
)
def test_broken_jpeg_metadata(marker, content):
    data = encode(make_photo(16, 16), "JPEG")
    assert_same(with_segment(data, marker, content), Image.open(BytesIO(data)))


@pytest.mark.filterwarnings("ignore:The (EXIF data|metadata) of an image", "ignore::UserWarning:PIL")
def test_broken_tiff_metadata():
    photo = make_photo(6, 4)
    exif = Image.Exif()
    exif[0x010E] = "a text"
    data = encode(photo, "TIFF", dpi=(72, 72), exif=exif)
    order = "<" if data.startswith(b"II") else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    (count,) = struct.unpack_from(f"{order}H", data, start)
    tested = set()
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag = struct.unpack_from(f"{order}H", data, at)[0]
        if tag in (270, 282, 283, 296, 305):
            for kind in (0, 2, 3, 5, 7, 12, 99):
                broken = bytearray(data)
                struct.pack_into(f"{order}HII", broken, at + 2, kind, 3, 2**31)
                assert_same(bytes(broken), photo)
            tested.add(tag)
    assert {270, 282, 283} <= tested


def test_orientation_survives_other_broken_metadata():
    exif = Image.Exif()
    exif[0x0112] = 3
    upright, turned = make_photo(16, 16), make_photo(16, 16).transpose(Image.Transpose.ROTATE_180)
    with pytest.warns(UserWarning, match="The metadata of an image cannot be read"):
        assert_same(with_chunk(encode(turned, exif=exif), *BROKEN_CHUNKS["icc"]), upright)


def test_broken_exif_is_a_warning():
    with pytest.warns(UserWarning, match="The EXIF data of an image cannot be read"):
        load_rgb_image(with_chunk(encode(make_photo()), *BROKEN_CHUNKS["exif"]))


def test_whole_files_warn_about_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file_format in ("PNG", "JPEG", "WEBP", "TIFF"):
            assert load_rgb_image(encode(make_photo(), file_format, exif=exif)).size == (23, 37)


# --- settings of the processor ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_std", [0.5, 0.0, 0.5]),
        ("image_std", [0.5, -0.1, 0.5]),
        ("image_std", 0.0),
        ("image_std", [0.5, float("nan"), 0.5]),
        ("image_mean", [0.5, float("inf"), 0.5]),
        ("rescale_factor", 0.0),
        ("rescale_factor", float("nan")),
        ("size", {"height": 0, "width": 8}),
        ("size", {"height": -8, "width": 8}),
        ("size", 10**6),
    ],
)
def test_settings_that_no_image_can_be_processed_with(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is .*; allowed: "):
        SeedImageProcessor(**{name: value})
    with pytest.raises(ValueError, match=f"`{name}` is .*; allowed: "):
        SeedImageProcessor()(make_photo(), **{name: value})
