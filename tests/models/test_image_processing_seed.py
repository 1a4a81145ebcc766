"""Every kind of picture that people have, good and bad, gives the right pixels or an error that names it."""

import base64
import http.server
import threading
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from seed_hf.models.image_limits_seed import IMAGE_LIMITS
from seed_hf.models.image_processing_seed import SeedImageProcessor, load_rgb_image


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def make_photo(width=37, height=23):
    """A picture whose every pixel differs, so that a swapped axis or channel shows."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encode(image, file_format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def assert_same(image, expected):
    np.testing.assert_array_equal(np.asarray(load_rgb_image(image)), np.asarray(expected))


def test_equals_pillow_bicubic():
    """No crop, no antialiasing of another library: exactly what the original's transform does."""
    photo = make_photo()
    expected = np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    expected = ((expected - OPENAI_CLIP_MEAN) / OPENAI_CLIP_STD).transpose(2, 0, 1)
    pixel_values = SeedImageProcessor()(photo, return_tensors="pt")["pixel_values"]
    assert pixel_values.dtype == torch.float32
    assert pixel_values.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(pixel_values[0].numpy(), expected, atol=1e-6)


def test_batch_equals_single():
    processor = SeedImageProcessor(size=32)
    photos = [make_photo(37, 23), make_photo(5, 90), make_photo(32, 32)]
    batch = processor(photos, return_tensors="pt")["pixel_values"]
    nested = processor([photos[:1], photos[1:]], return_tensors="pt")["pixel_values"]
    for photo, one in zip(photos, batch, strict=True):
        assert torch.equal(processor(photo, return_tensors="pt")["pixel_values"][0], one)
    assert torch.equal(batch, nested)


@pytest.mark.parametrize("size", [64, {"height": 16, "width": 48}])
def test_save_and_reload(tmp_path, size):
    processor = SeedImageProcessor(size=size, image_mean=[0.5, 0.5, 0.5])
    processor.save_pretrained(tmp_path)
    again = SeedImageProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    photo = make_photo()
    assert torch.equal(
        processor(photo, return_tensors="pt").pixel_values, again(photo, return_tensors="pt").pixel_values
    )


def test_auto_class_finds_it(tmp_path):
    """With the package imported, no trust is asked for and no torchvision is needed."""
    SeedImageProcessor(size=16).save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)).__name__ == "SeedImageProcessor"


# --- sources ---


def test_sources(tmp_path):
    photo = make_photo()
    data = encode(photo)
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (photo, data, bytearray(data), memoryview(data), BytesIO(data), path, str(path), uri):
        assert_same(source, photo)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one picture, after a redirect."""

    def do_GET(self):  # noqa: N802
        if self.path == "/moved.png":
            self.send_response(302)
            self.send_header("Location", "/photo.png")
            self.end_headers()
        elif self.path == "/photo.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encode(make_photo()))
        else:
            self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_urls(server, monkeypatch):
    monkeypatch.setattr(IMAGE_LIMITS, "allow_private_urls", True)
    assert_same(f"{server}/photo.png", make_photo())
    assert_same(f"{server}/moved.png", make_photo())
    with pytest.raises(ValueError, match=r"`images\[1\]` is 'http.*none.png'.*404"):
        SeedImageProcessor()([make_photo(), f"{server}/none.png"])


def test_arrays():
    photo = make_photo()
    last = np.asarray(photo)
    first = last.transpose(2, 0, 1)
    tensor = torch.from_numpy(first.copy())
    floats = torch.tensor(last / 255.0, requires_grad=True)
    same = (last, first, last[:, ::-1][:, ::-1], last / 255.0, first.astype(np.float32) / 255, last.astype(np.int64))
    for array in (*same, tensor, tensor / 255, floats, last.astype(np.uint16) * 257):
        assert_same(array, photo)
    batch = SeedImageProcessor(size=8)(np.stack([last, last]), return_tensors="pt")["pixel_values"]
    assert torch.equal(batch, SeedImageProcessor(size=8)([photo, photo], return_tensors="pt")["pixel_values"])
    assert_same(np.array([[True, False]]), Image.fromarray(np.array([[255, 0]], dtype=np.uint8)).convert("RGB"))
    assert_same(last[..., :1], photo.getchannel("R").convert("RGB"))


def test_ambiguous_axes():
    """Both outer axes could be channels: last for numpy, first for torch, unless the caller says."""
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    last, first = Image.fromarray(array), Image.fromarray(array.transpose(1, 2, 0).copy())
    assert_same(array, last)
    assert_same(torch.from_numpy(array), first)
    processor = SeedImageProcessor(size=8)
    given = processor(array, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    assert torch.equal(given, processor(first, return_tensors="pt")["pixel_values"])


# --- kinds of picture that have a right answer ---


def test_palette():
    photo = make_photo().quantize(16)
    assert_same(encode(photo), photo.convert("RGB"))


def test_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    data = encode(image, transparency=0)
    expected = Image.new("RGB", (2, 1))
    expected.putdata([WHITE, GREEN])
    assert_same(data, expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_put_on_white(mode):
    """What hides behind transparent pixels must not show: half of a black 50 % veil on white is grey."""
    image = Image.new("RGBA", (3, 1))
    image.putdata([(0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 128)])
    values = [pixel[0] for pixel in np.asarray(load_rgb_image(image.convert(mode)))[0].tolist()]
    assert values == [255, 0, 127]


def test_rgb_with_a_transparent_colour():
    image = Image.new("RGB", (2, 1))
    image.putdata([RED, BLUE])
    expected = Image.new("RGB", (2, 1))
    expected.putdata([WHITE, BLUE])
    assert_same(encode(image, transparency=RED), expected)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_is_scaled(file_format):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    data = encode(Image.fromarray(values), file_format)
    assert Image.open(BytesIO(data)).mode.startswith("I")
    expected = Image.fromarray(np.array([[0, 1, 128, 255]], dtype=np.uint8)).convert("RGB")
    assert_same(data, expected)
    assert_same(Image.fromarray(values.astype(np.int32)), expected)  # mode I, as older Pillow reads such files
    assert_same(values, expected)


def test_cmyk():
    photo = make_photo().convert("CMYK")
    assert_same(encode(photo, "TIFF"), photo.convert("RGB"))
    assert_same(photo, photo.convert("RGB"))


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animation_gives_first_frame(file_format):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(BytesIO(data)).n_frames == 3
    assert_same(data, frames[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    """The stored picture is turned so that the eight orientations all show the same upright one."""
    upright = make_photo()
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_same(encode(stored, exif=exif), upright)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16"])
def test_one_pixel(mode):
    pixel_values = SeedImageProcessor(size=8)(Image.new(mode, (1, 1)), return_tensors="pt")["pixel_values"]
    assert pixel_values.shape == (1, 3, 8, 8)
    assert torch.equal(pixel_values, pixel_values[..., :1, :1].expand_as(pixel_values))


def test_caller_keeps_the_image():
    image = Image.new("RGBA", (2, 2))
    load_rgb_image(image)
    assert image.mode == "RGBA"
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)


# --- kinds that have none ---


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("kept", [0.1, 0.6])
def test_truncated(tmp_path, file_format, kept):
    data = encode(make_photo(200, 100), file_format)
    data = data[: int(len(data) * kept)]
    path = tmp_path / "cut.file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"`images\[2\]` is {len(data)} bytes: .*Allowed is a PIL image"):
        SeedImageProcessor()([make_photo(), make_photo(), data])
    with pytest.raises(ValueError, match=r"`images` is .*cut\.file"):
        SeedImageProcessor()(path)


def test_truncated_and_opened_lazily():
    data = encode(make_photo(200, 100))
    with pytest.raises(ValueError, match="`images` is <PIL.*truncated"):
        SeedImageProcessor()(Image.open(BytesIO(data[: len(data) // 2])))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], r"`images` is \[\], which holds no image"),
        ([[], []], "which holds no image"),
        (b"", "`images` is 0 bytes"),
        (b"hello", "`images` is 5 bytes"),
        (None, "`images` is None"),
        (3, "`images` is 3: int is no kind of image"),
        ([[make_photo()], [make_photo(), {"url": "x"}]], r"`images\[1\]\[1\]` is {'url': 'x'}"),
        ("no/such/file.png", "`images` is 'no/such/file.png'.*No such file"),
        ("data:image/png;base64,!!", "`images` is 'data:image"),
        (Image.new("RGB", (0, 4)), "it has 0x4 pixels"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"shape \(0, 4, 3\).*empty"),
        (np.zeros((5, 5, 2), dtype=np.uint8), "no axis has 1, 3 or 4 channels"),
        (np.zeros(4, dtype=np.uint8), "it has 1 axes"),
        (torch.zeros(2, 2, 3, 4, 4), r"`images` is a Tensor of shape \(2, 2, 3, 4, 4\).*it has 5 axes"),
        (np.full((4, 4, 3), 255.0), r"outside \[0, 1\] for float64"),
        (np.full((4, 4, 3), -0.5), r"outside \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"outside \[0, 1\]"),
        (np.full((4, 4, 3), 256), r"outside \[0, 255\]"),
        (np.full((4, 4, 3), "a"), "no pixels"),
        (Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)), r"70000, outside \[0, 65535\]"),
        (Image.fromarray(np.full((2, 2), 9.0, dtype=np.float32)), r"outside \[0, 1\]"),
    ],
)
def test_bad_input(images, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*Allowed is a PIL image"):
        SeedImageProcessor()(images)


def test_bad_input_data_format():
    with pytest.raises(ValueError, match="`input_data_format` is 'hwc', not 'channels_first' or 'channels_last'"):
        load_rgb_image(np.zeros((4, 4, 3), dtype=np.uint8), input_data_format="hwc")


@pytest.mark.parametrize("limit", [30 * 30, 20 * 20])
def test_pixel_limit(monkeypatch, tmp_path, limit):
    """Both where Pillow only warns (above its limit) and where it raises (above twice the limit)."""
    path = tmp_path / "large.png"
    Image.new("RGB", (40, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.warns(Image.DecompressionBombWarning) if limit == 900 else monkeypatch.context():
        with pytest.raises(ValueError, match=rf"`images\[0\]` is .*large\.png.*{limit if limit == 900 else 'limit'}"):
            SeedImageProcessor()([path])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30)
    assert load_rgb_image(path).size == (40, 30)


def test_long_values_are_shortened_in_messages():
    with pytest.raises(ValueError) as error:
        SeedImageProcessor()("data:image/png;base64," + "A" * 100_000)
    assert len(str(error.value)) < 1000
