"""Half precision reaches every part of a model, however it is asked for; NaN and infinity never give codes."""

import pytest
import torch
from tiny.image_tokenizer import SHALLOW, TINY, tiny_image_tokenizer
from tiny.language import build_image_tokenizer, build_language_model, build_tokenizer, placeholder_span
from transformers import AutoConfig, AutoModelForCausalLM

from seed_hf import SeedForCausalLM, SeedImageTokenizer


HALF = (torch.bfloat16, torch.float16)
STEM = {"use_conv_stem": True, "vision_config": {**TINY["vision_config"], "image_size": 32, "patch_size": 32}}
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
    ids = torch.tensor([[*placeholder_span(layout), 5]])
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return model.generate(ids, pixel_values=pixels, max_new_tokens=2, do_sample=False)


# a form is what transformers makes a dtype of, whichever it is
@pytest.mark.parametrize(
    ("form", "dtype"), [*((form, HALF[0]) for form in ("dtype", "name", "alias", "auto")), ("dtype", HALF[1])]
)
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


# ---------------------------------------------------------------------------------------------- NaN and infinity
BAD = (float("nan"), float("inf"), -float("inf"))


def pixels_of(model, batch_size=3):
    size = model.config.vision_config.image_size
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("options", [{}, {"normalize_codes": True}, STEM])
def test_pixels_that_are_no_numbers_give_no_codes(options, bad):
    model = tiny_image_tokenizer(**options)
    pixels = pixels_of(model)
    wanted = model.encode(pixels)
    pixels[1, 0, 3, 4] = bad
    with pytest.raises(ValueError, match=r"in 1 of 3 images of `pixel_values` \(first: 1\)"):
        model.encode(pixels)
    assert torch.equal(model.encode(pixels[[0, 2]]), wanted[[0, 2]])


@pytest.mark.parametrize("name", ["quantizer.embedding.weight", "quantizer.encode_layers.0.bias", "vision_model"])
def test_weights_that_are_no_numbers_give_no_codes(name):
    model = tiny_image_tokenizer()
    pixels = pixels_of(model)
    weight = next(value for key, value in model.named_parameters() if key.startswith(name))
    with torch.no_grad():
        weight.flatten()[5] = float("nan")
    for call in (model.encode, model):
        with pytest.raises(ValueError, match="in 3 of 3 images .* in the weights"):
            call(pixels)
    language_model = model_with_images()
    with torch.no_grad():
        next(language_model.image_tokenizer.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        describe_an_image(language_model)


def test_what_overflows_gives_no_codes():
    model = tiny_image_tokenizer().half()
    with torch.no_grad():
        model.causal_qformer.query_tokens.fill_(1e4)
        model.quantizer.encode_layers[2].weight.fill_(6e4)
    with pytest.raises(ValueError, match="room for them .this model has torch.float16"):
        model.encode(pixels_of(model).half())


def test_an_exported_model_marks_what_has_no_code():
    model = tiny_image_tokenizer(**SHALLOW)

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model.encode(pixel_values)

    pixels = pixels_of(model)
    wanted = model.encode(pixels)
    program = torch.export.export(Encoder(), (pixels,)).module()
    assert torch.equal(program(pixels), wanted)
    pixels[1, 0, 3, 4] = float("nan")
    got = program(pixels)
    assert torch.equal(got[[0, 2]], wanted[[0, 2]]) and (got[1] == -1).all()
    with pytest.raises(ValueError, match="`codes` holds -1"):
        model.decode(got)


def test_training_goes_on_to_its_own_check():
    """The loss says it there: a batch that overflows in mixed precision is skipped, not the end of a run."""
    model = tiny_image_tokenizer()
    pixels = pixels_of(model)
    targets = torch.zeros_like(model.decode(model.encode(pixels)))
    pixels[1, 0, 3, 4] = float("nan")
    assert torch.isnan(model.train()(pixels, generation_targets=targets).loss)
