"""The image-span grammar, step by step, and guidance over image tokens. (Every decoding: test_generation_seed.py)"""

from dataclasses import replace

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from tiny.language import CODEBOOK_SIZE, NUM_QUERY_TOKENS, build_seed_model, check_grammar
from transformers import GenerationConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from seed_hf import SeedConfig
from seed_hf.models.generation_seed import (
    SeedBatchedImageGuidanceLogitsProcessor,
    SeedContinuousBatchingSpanProcessor,
    SeedImageGuidanceLogitsProcessor,
    SeedImageSpanLogitsProcessor,
)
from seed_hf.models.image_tokens_seed import ImageTokenLayout


LAYOUT = ImageTokenLayout(20, 8, 3, boi_token_id=28, eoi_token_id=29, image_placeholder_token_id=30)


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


@pytest.mark.parametrize("mode", ["text", "image", "interleaved"])
def test_processors_read_no_value_on_the_host(mode):
    """Compiled steps and CUDA graphs stay possible: on the meta device there is nothing to read."""
    ids = torch.tensor([[1, 2, 28], [28, 20, 21]])
    with torch.device("meta"):
        meta_ids, scores, states = ids.to("meta"), torch.zeros(2, 31), torch.zeros(4, dtype=torch.int32)
        grammar = SeedImageSpanLogitsProcessor(LAYOUT, mode, max_length=30)
        guidance = SeedBatchedImageGuidanceLogitsProcessor(LAYOUT, 2.0, None, unconditional_ids=meta_ids[:1])
        doubled, inputs = guidance.double(meta_ids, meta_ids, None)
        assert doubled.shape == inputs["attention_mask"].shape == inputs["position_ids"].shape == (4, 3)
        guidance.take_rows(CausalLMOutputWithPast(logits=torch.zeros(4, 1, 31)))
        ways = [grammar(meta_ids, scores), guidance(meta_ids, scores)]
        ways.append(SeedContinuousBatchingSpanProcessor(grammar)(scores, states))
    assert all(way.is_meta and way.shape == (2, 31) for way in ways)
    grammar = SeedImageSpanLogitsProcessor(LAYOUT, mode, max_length=30)
    compiled = torch.compile(grammar, fullgraph=True, backend="eager")
    assert torch.equal(compiled(ids, torch.zeros(2, 31)), grammar(ids, torch.zeros(2, 31)))


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


def test_guidance_in_float16_stays_finite():
    """Sure of its codes, a model gives all else a probability whose logarithm float16 does not have."""
    model, tokenizer = build_seed_model("llama", "learned", tied=False)
    layout = tokenizer.image_token_layout
    with torch.no_grad():
        weight = model.language_model.get_output_embeddings().weight
        torch.nn.init.normal_(weight[layout.first_image_token_id : layout.end_image_token_id], std=6.0)
    model.half()
    prompts = torch.tensor([[5, 6, 30], [7, 8, 40]])
    codes = model(model.generate(prompts, generation_mode="image", do_sample=False)).logits[:, 3:7]
    assert codes.float().logsumexp(-1).max() > 17  # float16 overflows at 65504 + 16
    for do_sample in (False, True):
        torch.manual_seed(0)
        for row in model.generate(prompts, generation_mode="image", guidance_scale=2.0, do_sample=do_sample).tolist():
            check_grammar(row, layout)


PROMPTS = {
    "input_ids": torch.tensor([[0, 0, 5, 9, 30], [7, 8, 40, 41, 42]]),
    "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
}
INTERLEAVED = {"generation_mode": "interleaved", "max_new_tokens": 12}
# longer than the prompts, and one of them is padded
NEGATIVE = {
    "negative_prompt_ids": torch.tensor([[0, 0, 0, 9, 8, 7, 6], [3, 4, 5, 6, 7, 8, 9]]),
    "negative_prompt_attention_mask": torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7]),
}


def assert_same_choices(ids, output):
    """Greedy ids are those of `output`, or the first that is not has a score as high, up to rounding."""
    start = ids.shape[1] - len(output.scores)
    for row, (got, wanted) in enumerate(zip(ids, output.sequences, strict=True)):
        for place in (got != wanted).nonzero()[:1, 0].tolist():
            scores = output.scores[place - start][row]
            assert_equal_up_to_rounding(scores[got[place]], scores[wanted[place]])


@pytest.mark.parametrize("architecture", ["llama", "opt"])
@pytest.mark.parametrize(
    "mode", [{"generation_mode": "image"}, {"generation_mode": "interleaved", "max_new_tokens": 12}]
)
def test_guidance_takes_one_forward_for_both(architecture, mode):
    """Whatever asks for the cache or the hidden states gets those of its rows alone: two forwards then."""
    model, _ = build_seed_model(architecture)
    rows, settings = [], {**PROMPTS, **mode, "guidance_scale": 8.0, "do_sample": False}
    body = model.language_model.base_model
    hook = body.register_forward_hook(lambda _, inputs, output: rows.append(len(output.last_hidden_state)))
    for negative in ({}, NEGATIVE):
        wanted = model.generate(**settings, **negative, return_dict_in_generate=True, output_scores=True)
        steps = len(wanted.scores)
        assert rows == [2] * (2 * steps)
        for way in ({}, {"use_cache": False}, {"cache_implementation": "static", "disable_compile": True}):
            rows.clear()
            assert_same_choices(model.generate(**settings, **negative, **way), wanted)
            # `<img>` and `</img>`, which nothing else can follow, take none
            is_forced = mode["generation_mode"] == "image" and way.get("cache_implementation") is None
            assert rows == [4] * (steps - 2 * is_forced)
        rows.clear()
    hook.remove()


def test_guided_rows_do_not_know_of_each_other():
    model, _ = build_seed_model("gpt2")
    settings = {"generation_mode": "image", "guidance_scale": 8.0}
    together = model.generate(**PROMPTS, **NEGATIVE, **settings, do_sample=False)
    for row, (prompt, negative) in enumerate(
        [((5, 9, 30), (9, 8, 7, 6)), ((7, 8, 40, 41, 42), (3, 4, 5, 6, 7, 8, 9))]
    ):
        asked = {"negative_prompt_ids": torch.tensor([negative]), "return_dict_in_generate": True, "do_sample": False}
        alone = model.generate(torch.tensor([prompt]), **settings, **asked, output_scores=True)
        assert_same_choices(together[row : row + 1, 5 - len(prompt) :], alone)
    several = model.generate(**PROMPTS, **NEGATIVE, **settings, do_sample=True, top_k=1, num_return_sequences=2)
    assert torch.equal(several, together.repeat_interleave(2, dim=0))


def test_a_generation_config_says_mode_and_guidance():
    """As good as the keywords, from whoever hands one over; it stays as it was."""
    model, _ = build_seed_model("llama")
    prompts, negative = torch.tensor([[5, 6, 30], [7, 8, 40]]), {"negative_prompt_ids": torch.tensor([[9, 8, 7, 6]])}
    config = GenerationConfig(generation_mode="image", guidance_scale=8.0, do_sample=False)
    before = config.to_dict()
    drawn = model.generate(prompts, generation_config=config, **negative)
    settings = {"generation_mode": "image", "do_sample": False}
    assert torch.equal(drawn, model.generate(prompts, **settings, guidance_scale=8.0, **negative))
    assert not torch.equal(drawn, model.generate(prompts, **settings))
    assert config.to_dict() == before
    model.generation_config.generation_mode, model.generation_config.guidance_scale = "image", 8.0
    assert torch.equal(drawn, model.generate(prompts, do_sample=False, **negative))
    # so asks continuous batching
    (grammar,) = model._get_logits_processor(GenerationConfig(generation_mode="interleaved", guidance_scale=1.0))
    assert type(grammar) is SeedImageSpanLogitsProcessor and grammar.generation_mode == "interleaved"


@pytest.mark.parametrize("settings", [{}, {"guidance_scale": 4.0}, {"num_beams": 2}, {"do_sample": True}])
def test_an_image_may_be_its_first_codes(settings):
    """They are those of a whole image, whose span closes early; prompts may end within one."""
    model, _ = build_seed_model("llama")
    layout = model.config.image_token_layout
    prompts = torch.tensor([[5, 6, 30], [7, 8, layout.boi_token_id]])
    settings = {"generation_mode": "image", "do_sample": False, **settings}
    short = model.generate(prompts, num_codes=2, **settings)
    spans = [[codes for kind, codes in layout.split(row) if kind == "image"] for row in short.tolist()]
    assert [len(codes) for row in spans for codes in row] == [2, 2] and short.shape[1] == 3 + 2 + 2
    if settings.get("num_beams") is None and not settings["do_sample"]:
        assert torch.equal(short[0, :6], model.generate(prompts, **settings)[0, :6])
    config = GenerationConfig(**settings, num_codes=2)
    assert model.generate(prompts, generation_config=config).shape == short.shape
    for wrong in (0, NUM_QUERY_TOKENS + 1, "2"):
        with pytest.raises(ValueError, match=f"`num_codes` is {wrong!r}; allowed: an integer in"):
            model.generate(prompts, num_codes=wrong, **settings)


@pytest.mark.parametrize("name", ["num_beams", "prompt_lookup_num_tokens", "assistant_model", "assistant_early_exit"])
def test_guidance_is_refused_where_its_cache_would_not_follow(name):
    model, _ = build_seed_model("llama")
    settings = {name: model if name == "assistant_model" else 3}
    with pytest.raises(ValueError, match=f"`{name}` is .*; allowed with `guidance_scale`"):
        model.generate(torch.tensor([[5]]), generation_mode="image", guidance_scale=2.0, do_sample=False, **settings)


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


def test_code_of_each_place_is_of_its_part_where_the_codebook_has_parts():
    layout = replace(SeedConfig(codebook_size=12, num_query_tokens=4).image_token_layout, codebook_per_query=True)
    processor, first = SeedImageSpanLogitsProcessor(layout, "image"), layout.first_image_token_id
    ids = torch.tensor([[layout.boi_token_id]])
    for place in range(4):
        scores = processor(ids, torch.zeros(1, layout.image_placeholder_token_id + 1))
        allowed = scores[0].isfinite().nonzero().flatten() - first
        assert allowed.tolist() == [3 * place, 3 * place + 1, 3 * place + 2]
        ids = torch.cat([ids, (first + allowed[:1])[None]], dim=1)
    scores = processor(ids, torch.zeros(1, layout.image_placeholder_token_id + 1))
    assert scores[0].isfinite().nonzero().flatten().tolist() == [layout.eoi_token_id]
