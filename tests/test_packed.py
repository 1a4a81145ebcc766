"""A ViT packed for a CPU gives the same in float32, nearly the same in 8 bits, and is not saved by accident."""

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from tiny.image_tokenizer import tiny_image_tokenizer, tiny_pixels

from seed_hf.packed import pack_vision_model


def test_float32_changes_nothing_but_rounding():
    model, pixels = tiny_image_tokenizer(), tiny_pixels(3)
    embeds = model.get_causal_embeds(pixels).detach()
    assert_equal_up_to_rounding(pack_vision_model(model).get_causal_embeds(pixels).detach(), embeds)


def test_int8_stays_near():
    model, pixels = tiny_image_tokenizer(), tiny_pixels(3)
    features = model.get_vision_features(pixels).detach()
    error = pack_vision_model(model, "int8").get_vision_features(pixels) - features
    # inputs have 7 bits and weights 8: an error of at most a percent in a layer, of which there are eight
    assert 0 < error.norm() < 0.08 * features.norm()


def test_a_packed_model_is_not_saved(tmp_path):
    model = pack_vision_model(tiny_image_tokenizer(), "int8")
    with pytest.raises(ValueError, match="cannot be saved"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not packed yet"):
        pack_vision_model(model)


@pytest.mark.parametrize(("weights", "dtype", "named"), [("int4", None, "'int4'"), ("int8", "bfloat16", "bfloat16")])
def test_what_cannot_be_packed_is_named(weights, dtype, named):
    model = tiny_image_tokenizer()
    with pytest.raises(ValueError, match=named):
        pack_vision_model(model.to(getattr(torch, dtype)) if dtype else model, weights)
