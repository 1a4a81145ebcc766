"""Inside images the model computes only what the next step needs; whoever reads scores gets all of them."""

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from tiny.language import NUM_QUERY_TOKENS, build_codes, build_seed_model
from torch import nn
from transformers import LogitsProcessor


PADDED = {
    "input_ids": torch.tensor([[0, 0, 5, 9, 30], [7, 8, 40, 41, 42]]),
    "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
}
# longer than the prompts
NEGATIVE = {"guidance_scale": 4.0, "negative_prompt_ids": torch.tensor([[9, 8, 7, 6, 5, 4, 3]])}
SETTINGS = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 9, "num_return_sequences": 2},
    "guided": {"do_sample": True, **NEGATIVE},
    "no_cache": {"do_sample": False, "use_cache": False, "repetition_penalty": 3.0},
    "first_codes": {"do_sample": True, "num_codes": 2},
}


class Reader(LogitsProcessor):
    """Changes nothing, but what it is given must be what the model says."""

    def __call__(self, input_ids, scores):
        # `min_new_tokens` has removed the first id, which ends texts
        assert scores[:, 1:].min() > -1e3 and scores[:, 1:9].std() > 0
        return scores


@pytest.fixture(scope="module", params=["projected_codes", "learned"])
def model(request):
    """A model that likes to open images and whose rows are not so alike that rounding would choose."""
    model, tokenizer = build_seed_model("llama", request.param, tied=False)
    head = model.language_model.get_output_embeddings().weight
    with torch.no_grad():
        nn.init.normal_(head, std=0.2)
        opens = (
            head[tokenizer.boi_token_id] if request.param == "learned" else model.image_embeddings.special_weight[0]
        )
        opens.mul_(8)
    return model


def count_calls(model, **settings):
    """Generated ids, and how often the language model ran."""
    calls = []
    hook = model.language_model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    torch.manual_seed(0)
    try:
        return model.generate(**settings), len(calls)
    finally:
        hook.remove()


def prompts_of(model):
    """Outside of spans, at one place inside, at different places, and where only `</img>` may follow."""
    span = model.config.image_token_layout.span(build_codes())
    inside = [5, 6, *span[:2]]
    rows = {"inside": [inside], "mixed": [inside, [5, 6, 8, 9]], "at_end": [[5, *span[:-1]]]}
    with_mask = {name: torch.tensor(ids) for name, ids in rows.items()}
    return {"padded": PADDED} | {
        name: {"input_ids": ids, "attention_mask": torch.ones_like(ids)} for name, ids in with_mask.items()
    }


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_same_ids_in_fewer_forwards(model, settings):
    settings, saved = SETTINGS[settings], {}
    for mode in ({"generation_mode": "image"}, {"generation_mode": "interleaved", "min_new_tokens": 16}):
        if mode["generation_mode"] == "interleaved":
            mode["max_new_tokens"] = 16
        for name, prompts in prompts_of(model).items():
            fast, num_fast = count_calls(model, **prompts, **settings, **mode)
            plain, num_plain = count_calls(model, **prompts, **settings, **mode, logits_processor=[Reader()])
            assert torch.equal(fast, plain)
            saved[mode["generation_mode"], name] = num_plain - num_fast
    assert [saved["image", name] for name in ("padded", "inside", "mixed", "at_end")] == [2, 1, 0, 1]
    assert saved["interleaved", "inside"] >= 1 and saved["interleaved", "at_end"] >= 1


def test_logits_of_codes_are_those_of_the_whole_head(model):
    first, size = model.config.first_image_token_id, model.config.codebook_size
    with torch.no_grad():
        whole, codes = (model(**PADDED, needed_logits=needed).logits for needed in ("all", "codes"))
        assert model(**PADDED, needed_logits="none").logits.shape == (2, 1, model.config.vocab_size)
    assert codes.shape == whole.shape
    assert_equal_up_to_rounding(codes[..., first : first + size], whole[..., first : first + size])
    assert codes[..., :first].max() == codes[..., first + size :].max() < -1e4
    with pytest.raises(ValueError, match="`needed_logits` is 'some'; allowed"):
        model(**PADDED, needed_logits="some")


def test_a_head_that_was_changed_is_asked_as_a_whole(model):
    """By an adapter, a quantizer or a hook, none of which know of single rows."""
    if model.image_embeddings is not None:
        return  # codes are no rows of that head
    head, seen = model.language_model.get_output_embeddings(), []
    hook = head.register_forward_hook(lambda module, inputs, logits: seen.append(1) or 0 * logits)
    with torch.no_grad():
        assert (model(**PADDED, needed_logits="codes").logits == 0).all() and seen == [1]
        hook.remove()
        model.language_model.config.final_logit_softcapping = 0.01
        logits = model(**PADDED, needed_logits="codes").logits
    del model.language_model.config.final_logit_softcapping
    assert torch.equal(logits, model(**PADDED).logits)


@pytest.mark.parametrize(
    "way", [{"num_beams": 2}, {"return_dict_in_generate": True}, {"cache_implementation": "static"}]
)
def test_other_ways_take_every_step(model, way):
    settings = {**PADDED, "generation_mode": "image", "do_sample": False, "disable_compile": True}
    assert count_calls(model, **settings, **way)[1] == NUM_QUERY_TOKENS + 2
