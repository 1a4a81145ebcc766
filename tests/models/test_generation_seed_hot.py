"""Ten thousand tokens sampled hot in every way of decoding: no image span is malformed."""

import pytest
import torch
from tiny.language import NUM_QUERY_TOKENS, build_codes, build_seed_model, check_grammar
from transformers import ContinuousBatchingConfig, GenerationConfig


NUM_TOKENS = 10_000
LENGTH = 100
WAYS = {
    "generate": {},
    # of the text that beams find likelier, none is an image
    "beams": {"num_beams": 3, "generation_mode": "image"},
    "static cache": {"cache_implementation": "static"},
    "assisted": {},
    "prompt lookup": {"prompt_lookup_num_tokens": 4},
}


@pytest.fixture(scope="module")
def parts():
    """A model that likes to open images."""
    model, tokenizer = build_seed_model("llama", "learned", tied=False)
    with torch.no_grad():
        model.language_model.get_output_embeddings().weight[tokenizer.boi_token_id] *= 30
    return model, tokenizer.image_token_layout


def check_spans(written: list[list[int]], layout):
    for ids in written:
        check_grammar(ids, layout)
    assert sum(map(len, written)) >= NUM_TOKENS
    assert sum(ids.count(layout.boi_token_id) for ids in written) > 0


# one prompt at a time, which takes minutes
SINGLE = ("assisted", "prompt lookup")


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * (way in SINGLE)) for way in WAYS])
def test_generate(parts, way):
    model, layout = parts
    settings = {"do_sample": True, "temperature": 5.0, "max_new_tokens": LENGTH, "eos_token_id": None}
    settings |= {"pad_token_id": 0, "generation_mode": "interleaved", **WAYS[way]}
    if way == "assisted":
        settings["assistant_model"] = build_seed_model("llama", "learned", tied=False)[0]
    # a step costs nearly the same for many rows as for one
    num_rows = 1 if way in SINGLE else 500 if way == "beams" else 100
    prompt = torch.tensor([[5, *layout.span(build_codes()), 7]] * num_rows)
    torch.manual_seed(0)
    written = []
    while sum(map(len, written)) < NUM_TOKENS:
        written += model.generate(prompt, **settings)[:, prompt.shape[1] :].tolist()
    check_spans(written, layout)


@pytest.mark.parametrize("mode", ["interleaved", "image"])
def test_continuous_batching(parts, mode):
    model, layout = parts
    config = GenerationConfig(do_sample=True, temperature=5.0, eos_token_id=-1, max_new_tokens=LENGTH)
    config.generation_mode = mode
    length = NUM_QUERY_TOKENS + 2 if mode == "image" else LENGTH
    settings = ContinuousBatchingConfig(num_blocks=256, max_batch_tokens=1024)
    torch.manual_seed(0)
    prompts = [[5, 6, 7 + number % 200] for number in range(-(-NUM_TOKENS // length))]
    outputs = model.generate_batch(prompts, generation_config=config, continuous_batching_config=settings).values()
    assert all(output.error is None for output in outputs)
    written = [output.generated_tokens for output in outputs]
    check_spans(written, layout)
    assert all(ids.count(layout.boi_token_id) == 1 for ids in written) or mode == "interleaved"
