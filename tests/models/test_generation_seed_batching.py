"""The grammar where transformers batches requests continuously; a `GenerationConfig` alone says what is wanted."""

import pytest
import torch
from tiny.language import NUM_QUERY_TOKENS, build_codes, build_seed_model, check_grammar
from transformers import GenerationConfig

from seed_hf.models.generation_seed import SeedImageSpanLogitsProcessor


transformers = pytest.importorskip(
    "transformers", minversion="5.23", reason="processors for each request are that new"
)


def small(**kwargs):
    """Without a size it would fill most of the memory with its cache."""
    return transformers.ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64, **kwargs)


def wanted(mode, **settings):
    config = GenerationConfig(do_sample=True, temperature=3.0, eos_token_id=-1, **settings)
    if mode is not None:
        config.generation_mode = mode
    return config


@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
@pytest.mark.parametrize("mode", [None, "text", "image", "interleaved"])
def test_hot_samples_stay_inside_the_grammar(mode, embedding):
    model, tokenizer = build_seed_model("llama", embedding)
    layout = tokenizer.image_token_layout
    torch.manual_seed(0)
    start = layout.span(build_codes())
    prompts = [[5, 9, 30], [7, 8, 40, 41, 42], [5, *start], [6, 5, *start, 9]]
    if mode in ("image", "interleaved"):
        # inside a span: at its start, in its middle, at its end
        prompts += [[5, *start[:1]], [5, 6, *start[:3]], [*start[:-1]]]
    if mode == "interleaved":
        with torch.no_grad():
            vectors = (
                model.language_model.get_output_embeddings().weight
                if embedding == "learned"
                else model.image_embeddings.special_weight
            )
            vectors[layout.boi_token_id if embedding == "learned" else 0] *= 30
    # a limit that a configuration carries is meant for texts
    config = wanted(mode, max_new_tokens=2 if mode == "image" else 17)
    num_spans = 0
    outputs = model.generate_batch(prompts, generation_config=config, continuous_batching_config=small())
    for output in outputs.values():
        assert output.error is None
        ids = output.prompt_ids + output.generated_tokens
        check_grammar(ids, layout)
        num_spans += output.generated_tokens.count(layout.boi_token_id)
        if mode == "image":
            assert ids[-1] == layout.eoi_token_id and len(output.generated_tokens) <= NUM_QUERY_TOKENS + 2
        else:
            assert len(output.generated_tokens) == 17
    assert (num_spans > 0) == (mode in ("image", "interleaved"))
    assert config.eos_token_id == -1 and config.max_new_tokens is not None


def test_numbers_and_ids_give_the_same_states():
    model, tokenizer = build_seed_model()
    layout = tokenizer.image_token_layout
    span, scores = layout.span(build_codes()), torch.randn(1, model.config.vocab_size)
    for mode in ("text", "image", "interleaved"):
        processor = SeedImageSpanLogitsProcessor(layout, mode, max_length=20)
        for ids in ([5, 6], [5, *span], *([5, *span[:length]] for length in range(1, len(span))), [5] * 15):
            is_open, count = layout.span_state(torch.tensor([ids]))
            state = processor.state_of(count.item() if is_open else None, 20 - len(ids))
            got = processor.mask_states(scores, torch.tensor([state]))
            assert torch.equal(got, processor(torch.tensor([ids]), scores))


def test_a_generation_config_says_the_mode():
    """All that trainers and servers hand over."""
    model, tokenizer = build_seed_model()
    ids = torch.tensor([[5, 9, 30]])
    config = GenerationConfig(do_sample=False, max_new_tokens=12, pad_token_id=0)
    config.generation_mode = "image"
    drawn = model.generate(ids, generation_config=config)
    assert torch.equal(drawn, model.generate(ids, generation_mode="image", do_sample=False))
    assert torch.equal(
        model.generate(ids, generation_config=config, generation_mode="text"),
        model.generate(ids, do_sample=False, max_new_tokens=12),
    )
    model.generation_config.generation_mode = "image"
    assert torch.equal(model.generate(ids, do_sample=False), drawn)
    config.generation_mode = "both"
    for call in (model.generate, model.generate_batch):
        with pytest.raises(ValueError, match="`generation_mode` is 'both'"):
            call(ids.tolist() if call == model.generate_batch else ids, generation_config=config)


def test_guidance_is_refused():
    model, _ = build_seed_model()
    config = wanted("image", guidance_scale=3.0)
    for start in (lambda: model.generate_batch([[5]], config), lambda: model.init_continuous_batching(config)):
        with pytest.raises(ValueError, match="`guidance_scale` is 3.0; allowed in continuous batching: None or 1"):
            start()


def test_reading_ahead_is_refused():
    model, _ = build_seed_model()
    settings = small(use_async_batching=True)
    with pytest.raises(ValueError, match="`use_async_batching` is True"):
        model.generate_batch([[5]], generation_config=wanted("text"), continuous_batching_config=settings)
