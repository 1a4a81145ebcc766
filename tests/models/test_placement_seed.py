"""Where the weights are, what is recomputed and what is compiled does not change codes, logits or gradients."""

import pytest
import torch
from accelerate import cpu_offload
from rounding import assert_equal_up_to_rounding
from tiny.image_tokenizer import SHALLOW, tiny_image_tokenizer, tiny_pixels
from tiny.language import (
    CACHE_NAME,
    build_codes,
    build_image_tokenizer,
    build_language_model,
    build_seed_model,
    build_tokenizer,
    placeholder_span,
)
from transformers import StaticCache

from seed_hf import SeedForCausalLM, SeedImageTokenizer


# accelerate's hooks are the same for a disk as for a second device, which a test cannot have here
DEVICE_MAPS = {
    "auto": "auto",
    "one layer on disk": {
        **{f"language_model.{name}": "cpu" for name in ("model.embed_tokens", "model.norm", "model.rotary_emb")},
        **{"language_model.model.layers.0": "cpu", "language_model.model.layers.1": "disk"},
        **dict.fromkeys(("language_model.lm_head", "image_embeddings", "image_tokenizer"), "cpu"),
    },
    "image tokens on disk": {"language_model": "cpu", "image_embeddings": "disk", "image_tokenizer": "cpu"},
    "image tokenizer on disk": {"language_model": "cpu", "image_embeddings": "cpu", "image_tokenizer": "disk"},
    "everything on disk": {"": "disk"},
}


def mixed_ids(tokenizer):
    """Ids with text and a whole image in each row, `(2, 11)`."""
    layout = tokenizer.image_token_layout
    return torch.tensor([[5 + i, 6, *layout.span(build_codes(seed=i)), 7, 8, 9] for i in range(2)])


# ---------------------------------------------------------------------------------------------- placement
@pytest.fixture(scope="module", params=[("projected_codes", False), ("learned", True)], ids=lambda value: value[0])
def saved(request, tmp_path_factory):
    """Folder of a model with its image tokenizer; inputs; what it answers."""
    embedding, tied = request.param
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = SeedForCausalLM.from_language_model(
        build_language_model(tied=tied), tokenizer, build_image_tokenizer(), image_token_embedding=embedding,
        include_image_tokenizer=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp(embedding)
    model.save_pretrained(folder)
    ids = torch.tensor([[5 + i, *placeholder_span(tokenizer.image_token_layout), 7] for i in range(2)])
    inputs = {"input_ids": ids, "pixel_values": torch.randn(2, 3, 28, 28)}
    return folder, inputs, model(**inputs).logits, model.generate(**inputs, max_new_tokens=4, do_sample=False)


@pytest.mark.parametrize("device_map", DEVICE_MAPS.values(), ids=DEVICE_MAPS)
def test_device_map(device_map, saved, tmp_path):
    folder, inputs, logits, generated = saved
    model = SeedForCausalLM.from_pretrained(folder, device_map=device_map, offload_folder=tmp_path)
    assert not isinstance(device_map, dict) or "disk" in model.hf_device_map.values()
    torch.testing.assert_close(model(**inputs).logits, logits)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False), generated)


@pytest.mark.parametrize("place", ("disk", "cpu"))
def test_image_tokenizer_with_every_option_offloaded(place, tmp_path):
    """What belongs to the quantizer itself, and not to a layer in it, moves too."""
    options = {"center_causal_embeds": True, "normalize_codes": True, "separate_queries": True}
    model, pixels = tiny_image_tokenizer(**options, codebook_ema_decay=0.9), tiny_pixels(3)
    torch.nn.init.normal_(model.quantizer.causal_mean)
    model.save_pretrained(tmp_path / "model")
    placed = SeedImageTokenizer.from_pretrained(
        tmp_path / "model", device_map={"": place}, offload_folder=tmp_path / "offload"
    )
    if place == "cpu":
        cpu_offload(placed, "cpu")
    assert placed.quantizer.query_scale.is_meta
    codes = model.encode(pixels)
    assert torch.equal(placed.encode(pixels), codes)
    assert_equal_up_to_rounding(placed.decode(codes), model.decode(codes))
    assert_equal_up_to_rounding(placed.reconstruct(codes), model.reconstruct(codes))
    for images in ({"pixel_values": pixels}, {"codes": codes}):
        features = placed.get_image_features(**images).pooler_output
        torch.testing.assert_close(features, model.get_image_features(**images).pooler_output)


# ---------------------------------------------------------------------------------------------- recomputing
# transformers 5.23 gives it a new name
IS_RENAMED = hasattr(SeedForCausalLM, "activation_checkpointing_enable")
CHECKPOINTING = "activation_checkpointing" if IS_RENAMED else "gradient_checkpointing"


def gradients(model, compute_loss, checkpointing):
    model.train()
    getattr(model, f"{CHECKPOINTING}_{'enable' if checkpointing else 'disable'}")()
    model.zero_grad()
    torch.manual_seed(0)
    compute_loss().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_gradients(model, compute_loss):
    plain = gradients(model, compute_loss, checkpointing=False)
    again = gradients(model, compute_loss, checkpointing=True)
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    assert plain.keys() == again.keys() and len(plain) > 10
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


@pytest.mark.parametrize("architecture, embedding", [("opt", "projected_codes"), ("llama", "learned")])
def test_gradient_checkpointing_of_the_language_model(architecture, embedding):
    model, tokenizer = build_seed_model(architecture, embedding)
    ids = mixed_ids(tokenizer)
    assert_same_gradients(model, lambda: model(ids, labels=ids).loss)
    assert_same_gradients(model, lambda: model(ids, labels=ids, target_logits_only=True).loss)


def test_gradient_checkpointing_of_the_image_tokenizer():
    model, pixels = tiny_image_tokenizer(), tiny_pixels()
    captions = torch.tensor([[1, 5, 6], [1, 7, 8]])
    assert_same_gradients(model, lambda: model(pixels, input_ids=captions).loss)
    assert_same_gradients(model, lambda: model(pixels, generation_targets=torch.zeros(2, 6, 32)).loss)


# ---------------------------------------------------------------------------------------------- compiling
@pytest.fixture
def compiled():
    """`torch.compile` of a whole function, without a break; Inductor is left to the slow test."""
    torch._dynamo.reset()
    yield lambda function, backend="aot_eager": torch.compile(function, fullgraph=True, backend=backend)
    torch._dynamo.reset()


def test_the_encoder_compiles_whole(compiled):
    model, pixels = tiny_image_tokenizer(**SHALLOW), tiny_pixels(3)
    assert torch.equal(compiled(model.encode)(pixels), model.encode(pixels))


def test_the_decoder_compiles_whole(compiled):
    model = tiny_image_tokenizer(**SHALLOW)
    codes = model.encode(tiny_pixels(3))
    torch.testing.assert_close(compiled(model.decode)(codes), model.decode(codes))


@pytest.mark.slow
def test_the_encoder_compiles_to_machine_code(compiled):
    """Inductor: it needs a C++ compiler, and minutes."""
    model, pixels = tiny_image_tokenizer(**SHALLOW), tiny_pixels(3)
    assert torch.equal(compiled(model.encode, "inductor")(pixels), model.encode(pixels))


def test_a_step_of_decoding_compiles_whole_with_a_static_cache(compiled):
    model, tokenizer = build_seed_model("llama")
    ids = mixed_ids(tokenizer)
    length, prompt = ids.shape[1], 5
    cache = {CACHE_NAME: StaticCache(config=model.config.get_text_config(), max_cache_len=length)}
    step = compiled(lambda ids, positions: model(ids, position_ids=positions, **cache).logits)
    with torch.no_grad():
        logits = [model(ids[:, :prompt], **cache).logits]
        for position in range(prompt, length):
            positions = torch.full((2, 1), position)
            logits.append(step(ids[:, position : position + 1], positions))
        torch.testing.assert_close(torch.cat(logits, dim=1), model(ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "architecture, embedding, mode",
    [("llama", "projected_codes", "text"), ("opt", "projected_codes", "image"), ("llama", "learned", "interleaved")],
)
def test_generation_with_a_static_cache(architecture, embedding, mode):
    model, tokenizer = build_seed_model(architecture, embedding)
    ids = mixed_ids(tokenizer)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    settings = {"attention_mask": mask, "generation_mode": mode, "do_sample": False}
    settings |= {} if mode == "image" else {"max_new_tokens": 8}
    wanted = model.generate(ids, **settings)
    assert torch.equal(model.generate(ids, cache_implementation="static", **settings), wanted)
