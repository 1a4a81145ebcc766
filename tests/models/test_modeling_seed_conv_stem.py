"""The pretrained CNN in place of the ViT's patch embedding."""

from pathlib import Path

import pytest
import torch
from tiny.image_tokenizer import TINY, tiny_image_tokenizer

from seed_hf import SeedImageProcessor, SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.mini import mini_pictures_path
from seed_hf.mini.vision_stem import IMAGE_MEAN, IMAGE_STD, load_stem, whiten_projection
from seed_hf.models.modeling_seed_conv_stem import SameConv, SeedConvStem
from seed_hf.trainer.stages.qformer import freeze_for_stage_1


HYBRID = {"use_conv_stem": True, "vision_config": TINY["vision_config"] | {"image_size": 64, "patch_size": 32}}


def test_a_model_with_a_stem_saves_reloads_and_takes_cached_features(tmp_path):
    model = tiny_image_tokenizer(**HYBRID)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    codes = model.encode(pixels)
    features = model.get_vision_features(pixels)
    assert features.shape == (3, 1280, 2, 2)
    assert torch.equal(model(vision_features=features).codes, codes)
    model.save_pretrained(tmp_path)
    assert torch.equal(SeedImageTokenizer.from_pretrained(tmp_path).encode(pixels), codes)


def test_without_a_stem_the_whole_vit_may_be_cached():
    model = tiny_image_tokenizer()
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    features = model.get_vision_features(pixels)
    assert torch.equal(model(vision_features=features).causal_embeds, model.get_causal_embeds(pixels))
    with pytest.raises(ValueError, match="Inputs given: .* allowed: exactly one of"):
        model(pixels, vision_features=features)


def test_stem_needs_its_patch_size():
    with pytest.raises(ValueError, match="`vision_config.patch_size` is 14; allowed: 32"):
        SeedImageTokenizerConfig(use_conv_stem=True)


@pytest.mark.parametrize("kernel_size, stride", [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_padding_keeps_the_size(kernel_size, stride):
    assert SameConv(2, 4, kernel_size, stride)(torch.zeros(1, 2, 16, 16)).shape == (1, 4, 16 // stride, 16 // stride)


def test_published_weights_fill_the_stem_and_tell_pictures_apart():
    """Features of a picture are nearer to those of its mirror image than to those of any other picture."""
    stem = SeedConvStem(8)
    load_stem(stem)
    pictures = sorted(str(path) for path in Path(mini_pictures_path()).glob("*.png"))
    processor = SeedImageProcessor(size={"height": 128, "width": 128}, image_mean=IMAGE_MEAN, image_std=IMAGE_STD)
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        plain, mirrored = (stem.get_features(value).mean((2, 3)) for value in (pixels, pixels.flip(3)))
    plain, mirrored = (torch.nn.functional.normalize(value - plain.mean(0), dim=-1) for value in (plain, mirrored))
    assert torch.equal((plain @ mirrored.t()).argmax(1), torch.arange(len(pictures)))


def test_a_stem_of_inner_layers_folds_the_finer_one(tmp_path):
    model = tiny_image_tokenizer(**HYBRID, conv_stem_inner=True)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = model.get_vision_features(pixels)
    assert features.shape == (2, 112, 4, 4)
    assert torch.equal(model(vision_features=features).codes, model.encode(pixels))
    model.save_pretrained(tmp_path)
    assert torch.equal(SeedImageTokenizer.from_pretrained(tmp_path).encode(pixels), model.encode(pixels))


def test_stage_1_trains_a_stem_of_inner_layers_from_the_coarser_one_on():
    model = tiny_image_tokenizer(**HYBRID, conv_stem_inner=True, use_text_tower=True)
    freeze_for_stage_1(model, train_vision=True)
    stem, pixels = model.vision_model.embeddings.patch_embedding, torch.randn(2, 3, 64, 64)
    features = model.get_vision_features(pixels)
    assert not features.requires_grad
    model(vision_features=features).causal_embeds.square().sum().backward()
    got = {name for name, parameter in stem.named_parameters() if parameter.grad is not None}
    late = tuple(f"blocks.{number}." for number in range(stem.frozen_end, len(stem.blocks)))
    assert got == {name for name, _ in stem.named_parameters() if name.startswith(("projection.", *late))}


def test_the_projection_starts_at_principal_axes_of_equal_variance():
    """Published weights fill a part of the network, too."""
    stem = SeedConvStem(8, takes_inner=True)
    load_stem(stem)
    pictures = sorted(str(path) for path in Path(mini_pictures_path()).glob("*.png"))
    processor = SeedImageProcessor(size={"height": 128, "width": 128}, image_mean=IMAGE_MEAN, image_std=IMAGE_STD)
    with torch.no_grad():
        features = stem.get_features(processor(pictures, return_tensors="pt")["pixel_values"])
        whiten_projection(stem, features, floor=0.0)
        values = stem.projection(features).movedim(1, -1).flatten(0, 2)
    # float32 sums over some thousand values
    torch.testing.assert_close(values.t() @ values / len(values), torch.eye(8), atol=1e-2, rtol=0)
