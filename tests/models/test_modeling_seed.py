"""SeedForCausalLM around OPT, LLaMA, GPT-2 and Qwen2, with tied and untied heads and both kinds of image tokens."""

import json
import re

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from rounding import assert_equal_up_to_rounding
from safetensors.torch import load_file, save_file
from tiny.language import (
    ARCHITECTURES,
    CODE_DIM,
    CODEBOOK_SIZE,
    NUM_QUERY_TOKENS,
    build_codebook,
    build_codes,
    build_image_tokenizer,
    build_language_model,
    build_seed_model,
    build_tokenizer,
    placeholder_span,
)
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, Gemma2Config, Gemma3TextConfig

from seed_hf import SeedConfig, SeedForCausalLM, SeedImageTokenizer, SeedImageTokenizerConfig


EMBEDDINGS = ("projected_codes", "learned")
VARIANTS = [(a, e, t) for a in ARCHITECTURES for e in EMBEDDINGS for t in (True, False)]
every_variant = pytest.mark.parametrize("architecture, embedding, tied", VARIANTS)


# PEFT reads a property that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def comparable(config):
    """A configuration as a dict, without what loading records."""
    values = config.to_dict()
    for part in (values, *(value for value in values.values() if isinstance(value, dict))):
        for name in ("_name_or_path", "dtype", "architectures"):
            part.pop(name, None)
    return values


def mixed_ids(tokenizer, batch_size=2):
    """Ids with text and a whole image in each row, `(batch_size, 11)`."""
    layout = tokenizer.image_token_layout
    rows = [[5 + i, 6, *layout.span(build_codes(seed=i)), 7, 8, 9] for i in range(batch_size)]
    return torch.tensor(rows)


@every_variant
def test_save_load_and_export_give_the_same_logits(architecture, embedding, tied, tmp_path):
    model, tokenizer = build_seed_model(architecture, embedding, tied)
    ids = mixed_ids(tokenizer)
    logits = model(ids).logits
    assert logits.shape == (2, 11, model.config.vocab_size)
    model.save_pretrained(tmp_path / "model")
    for loader in (SeedForCausalLM, AutoModelForCausalLM, AutoModelForImageTextToText):
        loaded, info = loader.from_pretrained(tmp_path / "model", output_loading_info=True)
        assert_equal_up_to_rounding(loaded(ids).logits, logits)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert comparable(loaded.config) == comparable(model.config)
    plain = model.to_plain_language_model()
    assert type(plain) is type(model.language_model)
    plain.save_pretrained(tmp_path / "plain")
    plain = type(plain).from_pretrained(tmp_path / "plain")
    torch.testing.assert_close(plain(ids).logits, logits, atol=1e-5, rtol=1e-5)
    assert (plain.get_input_embeddings().weight is plain.get_output_embeddings().weight) == tied


@every_variant
def test_text_is_read_as_by_the_bare_language_model(architecture, embedding, tied):
    tokenizer, language_model = build_tokenizer(), build_language_model(architecture, tied=tied)
    ids = torch.randint(0, 320, (2, 9))
    wanted = language_model(ids).logits
    model = SeedForCausalLM.from_language_model(
        language_model, tokenizer, codebook=build_codebook(), image_token_embedding=embedding
    )
    torch.testing.assert_close(model(ids).logits[..., : tokenizer.first_image_token_id], wanted)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_projected_codes_are_the_layer_over_the_codebook_at_both_ends(architecture):
    model, tokenizer = build_seed_model(architecture)
    codes = build_codes()
    layer, layout = model.image_embeddings, tokenizer.image_token_layout
    vectors = build_codebook()[codes] @ layer.weight.T + layer.bias
    torch.testing.assert_close(model.embed_tokens(layout.codes_to_token_ids(codes)), vectors)
    hidden = torch.randn(1, NUM_QUERY_TOKENS, 32)
    logits = model.compute_logits(hidden)[..., layout.first_image_token_id : layout.end_image_token_id]
    table = build_codebook() @ layer.weight.T + layer.bias
    torch.testing.assert_close(logits, hidden @ table.T, atol=1e-5, rtol=1e-5)
    special = model.embed_tokens(torch.tensor([layout.boi_token_id, layout.eoi_token_id]))
    torch.testing.assert_close(special, layer.special_weight[:2])


def test_the_codebook_is_frozen_and_saved():
    model, tokenizer = build_seed_model()
    codebook = model.image_embeddings.codebook
    assert torch.equal(codebook, build_codebook()) and not codebook.requires_grad
    assert "image_embeddings.codebook" in model.state_dict()
    ids = mixed_ids(tokenizer)
    model(ids, labels=ids).loss.backward()
    assert codebook.grad is None
    for name in ("weight", "bias", "special_weight"):
        assert getattr(model.image_embeddings, name).grad.abs().sum() > 0, name


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_of_targets_only_give_the_same_loss_and_gradient(architecture, embedding):
    model, tokenizer = build_seed_model(architecture, embedding)
    ids = mixed_ids(tokenizer)
    labels = ids.clone()
    labels[0, :8], labels[1, 3:] = -100, -100
    whole = model(ids, labels=labels)
    whole.loss.backward()
    gradient = model.get_input_embeddings().weight.grad.clone()
    model.zero_grad()
    part = model(ids, labels=labels, target_logits_only=True)
    part.loss.backward()
    torch.testing.assert_close(part.loss, whole.loss)
    torch.testing.assert_close(model.get_input_embeddings().weight.grad, gradient, atol=1e-6, rtol=1e-4)
    is_target = labels[:, 1:] != -100
    torch.testing.assert_close(part.logits, whole.logits[:, :-1][is_target], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("only_targets", [False, True])
def test_targets_may_be_shifted_already(only_targets):
    model, tokenizer = build_seed_model()
    ids = mixed_ids(tokenizer)
    shifted = torch.cat([ids[:, 1:], torch.full((len(ids), 1), -100)], dim=1)
    wanted = model(ids, labels=ids).loss
    torch.testing.assert_close(model(ids, shift_labels=shifted, target_logits_only=only_targets).loss, wanted)
    both = model(ids, labels=torch.zeros_like(ids), shift_labels=shifted, target_logits_only=only_targets)
    torch.testing.assert_close(both.loss, wanted)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_logits_to_keep(embedding):
    model, tokenizer = build_seed_model("llama", embedding)
    ids = mixed_ids(tokenizer)
    logits = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([1, 4])).logits, logits[:, [1, 4]])
    assert isinstance(model(ids, return_dict=False), tuple)


def test_loss_is_computed_in_float32():
    model, tokenizer = build_seed_model("llama")
    model = model.to(torch.bfloat16)
    ids = mixed_ids(tokenizer)
    for only_targets in (False, True):
        assert model(ids, labels=ids, target_logits_only=only_targets).loss.dtype == torch.float32


# ---------------------------------------------------------------------------------------------- images
def model_with_images(architecture="llama", embedding="projected_codes"):
    tokenizer, image_tokenizer = build_tokenizer(), build_image_tokenizer()
    model = SeedForCausalLM.from_language_model(
        build_language_model(architecture), tokenizer, image_tokenizer, image_token_embedding=embedding,
        include_image_tokenizer=True,
    )  # fmt: skip
    return model, tokenizer, image_tokenizer


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_pixel_values_equal_their_codes(embedding, tmp_path):
    model, tokenizer, image_tokenizer = model_with_images(embedding=embedding)
    layout = tokenizer.image_token_layout
    pixel_values = torch.randn(3, 3, 28, 28)
    codes = image_tokenizer.encode(pixel_values)
    placeholders = placeholder_span(layout)
    ids = torch.tensor([[5, *placeholders, *placeholders], [5, 6, 7, 8, 9, 10, 11, *placeholders]])
    with_tokens = torch.tensor(
        [[5, *layout.span(codes[0]), *layout.span(codes[1])], [*range(5, 12), *layout.span(codes[2])]]
    )
    logits = model(with_tokens).logits
    torch.testing.assert_close(model(ids, pixel_values=pixel_values).logits, logits)
    torch.testing.assert_close(model(ids, codes=codes).logits, logits)
    model.train()
    assert torch.equal(model.get_image_codes(pixel_values), codes)
    # else DistributedDataParallel would wait for gradients that never come
    assert not any(parameter.requires_grad for parameter in model.image_tokenizer.parameters())
    model.eval()
    settings = {"num_beams": 2, "max_new_tokens": 5, "do_sample": False}
    generated = model.generate(ids, pixel_values=pixel_values, **settings)
    assert torch.equal(generated, model.generate(with_tokens, **settings))
    model.save_pretrained(tmp_path)
    loaded = SeedForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(ids, pixel_values=pixel_values).logits, logits)
    trained = {name.split(".")[0] for name, value in loaded.named_parameters() if value.requires_grad}
    assert trained == {"language_model"} | ({"image_embeddings"} if embedding == "projected_codes" else set())


def test_the_image_tokenizer_can_be_left_out_or_given(tmp_path):
    model, tokenizer, image_tokenizer = model_with_images()
    model.save_pretrained(tmp_path / "with")
    ids = mixed_ids(tokenizer)
    for absent in (None, False):
        for loader in (SeedForCausalLM, AutoModelForCausalLM):
            bare, info = loader.from_pretrained(tmp_path / "with", image_tokenizer=absent, output_loading_info=True)
            assert bare.image_tokenizer is None and bare.config.image_tokenizer_config is None
            assert not info["unexpected_keys"]
            assert_equal_up_to_rounding(bare(ids).logits, model(ids).logits)
    with pytest.raises(ValueError, match="pixel_values.*without an image tokenizer"):
        bare(torch.tensor([placeholder_span(tokenizer.image_token_layout)]), pixel_values=torch.randn(1, 3, 28, 28))
    bare.save_pretrained(tmp_path / "without")
    assert not any("image_tokenizer" in key for key in load_file(tmp_path / "without" / "model.safetensors"))
    given = SeedForCausalLM.from_pretrained(tmp_path / "without", image_tokenizer=image_tokenizer)
    assert given.image_tokenizer is image_tokenizer
    with pytest.raises(ValueError, match="another codebook"):
        SeedForCausalLM.from_pretrained(tmp_path / "without", image_tokenizer=build_image_tokenizer(seed=1))


def test_wrong_images_are_refused():
    model, tokenizer, _ = model_with_images()
    ids = torch.tensor([[5, *placeholder_span(tokenizer.image_token_layout)]])
    one, two = build_codes(1), build_codes(2)
    with pytest.raises(ValueError, match="holds 4 .* but 2 images were given"):
        model(ids, codes=two)
    with pytest.raises(ValueError, match="`pixel_values` and `codes` were both given"):
        model(ids, codes=one, pixel_values=torch.randn(1, 3, 28, 28))
    with pytest.raises(ValueError, match="neither `pixel_values` nor `codes`"):
        model.generate(ids)
    with pytest.raises(ValueError, match="`inputs_embeds` was given with images"):
        model(inputs_embeds=torch.randn(1, 2, 32), codes=one)
    with pytest.raises(ValueError, match="one of them"):
        model()


def test_wrong_generation_settings_are_refused():
    model, tokenizer = build_seed_model()
    layout = tokenizer.image_token_layout
    with pytest.raises(ValueError, match="generation_mode.*'both'"):
        model.generate(torch.tensor([[5]]), generation_mode="both")
    with pytest.raises(ValueError, match="`max_new_tokens` is 5; allowed for an image: at least 6"):
        model.generate(torch.tensor([[5]]), generation_mode="image", max_new_tokens=5)
    with pytest.raises(ValueError, match="`max_length` is 6; allowed for an image after this prompt: 7"):
        model.generate(torch.tensor([[5]]), generation_mode="image", max_length=6)
    assert model.generate(torch.tensor([[5]]), generation_mode="image", max_length=9).shape == (1, 7)
    with pytest.raises(ValueError, match="ends in the middle of an image span"):
        model.generate(torch.tensor([[5, layout.boi_token_id]]))
    with pytest.raises(ValueError, match="without `</img>`"):
        model.generate(torch.tensor([[layout.boi_token_id, *range(5, 12)]]), generation_mode="image")


# ---------------------------------------------------------------------------------------------- LoRA
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_targets_the_language_model_and_nothing_else(architecture):
    model, _, _ = model_with_images(architecture)
    pattern = re.compile(model.lora_target_modules())
    hit = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
    assert len(hit) >= 2 * 4 and all(name.startswith("language_model.") for name in hit)
    assert not any(name.endswith(("lm_head", "wte", "embed_tokens")) for name in hit)
    settings = model.lora_settings()
    inject_adapter_in_model(LoraConfig(r=2, **settings), model)
    assert model.lora_settings() == settings


# ---------------------------------------------------------------------------------------------- construction
def test_building_on_a_language_model_leaves_it_as_it_was():
    language_model = build_language_model("llama")
    language_model.set_attn_implementation("eager")
    before = {name: value.clone() for name, value in language_model.state_dict().items()}
    model = SeedForCausalLM.from_language_model(language_model, build_tokenizer(), codebook=build_codebook())
    assert model.language_model is language_model and language_model.config._attn_implementation == "eager"
    after = language_model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_new_vectors_look_like_text_vectors():
    model, tokenizer = build_seed_model("llama")
    text = model.get_input_embeddings().weight[: tokenizer.first_image_token_id]
    new = model.embed_tokens(torch.arange(tokenizer.first_image_token_id, len(tokenizer)))
    assert 0.5 < (new - new.mean(0)).std() / (text - text.mean(0)).std() < 2


def test_vocabularies_that_do_not_fit_are_refused():
    small = build_language_model("llama", vocab_size=100)
    with pytest.raises(ValueError, match="`tokenizer` has 320 text tokens; allowed: at most 100"):
        SeedForCausalLM.from_language_model(small, build_tokenizer(), codebook=build_codebook())
    with pytest.raises(ValueError, match="`codebook` has 5 rows"):
        SeedForCausalLM.from_language_model(build_language_model(), build_tokenizer(), codebook=torch.zeros(5, 8))
    with pytest.raises(ValueError, match="`codebook` is None"):
        SeedForCausalLM.from_language_model(build_language_model(), build_tokenizer())
    model, tokenizer = build_seed_model()
    model.check_tokenizer(tokenizer)
    with pytest.raises(ValueError, match="`tokenizer` has ImageTokenLayout"):
        model.check_tokenizer(build_tokenizer(num_query_tokens=3))
    assert model.resize_token_embeddings(len(tokenizer)) is model.get_input_embeddings()
    with pytest.raises(ValueError, match="`new_num_tokens` is 1000; allowed: 339"):
        model.resize_token_embeddings(1000)


def test_learned_rows_can_be_added():
    model, tokenizer = build_seed_model("llama", "learned")
    ids, rows = mixed_ids(tokenizer), model.config.vocab_size
    logits = model(ids).logits
    assert model.resize_token_embeddings(rows + 5, mean_resizing=False).num_embeddings == rows + 5
    assert model.config.vocab_size == model.config.get_text_config().vocab_size == rows + 5
    torch.testing.assert_close(model(ids).logits[..., :rows], logits)
    with pytest.raises(ValueError, match=rf"`new_num_tokens` is {rows - 1}; allowed: at least {rows}"):
        model.resize_token_embeddings(rows - 1)


def test_padded_tables_are_accepted():
    language_model = build_language_model("qwen2", vocab_size=384)
    for embedding in EMBEDDINGS:
        model = SeedForCausalLM.from_language_model(
            build_language_model("qwen2", vocab_size=384), build_tokenizer(), codebook=build_codebook(),
            image_token_embedding=embedding,
        )  # fmt: skip
        assert model.config.vocab_size == {"projected_codes": 320 + CODEBOOK_SIZE + 3, "learned": 384}[embedding]
        wanted = language_model(torch.tensor([[5, 6]])).logits[..., :320]
        torch.testing.assert_close(model(torch.tensor([[5, 6]])).logits[..., :320], wanted)


def test_language_models_that_squash_their_logits_need_learned_rows():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_config = Gemma2Config(
        vocab_size=50, head_dim=16, num_key_value_heads=1, final_logit_softcapping=30.0, **sizes
    )
    with pytest.raises(ValueError, match="final_logit_softcapping.*30.0"):
        SeedForCausalLM(SeedConfig(text_config=text_config, codebook_size=8, code_dim=4))


def test_language_models_that_scale_their_token_vectors_need_learned_rows():
    """Vectors of codes would not be scaled, and no plain language model could be exported."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_config = Gemma3TextConfig(vocab_size=50, head_dim=16, num_key_value_heads=1, **sizes)
    with pytest.raises(ValueError, match="Gemma3TextConfig, whose token vectors come from a .*'learned'"):
        SeedForCausalLM(SeedConfig(text_config=text_config, codebook_size=8, code_dim=4))


def test_the_image_tokenizer_has_its_own_kind_of_attention(tmp_path):
    model, _ = build_seed_model("llama", "learned")
    model.attach_image_tokenizer(build_image_tokenizer())
    model.save_pretrained(tmp_path)
    for kind, own in (("flex_attention", "sdpa"), ("eager", "eager"), (None, "sdpa")):
        kinds = {} if kind is None else {"attn_implementation": kind}
        loaded = SeedForCausalLM.from_pretrained(tmp_path, **kinds)
        assert loaded.image_tokenizer.config._attn_implementation == own
        assert loaded.language_model.config._attn_implementation == (kind or "sdpa")


def test_with_learned_rows_the_image_tokenizer_says_how_wide_its_codes_are(tmp_path):
    model, _ = build_seed_model("llama", "learned")
    config = build_image_tokenizer().config
    image_tokenizer = SeedImageTokenizer(SeedImageTokenizerConfig(**{**config.to_dict(), "code_dim": 2 * CODE_DIM}))
    model.attach_image_tokenizer(image_tokenizer)
    model.save_pretrained(tmp_path)
    assert SeedForCausalLM.from_pretrained(tmp_path).image_tokenizer.config.code_dim == 2 * CODE_DIM
    # a configuration by its place, as transformers takes it
    assert SeedForCausalLM.from_pretrained(tmp_path, config=tmp_path, image_tokenizer=False).image_tokenizer is None


def test_checkpoints_with_the_codebook_beside_the_embeddings_load(tmp_path):
    """The first release candidates of seed-mini had it there."""
    model, tokenizer = build_seed_model("llama")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["codebook"] = weights.pop("image_embeddings.codebook")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ids = mixed_ids(tokenizer)
    assert_equal_up_to_rounding(SeedForCausalLM.from_pretrained(tmp_path)(ids).logits, model(ids).logits)


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_weights_that_do_not_fit_are_refused(change, tmp_path):
    model, _ = build_seed_model("llama")
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    if change == "missing":
        del weights["image_embeddings.weight"]
    elif change == "unexpected":
        weights["image_embeddings.extra"] = torch.zeros(2)
    else:
        weights["image_embeddings.codebook"] = torch.zeros(CODEBOOK_SIZE, 3)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="image_embeddings"):
        SeedForCausalLM.from_pretrained(tmp_path)


# ---------------------------------------------------------------------------------------------- configuration
def test_default_configuration_is_the_papers():
    config = SeedConfig()
    assert (config.text_config.model_type, config.text_config.hidden_size) == ("opt", 2560)
    assert config.vocab_size == 50272 + 8192 + 3 and config.first_image_token_id == 50272
    with torch.device("meta"):
        model = SeedForCausalLM(config)
    new = sum(parameter.numel() for parameter in model.image_embeddings.parameters())
    assert new == 2560 * 32 + 2560 + 3 * 2560


def test_configuration_round_trip(tmp_path):
    model, _, _ = model_with_images("gpt2")
    model.config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, SeedConfig) and comparable(loaded) == comparable(model.config)
    assert loaded.get_text_config().vocab_size == loaded.vocab_size != loaded.text_config.vocab_size
    assert loaded.image_token_layout == model.config.image_token_layout


def test_special_tokens_are_those_of_the_language_model(tmp_path):
    model, _ = build_seed_model()
    model.config.pad_token_id = 7
    assert model.config.text_config.pad_token_id == 7
    model.config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert "pad_token_id" not in saved and saved["text_config"]["pad_token_id"] == 7
    loaded = SeedConfig.from_pretrained(tmp_path)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 7)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"image_token_embedding": "other"}, "`image_token_embedding` is 'other'"),
        ({"codebook_size": 0}, "`codebook_size` is 0"),
        ({"vocab_size": 7}, "`vocab_size` is 7"),
        ({"first_image_token_id": 60000}, "`first_image_token_id` is 60000"),
        ({"boi_token_id": 3}, "boi, eoi and image_placeholder"),
        ({"image_token_embedding": "learned", "first_image_token_id": 50000}, "`first_image_token_id` is 50000"),
        ({"image_tokenizer_config": {}, "num_query_tokens": 8}, "`image_tokenizer_config.num_query_tokens` is 32"),
    ],
)
def test_contradictory_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SeedConfig(**fields)
