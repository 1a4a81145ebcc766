"""Half precision reaches every part of a model, however it is asked for."""

import pytest
import torch
from tiny_image_tokenizer import TINY, tiny_image_tokenizer
from tiny_language import build_image_tokenizer, build_language_model, build_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from seed_hf import SeedForCausalLM, SeedImageTokenizer


HALF = (torch.bfloat16, torch.float16)
STEM = {"use_conv_stem": True, "vision_config": {**TINY["vision_config"], "image_size": 64, "patch_size": 32}}
OPTIONS = [
    {"generation_head": "mlp"},
    {"generation_head": "qformer", "normalize_codes": True},
    {"center_causal_embeds": True, "separate_queries": True, "codebook_per_query": True, "codebook_ema_decay": 0.9},
    {"normalize_codes": True, "codebook_ema_decay": 0.9},
    STEM,
]


def model_with_images():
    return SeedForCausalLM.from_language_model(
        build_language_model(), build_tokenizer(), build_image_tokenizer(), include_image_tokenizer=True
    )


def dtypes(model):
    return {value.dtype for value in model.state_dict().values() if value.is_floating_point()}


def sub_configs(config):
    for name in config.sub_configs:
        if getattr(config, name, None) is not None:
            yield getattr(config, name)
            yield from sub_configs(getattr(config, name))


def describe_an_image(model):
    layout = model.config.image_token_layout
    ids = torch.tensor([[*layout.placeholder_span(), 5]])
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return model.generate(ids, pixel_values=pixels, max_new_tokens=2, do_sample=False)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("form", ["dtype", "name", "alias", "auto"])
def test_a_language_model_is_loaded_in_half(form, dtype, tmp_path):
    model, name = model_with_images(), str(dtype).removeprefix("torch.")
    if form == "auto":
        model.to(dtype)
    model.save_pretrained(tmp_path / "saved")
    arguments = {"dtype": {"dtype": dtype}, "name": {"dtype": name}, "alias": {"torch_dtype": dtype}, "auto": {}}[form]
    half = SeedForCausalLM.from_pretrained(tmp_path / "saved", **arguments)
    assert dtypes(half) == {dtype} and {config.dtype for config in sub_configs(half.config)} == {dtype}
    assert describe_an_image(half).shape == (1, 9)
    half.save_pretrained(tmp_path / "again")
    for arguments in ({}, {"dtype": "auto"}):
        assert dtypes(SeedForCausalLM.from_pretrained(tmp_path / "again", **arguments)) == {dtype}
    assert dtypes(SeedForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32)) == {torch.float32}


def test_a_language_model_is_built_in_half(tmp_path):
    model_with_images().save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path), dtype=torch.bfloat16)
    assert dtypes(model) == {torch.bfloat16}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_of_the_image_tokenizer_works_in_half(options, dtype, tmp_path):
    tiny_image_tokenizer(**options).save_pretrained(tmp_path)
    model = SeedImageTokenizer.from_pretrained(tmp_path, dtype=dtype)
    assert dtypes(model) == {dtype}
    size = model.config.vision_config.image_size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    codes = model.encode(pixels)
    assert torch.equal(model(pixels).codes, codes)
    targets = torch.zeros_like(model.decode(codes))
    assert model.reconstruct(codes).dtype == targets.dtype == dtype
    loss = model.train()(pixels, generation_targets=targets).loss
    loss.backward()
    assert torch.isfinite(loss)
