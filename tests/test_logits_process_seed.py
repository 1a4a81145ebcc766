"""The image-span grammar and guidance over image tokens, under transformers' own decoding."""

import pytest
import torch
from tiny_language import ARCHITECTURES, CODEBOOK_SIZE, NUM_QUERY_TOKENS, build_codes, build_seed_model
from transformers import LogitsProcessor, LogitsProcessorList

from seed_hf.image_tokens_seed import ImageTokenLayout
from seed_hf.logits_process_seed import SeedImageGuidanceLogitsProcessor, SeedImageSpanLogitsProcessor


LAYOUT = ImageTokenLayout(20, 8, 3, boi_token_id=28, eoi_token_id=29, image_placeholder_token_id=30)
SPAN = NUM_QUERY_TOKENS + 2
DECODING = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 3.0},
    "top_k_top_p": {"do_sample": True, "top_k": 2, "top_p": 0.5},
    "beams": {"do_sample": False, "num_beams": 3},
    "beam_sampling": {"do_sample": True, "num_beams": 3, "temperature": 2.0},
    "static_cache": {"do_sample": False, "cache_implementation": "static", "disable_compile": True},
    "no_cache": {"do_sample": False, "use_cache": False},
    "repetition_penalty": {"do_sample": True, "repetition_penalty": 5.0},
    "no_repeat_ngram": {"do_sample": False, "no_repeat_ngram_size": 1},
}


class FavourImages(LogitsProcessor):
    """Pushes towards opening spans and towards image tokens everywhere."""

    def __init__(self, layout):
        self.layout = layout

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.layout.first_image_token_id :] += 8.0
        return scores


def check_grammar(ids, layout, may_be_open=False):
    """Every `<img>` is followed by exactly `num_query_tokens` image tokens and `</img>`; none stand elsewhere."""
    position = 0
    while position < len(ids):
        if ids[position] == layout.boi_token_id:
            codes = ids[position + 1 : position + 1 + layout.num_query_tokens]
            end = position + 1 + layout.num_query_tokens
            assert all(layout.first_image_token_id <= i < layout.end_image_token_id for i in codes), ids
            assert len(codes) == layout.num_query_tokens and ids[end : end + 1] == [layout.eoi_token_id], ids
            position = end + 1
        else:
            assert ids[position] < layout.first_image_token_id, ids
            position += 1


def left_padded_prompts():
    """Two prompts of different length, padded on the left."""
    ids = torch.tensor([[0, 0, 5, 9, 30], [7, 8, 40, 41, 42]])
    return {"input_ids": ids, "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])}


@pytest.mark.parametrize("decoding", DECODING)
@pytest.mark.parametrize("mode", ["text", "image", "interleaved"])
def test_grammar_holds_under_every_decoding(decoding, mode):
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    torch.manual_seed(0)
    inputs = left_padded_prompts()
    limit = {} if mode == "image" else {"max_new_tokens": 15}
    ids = model.generate(
        **inputs,
        **DECODING[decoding],
        **limit,
        generation_mode=mode,
        logits_processor=LogitsProcessorList([FavourImages(layout)]),
    )
    for row in ids[:, 5:].tolist():
        check_grammar(row, layout)
        num_spans = row.count(layout.boi_token_id)
        assert num_spans == {"text": 0, "image": 1}.get(mode, num_spans)
    if mode == "interleaved" and decoding in ("greedy", "sampling"):
        assert (ids == layout.boi_token_id).any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
def test_every_architecture_writes_one_image(architecture, embedding):
    model, tokenizer = build_seed_model(architecture, embedding)
    ids = model.generate(**left_padded_prompts(), generation_mode="image", do_sample=False)
    assert ids.shape == (2, 5 + SPAN)
    for row in ids[:, 5:].tolist():
        check_grammar(row, tokenizer.image_token_layout)


@pytest.mark.parametrize("decoding", ["greedy", "beams", "sampling"])
@pytest.mark.parametrize("mode", ["image", "interleaved"])
def test_prompt_that_ends_inside_a_span_is_continued(decoding, mode):
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    span = layout.span(build_codes())
    prompts = torch.tensor([[5, 6, *span[:2]], [7, *span[:3]]])
    limit = {} if mode == "image" else {"max_new_tokens": 12}
    ids = model.generate(prompts, **DECODING[decoding], **limit, generation_mode=mode)
    for row in ids.tolist():
        check_grammar(row if mode == "interleaved" else row[: row.index(layout.eoi_token_id) + 1], layout)
    assert torch.equal(ids[:, :4], prompts)


def test_assisted_decoding_keeps_the_grammar():
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    prompt = torch.tensor([[5, 6, *layout.span(build_codes()), 5, 6]])
    plain = model.generate(prompt, generation_mode="image", do_sample=False)
    assisted = model.generate(prompt, generation_mode="image", do_sample=False, prompt_lookup_num_tokens=3)
    assert torch.equal(plain, assisted)
    check_grammar(assisted[0].tolist(), layout)


def test_a_span_that_does_not_fit_is_not_opened():
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    processors = LogitsProcessorList([FavourImages(layout)])
    for room in (SPAN - 1, SPAN):
        ids = model.generate(
            torch.tensor([[5, 6]]), generation_mode="interleaved", max_new_tokens=room, logits_processor=processors,
            do_sample=False,
        )  # fmt: skip
        assert bool((ids == layout.boi_token_id).any()) == (room == SPAN)


def test_processors_that_forbid_what_the_grammar_needs_do_not_break_sampling():
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    banned = list(range(layout.first_image_token_id, layout.end_image_token_id + 2))
    ids = model.generate(
        torch.tensor([[5, 6]]), generation_mode="image", suppress_tokens=banned, do_sample=True, top_p=0.9
    )
    check_grammar(ids[0].tolist(), layout)


@pytest.mark.parametrize(
    "prompt, allowed",
    [
        ([1, 2], [28]),
        ([28], range(20, 28)),
        ([1, 28, 20, 21], range(20, 28)),
        ([28, 20, 21, 22], [29]),
        ([28, 20, 21, 22, 29], [28]),
        ([28, 20, 21, 22, 29, 28, 27], range(20, 28)),
    ],
)
def test_image_mode_allows_exactly(prompt, allowed):
    scores = SeedImageSpanLogitsProcessor(LAYOUT, "image")(torch.tensor([prompt]), torch.randn(1, 31))
    assert torch.isfinite(scores[0]).nonzero().flatten().tolist() == list(allowed)


def test_scores_that_are_allowed_stay_as_they_are():
    scores = torch.randn(1, 31)
    processed = SeedImageSpanLogitsProcessor(LAYOUT, "text")(torch.tensor([[1, 2]]), scores)
    assert torch.equal(processed[:, :20], scores[:, :20]) and torch.isneginf(processed[:, 20:]).all()


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="generation_mode.*'picture'"):
        SeedImageSpanLogitsProcessor(LAYOUT, "picture")


def test_guidance_is_the_usual_formula_for_codes_and_nothing_for_text():
    model, tokenizer = build_seed_model("gpt2")
    layout = tokenizer.image_token_layout
    ids = torch.tensor([[5, 6, layout.boi_token_id], [5, 6, 7]])
    negative = torch.tensor([[9, layout.boi_token_id], [9, layout.boi_token_id]])
    scores = model(ids).logits[:, -1]
    guidance = SeedImageGuidanceLogitsProcessor(layout, 3.0, model, unconditional_ids=negative)
    guided = guidance(ids, scores)
    conditional, unconditional = scores.log_softmax(-1), model(negative).logits[:, -1].log_softmax(-1)
    torch.testing.assert_close(guided[0], (unconditional + 3.0 * (conditional - unconditional))[0])
    assert torch.equal(guided[1], scores[1])


def test_guidance_changes_images_and_scale_one_does_not():
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    prompts, negative = torch.tensor([[5, 6, 30], [7, 8, 40]]), torch.tensor([[9]])

    def draw(**kwargs):
        return model.generate(prompts, generation_mode="image", do_sample=False, **kwargs)

    plain = draw()
    assert torch.equal(plain, draw(guidance_scale=1.0, negative_prompt_ids=negative))
    guided = draw(guidance_scale=8.0, negative_prompt_ids=negative)
    assert not torch.equal(plain, guided)
    assert torch.equal(guided, draw(guidance_scale=8.0, negative_prompt_ids=negative, use_cache=False))
    for row in guided[:, 3:].tolist():
        check_grammar(row, layout)
    several = draw(guidance_scale=8.0, negative_prompt_ids=negative, num_return_sequences=1)
    assert torch.equal(several, guided)


def test_guidance_with_beams_is_refused():
    model, _ = build_seed_model("llama")
    with pytest.raises(ValueError, match="num_beams.*3"):
        model.generate(torch.tensor([[5]]), generation_mode="image", guidance_scale=2.0, num_beams=3)


def test_layout_arithmetic():
    codes = torch.arange(CODEBOOK_SIZE)
    layout = ImageTokenLayout(100, CODEBOOK_SIZE, NUM_QUERY_TOKENS, 116, 117, 118)
    assert torch.equal(layout.token_ids_to_codes(layout.codes_to_token_ids(codes)), codes)
    for bad in (torch.tensor([-1]), torch.tensor([CODEBOOK_SIZE])):
        with pytest.raises(ValueError, match=rf"`codes` holds {bad.item()}; allowed: \[0, {CODEBOOK_SIZE}\)"):
            layout.codes_to_token_ids(bad)
    with pytest.raises(ValueError, match=r"`codes` has dtype torch.float32"):
        layout.codes_to_token_ids(torch.zeros(4))
    with pytest.raises(ValueError, match=r"`codes` has shape \(1, 3\)"):
        layout.check_image_codes(torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"`token_ids` holds 99"):
        layout.token_ids_to_codes(torch.tensor([99]))


def test_split_takes_sequences_apart():
    span = LAYOUT.span([1, 2, 3])
    assert LAYOUT.split([5, *span, 6, 7]) == [("text", [5]), ("image", [1, 2, 3]), ("text", [6, 7])]
    assert LAYOUT.split([21, 22, 29, 6]) == [("image", [1, 2]), ("text", [6])]
    assert LAYOUT.split([28, 21]) == [("image", [1])]
