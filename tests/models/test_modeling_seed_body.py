"""SeedModel, the language model without a head: what trainers call, and what stands for the head."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from rounding import assert_equal_up_to_rounding
from tiny.language import (
    ARCHITECTURES,
    NUM_QUERY_TOKENS,
    build_codes,
    build_image_tokenizer,
    build_seed_model,
    build_tokenizer,
    placeholder_span,
)
from transformers import AutoModel, AutoModelForCausalLM

from seed_hf import SeedForCausalLM, SeedModel


EMBEDDINGS = ("projected_codes", "learned")
# PEFT reads a property that transformers has renamed
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
every_kind = pytest.mark.parametrize("embedding", EMBEDDINGS)


def ids_with_an_image():
    layout = build_tokenizer().image_token_layout
    return torch.tensor([[5, 6, *layout.span(build_codes()), 7]])


@every_kind
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_body_and_head_make_the_logits(architecture, embedding):
    model = build_seed_model(architecture, embedding=embedding, tied=False)[0]
    ids = ids_with_an_image()
    body, head = model.base_model, model.get_output_embeddings()
    assert type(body) is SeedModel and body.base_model is body and body.get_output_embeddings() is None
    hidden_states = body(ids).last_hidden_state
    logits = model(ids).logits
    assert_equal_up_to_rounding(head(hidden_states), logits)
    assert head.weight.shape == (model.config.vocab_size, hidden_states.shape[-1])
    assert_equal_up_to_rounding(torch.nn.functional.linear(hidden_states, head.weight, head.bias), logits)
    # a tuple where it is asked for, as in transformers
    assert torch.equal(body(ids, return_dict=False)[0], hidden_states)


@every_kind
def test_gradients_reach_every_part_through_the_weight(embedding):
    model = build_seed_model("llama", embedding=embedding, tied=False)[0].train()
    ids = ids_with_an_image()
    model(ids, labels=ids).loss.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    hidden_states, head = model.base_model(ids).last_hidden_state, model.get_output_embeddings()
    logits = torch.nn.functional.linear(hidden_states, head.weight, head.bias)
    torch.nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:]).backward()
    assert wanted
    for name, gradient in wanted.items():
        assert_equal_up_to_rounding(model.get_parameter(name).grad, gradient, name)


def test_the_head_has_no_weights_of_its_own_and_follows_copies_and_adapters():
    model = build_seed_model("opt")[0]
    assert not [name for name in model.state_dict() if name.startswith(("lm_head", "model."))]
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.image_embeddings.bias.add_(1.0)
    assert not torch.equal(other.get_output_embeddings().weight, model.get_output_embeddings().weight)
    # PEFT puts a copy in place of the vectors, which is what is trained from then on
    adapted = get_peft_model(model, LoraConfig(r=2, **model.lora_settings()))
    before = model.get_output_embeddings().weight.clone()
    with torch.no_grad():
        adapted.base_model.model.image_embeddings.bias.add_(1.0)
    assert not torch.equal(model.get_output_embeddings().weight, before)
    ids = ids_with_an_image()
    assert_equal_up_to_rounding(
        model.get_output_embeddings()(model.base_model(ids).last_hidden_state), model(ids).logits
    )


def test_all_linear_leaves_the_heads_alone():
    model = build_seed_model("llama", tied=False)[0]
    names = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).base_model.model.state_dict()
    assert not [
        name for name in names if "lm_head" in name and "lora" in name and not name.startswith("language_model")
    ]


@every_kind
def test_one_folder_serves_both_classes(tmp_path, embedding):
    model = build_seed_model("opt", embedding=embedding)[0]
    ids = ids_with_an_image()
    logits = model(ids).logits
    model.save_pretrained(tmp_path / "whole")
    body = AutoModel.from_pretrained(tmp_path / "whole")
    assert type(body) is SeedModel
    assert_equal_up_to_rounding(body(ids).last_hidden_state, model.base_model(ids).last_hidden_state)
    body.save_pretrained(tmp_path / "body")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "body")
    assert type(again) is SeedForCausalLM
    assert_equal_up_to_rounding(again(ids).logits, logits)


@every_kind
def test_images_by_the_names_of_transformers(embedding):
    model, image_tokenizer = build_seed_model("llama", embedding=embedding)[0], build_image_tokenizer()
    layout = model.config.image_token_layout
    placeholders = torch.tensor([[5, *placeholder_span(layout), 6]])
    pixels = torch.randn(1, 3, 28, 28)
    for ask in (model.get_image_tokens, model.get_image_features):
        with pytest.raises(ValueError, match="`pixel_values` was given to a model without an image tokenizer"):
            ask(pixels)
    with pytest.raises(ValueError, match="allowed: one of them"):
        model.get_image_features()
    codes = image_tokenizer.encode(pixels)
    if embedding == "projected_codes":
        model.image_embeddings.codebook = image_tokenizer.get_code_vectors(torch.arange(layout.codebook_size)).detach()
    model.attach_image_tokenizer(image_tokenizer)
    tokens = model.get_image_tokens(pixels)
    assert torch.equal(tokens, codes + layout.first_image_token_id)
    features = model.get_image_features(pixels)
    assert torch.equal(features.pooler_output, model.get_image_features(codes=codes).last_hidden_state)
    # put in by hand, as the models of transformers do it, they are what `forward` makes of the image
    vectors = model.embed_tokens(placeholders)
    mask = model.get_placeholder_mask(placeholders, vectors, features.pooler_output)
    logits = model(inputs_embeds=vectors.masked_scatter(mask, features.pooler_output)).logits
    assert_equal_up_to_rounding(logits, model(placeholders, pixel_values=pixels).logits)
    with pytest.raises(ValueError, match=f"has {NUM_QUERY_TOKENS} placeholders; allowed: {2 * NUM_QUERY_TOKENS}"):
        model.get_placeholder_mask(placeholders, vectors, features.pooler_output.repeat(2, 1, 1))
    assert torch.equal(model.base_model.decode_image_tokens(tokens), image_tokenizer.decode(codes))
    with pytest.raises(ValueError, match="not an image token"):
        model.base_model.decode_image_tokens(placeholders)
