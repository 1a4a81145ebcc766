"""The torchvision backend: near the Pillow one and never in its place unasked; a clear error without torchvision."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny.language import build_tokenizer
from transformers import AutoImageProcessor, AutoProcessor
from transformers.utils import is_torchvision_available

from seed_hf import SeedImageProcessor, SeedImageTokenizer, SeedProcessor
from seed_hf.mini import mini_pictures_path, mini_pipeline_path
from seed_hf.models import SeedImageProcessorTorchvision


needs_torchvision = pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
SIZE = {"height": 28, "width": 28}
LOADERS = {
    "image processor": AutoImageProcessor.from_pretrained,
    "processor": lambda *args, **kwargs: SeedProcessor.from_pretrained(*args, **kwargs).image_processor,
    "auto": lambda *args, **kwargs: AutoProcessor.from_pretrained(*args, **kwargs).image_processor,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    SeedProcessor(SeedImageProcessor(size=SIZE), build_tokenizer()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("loader", LOADERS)
def test_the_default_is_pillow(folder, loader):
    for settings in ({}, {"backend": "pil"}):
        loaded = LOADERS[loader](folder, **settings)
        assert type(loaded) is SeedImageProcessor and loaded.size == SIZE
    if loader != "image processor":
        with pytest.raises(ValueError, match="`backend` is 'opencv'; allowed: "):
            LOADERS[loader](folder, backend="opencv")


@pytest.mark.skipif(is_torchvision_available(), reason="torchvision is installed")
@pytest.mark.parametrize("loader", LOADERS)
def test_without_torchvision_the_error_says_what_to_install(folder, loader):
    with pytest.raises(ImportError, match="SeedImageProcessorTorchvision needs torchvision: pip install torchvision"):
        LOADERS[loader](folder, backend="torchvision")


@needs_torchvision
@pytest.mark.parametrize("loader", LOADERS)
def test_it_is_loaded_when_asked_for(folder, loader, tmp_path):
    loaded = LOADERS[loader](folder, backend="torchvision")
    assert type(loaded) is SeedImageProcessorTorchvision and loaded.size == SIZE
    loaded.save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is SeedImageProcessor
    again = SeedImageProcessorTorchvision.from_pretrained(tmp_path)
    assert again.to_dict() == loaded.to_dict()


@needs_torchvision
@pytest.mark.parametrize("side", [20, 28, 90])
def test_pixel_values_are_near_those_of_pillow(side):
    images = [
        Image.effect_mandelbrot((side, side + 5), (-2, -1, 1, 1), 50),
        Image.linear_gradient("L"),
        Image.new("RGBA", (9, 9)),
    ]
    pil, torchvision = (
        kind(size=SIZE)(images, return_tensors="pt")["pixel_values"]
        for kind in (SeedImageProcessor, SeedImageProcessorTorchvision)
    )
    # both round the resized image to bytes and may differ by one level, which is 1 / (255 * 0.2613) of a deviation
    torch.testing.assert_close(torchvision, pil, atol=1.01 / (255 * 0.2613), rtol=0)


@needs_torchvision
def test_most_codes_of_seed_mini_stay():
    model = SeedImageTokenizer.from_pretrained(mini_pipeline_path(), subfolder="image_tokenizer", dtype=torch.float32)
    images = sorted(Path(mini_pictures_path()).glob("*.png"))[:4]
    pil, torchvision = (
        model.encode(
            kind.from_pretrained(mini_pipeline_path(), subfolder="image_processor")(images, return_tensors="pt")[
                "pixel_values"
            ]
        )
        for kind in (SeedImageProcessor, SeedImageProcessorTorchvision)
    )
    assert (pil == torchvision).float().mean() > 0.9
