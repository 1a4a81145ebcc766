"""SeedForCausalLM under every decoding of transformers: our version of its generation suite, with the grammar."""

import copy
import logging

import pytest
import torch
from tiny.language import ARCHITECTURES, CACHE_NAME, NUM_QUERY_TOKENS, build_codes, build_seed_model, check_grammar
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer


MODES = ("text", "image", "interleaved")
SPAN = NUM_QUERY_TOKENS + 2
# transformers assists one sequence at a time
ASSISTED = {"prompt_lookup": {"prompt_lookup_num_tokens": 3}, "assistant": {"assistant_model": "another"}}
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
    **{name: {"do_sample": False, **settings} for name, settings in ASSISTED.items()},
    "assisted_sampling": {"do_sample": True, "temperature": 2.0, **ASSISTED["assistant"]},
}


@pytest.fixture(scope="module", params=["opt", "llama"])
def model(request):
    """As the paper: OPT, tied, projected codes. As SEED-LLaMA: untied, image tokens among its own."""
    if request.param == "opt":
        return build_seed_model("opt")[0]
    return tell_tokens_apart(build_seed_model("llama", "learned", tied=False)[0])


def tell_tokens_apart(model):
    """Fresh learned rows are so alike that rounding would choose between them."""
    with torch.no_grad():
        torch.nn.init.normal_(model.language_model.get_output_embeddings().weight, std=0.2)
    return model


class FavourImages(LogitsProcessor):
    """Pushes towards opening spans and towards image tokens everywhere."""

    def __init__(self, layout):
        self.layout = layout

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.layout.first_image_token_id :] += 8.0
        return scores


def left_padded_prompts():
    """Two prompts of different length, padded on the left."""
    ids = torch.tensor([[0, 0, 5, 9, 30], [7, 8, 40, 41, 42]])
    return {"input_ids": ids, "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])}


def options(mode, count=7):
    """Greedy decoding of `count` ids, or of one image."""
    limit = {} if mode == "image" else {"min_new_tokens": count, "max_new_tokens": count}
    return {"do_sample": False, "generation_mode": mode, **limit}


def with_assistant(settings):
    """Puts a model with other weights in place of its name."""
    if "assistant_model" in settings:
        settings = {**settings, "assistant_model": build_seed_model("gpt2", tied=False)[0]}
    return settings


# ---------------------------------------------------------------------------------------------- the grammar
@pytest.mark.parametrize("decoding", DECODING)
@pytest.mark.parametrize("mode", MODES)
def test_grammar_holds_under_every_decoding(decoding, mode):
    model, tokenizer = build_seed_model("llama")
    layout = tokenizer.image_token_layout
    torch.manual_seed(0)
    inputs = left_padded_prompts()
    if "assist" in decoding or "lookup" in decoding:
        inputs = {"input_ids": inputs["input_ids"][1:]}
    limit = {} if mode == "image" else {"max_new_tokens": 15}
    ids = model.generate(
        **inputs,
        **with_assistant(DECODING[decoding]),
        **limit,
        generation_mode=mode,
        logits_processor=LogitsProcessorList([FavourImages(layout)]),
    )
    for row in ids[:, 5:].tolist():
        check_grammar(row, layout)
        num_spans = row.count(layout.boi_token_id)
        assert num_spans == {"text": 0, "image": 1}.get(mode, num_spans)
    if mode == "interleaved" and decoding in ("greedy", "sampling", "prompt_lookup", "assistant"):
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
def test_prompt_that_ends_inside_a_span_is_continued(model, decoding, mode):
    layout = model.config.image_token_layout
    span = layout.span(build_codes())
    prompts = torch.tensor([[5, 6, *span[:2]], [7, *span[:3]]])
    limit = {} if mode == "image" else {"max_new_tokens": 12}
    ids = model.generate(prompts, **DECODING[decoding], **limit, generation_mode=mode)
    for row in ids.tolist():
        check_grammar(row if mode == "interleaved" else row[: row.index(layout.eoi_token_id) + 1], layout)
    assert torch.equal(ids[:, :4], prompts)


def test_a_span_that_does_not_fit_is_not_opened(model):
    layout = model.config.image_token_layout
    processors = LogitsProcessorList([FavourImages(layout)])
    for room in (SPAN - 1, SPAN):
        settings = {"generation_mode": "interleaved", "max_new_tokens": room, "do_sample": False}
        ids = model.generate(torch.tensor([[5, 6]]), logits_processor=processors, **settings)
        assert bool((ids == layout.boi_token_id).any()) == (room == SPAN)


def test_processors_that_forbid_what_the_grammar_needs_do_not_break_sampling(model):
    layout = model.config.image_token_layout
    banned = list(range(layout.first_image_token_id, layout.end_image_token_id + 2))
    ids = model.generate(
        torch.tensor([[5, 6]]), generation_mode="image", suppress_tokens=banned, do_sample=True, top_p=0.9
    )
    check_grammar(ids[0].tolist(), layout)


# ---------------------------------------------------------------------------------------------- equal ways
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["no_cache", "static_cache", *ASSISTED])
def test_other_ways_of_greedy_decoding_give_the_same(model, way, mode):
    prompt = torch.tensor([[5, 6, *model.config.image_token_layout.span(build_codes()), 5, 6]])
    settings = {**options(mode), **with_assistant(DECODING[way])}
    assert torch.equal(model.generate(prompt, **settings), model.generate(prompt, **options(mode)))


def test_an_assistant_that_agrees_saves_steps(model):
    prompt, calls, twin = torch.tensor([[5, 6, 7]]), [], copy.deepcopy(model)
    hook = model.language_model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        plain = model.generate(prompt, **options("image"))
        num_plain = len(calls)
        assert torch.equal(model.generate(prompt, **options("image"), assistant_model=twin), plain)
    finally:
        hook.remove()
    # `<img>` and `</img>`, which nothing else can follow, take no forward
    assert num_plain == SPAN - 2 and len(calls) - num_plain < SPAN


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
def test_batches_with_left_padding_equal_single_prompts(architecture, embedding):
    model, tokenizer = build_seed_model(architecture, embedding)
    if embedding == "learned":
        tell_tokens_apart(model)
    rows = [[5, 6, 7], [8, *tokenizer.image_token_layout.span(build_codes()), 9, 10]]
    length = max(map(len, rows))
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    for mode in MODES:
        together = model.generate(ids, attention_mask=mask, **options(mode))
        assert torch.equal(together, model.generate(ids, attention_mask=mask, use_cache=False, **options(mode)))
        for index, row in enumerate(rows):
            alone = model.generate(torch.tensor([row]), **options(mode))[0]
            assert together[index, length - len(row) :].tolist() == alone.tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_vectors_instead_of_ids(model, mode, num_beams):
    prompts = torch.tensor([[5, 6, 7], [9, 8, 7]])
    settings = {**options(mode), "num_beams": num_beams}
    wanted = model.generate(prompts, **settings)[:, 3:]
    mask = torch.ones_like(prompts)
    got = model.generate(inputs_embeds=model.embed_tokens(prompts), attention_mask=mask, **settings)
    assert torch.equal(got, wanted)


def test_generation_goes_on_from_its_cache(model):
    prompts = torch.tensor([[5, 6, 7], [9, 8, 7]])
    first = model.generate(prompts, **options("text", 3), return_dict_in_generate=True)
    both = model.generate(first.sequences, **{CACHE_NAME: first[CACHE_NAME]}, **options("text", 4))
    assert torch.equal(both, model.generate(prompts, **options("text", 7)))


@pytest.mark.filterwarnings("ignore:.*past_key_values:FutureWarning")
@pytest.mark.parametrize("name", ["past_key_values", CACHE_NAME])
def test_forward_takes_a_cache_by_both_names(model, name):
    ids = torch.tensor([[5, 6, 7]])
    cache = DynamicCache(config=model.config.get_text_config())
    model(ids[:, :2], **{name: cache})
    output = model(ids[:, 2:], **{name: cache})
    assert output[CACHE_NAME] is cache and cache.get_seq_length() == 3
    torch.testing.assert_close(output.logits, model(ids).logits[:, 2:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_generation_uses_no_deprecated_name(model, mode, monkeypatch):
    """transformers 5.24 renamed `past_key_values`; beside FutureWarning, an error in all tests, it logs this."""
    said = []
    monkeypatch.setattr(logging.Logger, "warning_once", lambda self, message, *args, **kwargs: said.append(message))
    ids = torch.tensor([[5, 6, 7]])
    model.generate(ids, **options(mode), guidance_scale=2.0, return_dict_in_generate=True)
    for output in (model(ids, use_cache=True), model(ids, labels=ids, target_logits_only=True, use_cache=True)):
        assert output[CACHE_NAME].get_seq_length() == 3
    assert [message for message in said if "deprecated" in message] == []


# ---------------------------------------------------------------------------------------------- beams, samples, ...
@pytest.mark.parametrize("mode", MODES)
def test_beams(model, mode):
    prompts = left_padded_prompts()
    settings = {**options(mode), "num_beams": 4, "num_return_sequences": 3, "return_dict_in_generate": True}
    found = model.generate(**prompts, **settings, output_scores=True)
    again = model.generate(**prompts, **settings, output_scores=True, use_cache=False)
    assert torch.equal(found.sequences, again.sequences) and found.sequences.shape[0] == 6
    scores = found.sequences_scores.view(2, 3)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    for row in found.sequences[:, 5:].tolist():
        check_grammar(row, model.config.image_token_layout)
    for three in found.sequences.view(2, 3, -1).tolist():
        assert len(set(map(tuple, three))) == 3


@pytest.mark.parametrize("mode", MODES)
def test_sampling(model, mode):
    def sample(seed, **settings):
        torch.manual_seed(seed)
        return model.generate(**left_padded_prompts(), **{**options(mode), "do_sample": True, **settings})

    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))
    assert torch.equal(sample(0, top_k=1), model.generate(**left_padded_prompts(), **options(mode)))
    several = sample(0, num_return_sequences=3, temperature=2.0)
    assert several.shape[0] == 6 and len(set(map(tuple, several.tolist()))) == 6


def test_outputs(model):
    layout, vocab_size = model.config.image_token_layout, model.config.vocab_size
    asked = dict.fromkeys(("output_scores", "output_logits", "output_hidden_states", "output_attentions"), True)
    model.set_attn_implementation("eager")
    output = model.generate(**left_padded_prompts(), **options("image"), return_dict_in_generate=True, **asked)
    model.set_attn_implementation("sdpa")
    assert len(output.scores) == len(output.logits) == len(output.hidden_states) == len(output.attentions) == SPAN
    assert {each.shape for each in (*output.scores, *output.logits)} == {(2, vocab_size)}
    assert len(output.hidden_states[0]) == 3 and len(output.attentions[0]) == 2
    allowed = [scores.isfinite().sum(dim=-1).unique().item() for scores in output.scores]
    assert allowed == [1, *[layout.codebook_size] * NUM_QUERY_TOKENS, 1]
    assert all(logits.isfinite().all() for logits in output.logits)


def test_text_ends_where_it_should(model):
    prompt = torch.tensor([[5, 6, 7]])
    ids = model.generate(prompt, **options("text", 6))[0]
    stop = ids[5].item()
    ended = model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=stop)[0]
    assert ended.tolist() == ids[: 4 + ids[3:].tolist().index(stop)].tolist()


def test_streaming(model):
    class Collect(BaseStreamer):
        received, ended = (), False

        def put(self, value):
            self.received = (*self.received, *value.flatten().tolist())

        def end(self):
            self.ended = True

    streamer = Collect()
    ids = model.generate(torch.tensor([[5, 6, 7]]), **options("image"), streamer=streamer)
    assert streamer.received == tuple(ids[0].tolist()) and streamer.ended
