"""Edits of codes: what is kept stays, what is rewritten is what the models say, and wrong input is named."""

import pytest
import torch
from rounding import assert_codes_of_prompt, assert_equal_up_to_rounding
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.pictures import build_codes, build_pipeline, build_prompt_pipeline

from seed_hf.edits import code_log_probs, continue_codes, interpolate, mix, nearest, variations
from seed_hf.mini import mini_image
from seed_hf.studio import Studio


@pytest.fixture(scope="module")
def pipeline():
    return build_prompt_pipeline()


@pytest.fixture(scope="module")
def mini():
    return Studio.load("seed-mini")


@pytest.mark.parametrize("keep", [0, 1, 3, 4])
def test_kept_codes_stay_and_the_rest_is_likeliest(pipeline, keep):
    codes = build_codes(3)
    rewritten = continue_codes(pipeline, codes[:, : max(keep, 1)], keep=keep, prompt=["a cat", "a dog", "a"])
    assert rewritten.shape == codes.shape and torch.equal(rewritten[:, :keep], codes[:, :keep])
    if keep == 0:
        for prompt, row in zip(["a cat", "a dog", "a"], rewritten, strict=True):
            assert_codes_of_prompt(pipeline, prompt, row[None])


def test_images_are_written_to_their_end_by_a_model_that_stops_early(pipeline, monkeypatch):
    codes, settings = build_codes(), {"keep": 1, "prompt": "a cat"}
    wanted = continue_codes(pipeline, codes, **settings)
    monkeypatch.setattr(pipeline.language_model.generation_config, "num_codes", 2, raising=False)
    assert torch.equal(continue_codes(pipeline, codes, **settings), wanted)
    assert torch.equal(continue_codes(pipeline, codes, **settings, num_codes=4), wanted)


@pytest.mark.gpu
def test_codes_on_a_gpu_have_neighbours():
    model, codes = tiny_image_tokenizer().cuda(), torch.randint(64, (2, 8))
    assert torch.equal(nearest(model, codes.cuda(), 4), nearest(model, codes, 4))
    assert torch.equal(variations(model, codes.cuda(), strength=1), variations(model, codes, strength=1))


def test_log_probs_are_those_of_the_model(pipeline):
    """All first codes together have probability one."""
    codes = torch.zeros(16, 4, dtype=torch.long)
    codes[:, 0] = torch.arange(16)
    first = code_log_probs(pipeline, codes, "a cat")[:, 0]
    assert_equal_up_to_rounding(first.exp().sum(), torch.tensor(1.0))
    written = continue_codes(pipeline, codes[:1], keep=0, prompt="a cat")[0, 0]
    assert_equal_up_to_rounding(first[written], first.max())


def test_sampled_tails_follow_the_generator(pipeline):
    def sample(seed):
        settings = {"do_sample": True, "temperature": 5.0, "generator": torch.Generator().manual_seed(seed)}
        return continue_codes(pipeline, build_codes(4), keep=1, **settings).tolist()

    assert sample(1) == sample(1) and len({str(sample(seed)) for seed in range(4)}) > 1


def test_guidance_keeps_the_beginning_under_both_prompts(mini):
    codes = mini.encode([mini_image("strawberry")])
    guided = continue_codes(mini.pipeline, codes, keep=16, prompt="red apple", **mini.image_generation)
    assert torch.equal(guided[:, :16], codes[:, :16])


def test_a_rewritten_tail_is_likelier_than_a_random_one(mini):
    codes = mini.encode([mini_image("strawberry"), mini_image("rainbow")])
    rewritten = continue_codes(mini.pipeline, codes, keep=16, prompt=["strawberry", "rainbow"])
    generator = torch.Generator().manual_seed(0)
    starts = torch.tensor([[places.start for places in mini.codes_of_place]])
    drawn = starts + torch.randint(128, codes.shape, generator=generator)
    random = mix(codes, drawn, at=16)
    likely, unlikely = (
        code_log_probs(mini.pipeline, each, ["strawberry", "rainbow"])[:, 16:].mean() for each in (rewritten, random)
    )
    assert likely > unlikely + 2


def test_mix():
    first, second = build_codes(2), build_codes(2, seed=1)
    for at in range(5):
        mixed = mix(first, second, at)
        assert torch.equal(mixed[:, :at], first[:, :at]) and torch.equal(mixed[:, at:], second[:, at:])


def test_nearest_codes(mini):
    """Counted by hand on a codebook of its own; of seed-mini each place has its own codes."""
    model = tiny_image_tokenizer()
    with torch.no_grad():
        model.quantizer.embedding.weight.copy_(torch.arange(64.0)[:, None] ** 1.5)
    assert nearest(model, torch.tensor([[5], [0]]), k=3).tolist() == [[[4, 6, 3]], [[1, 2, 3]]]
    assert nearest(model, torch.tensor(63), k=2).tolist() == [62, 61]
    assert nearest(model, torch.tensor([5, 0, 5]), k=1).tolist() == [[4], [1], [4]]
    assert nearest(model, torch.empty(0, 8, dtype=torch.long), k=2).shape == (0, 8, 2)
    codes = torch.tensor([[place * 128 + 7 for place in range(32)]])
    others = nearest(mini.image_tokenizer, codes, k=5)
    assert others.shape == (1, 32, 5) and torch.equal(others // 128, (codes // 128)[..., None].expand_as(others))
    assert (others != codes[..., None]).all()


def test_variations():
    model, codes = tiny_image_tokenizer(), torch.randint(64, (50, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(variations(model, codes, strength=0), codes)
    changed = variations(model, codes, strength=0.5, seed=3)
    assert torch.equal(changed, variations(model, codes, strength=0.5, seed=3))
    # 200 of 400 are expected; five standard deviations of 10
    assert 150 < (changed != codes).sum() < 250
    everything = variations(model, codes, strength=1, k=4)
    assert ((nearest(model, codes, 4) == everything[..., None]).sum(-1) == 1).all()
    with pytest.raises(ValueError, match="`k` is 0; allowed"):
        variations(model, codes, k=0)


def test_interpolation_starts_and_ends_at_the_images(pipeline):
    first, second = build_codes(2)
    embeds = interpolate(pipeline.image_tokenizer, first, second, steps=3)
    ends = pipeline.image_tokenizer.decode(torch.stack([first, second]))
    assert_equal_up_to_rounding(embeds[[0, 2]], ends)
    assert_equal_up_to_rounding(embeds[1], ends.mean(0))
    assert len(pipeline(generation_embeds=embeds, num_inference_steps=1).images) == 3


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda pipe, codes: continue_codes(pipe, codes, keep=5), r"`keep` is 5; allowed: an integer in \[0, 4\]"),
        (lambda pipe, codes: continue_codes(pipe, codes[:, :2], keep=3), r"`keep` is 3; allowed: .* \[0, 2\]"),
        (
            lambda pipe, codes: continue_codes(pipe, codes, keep=1, num_codes=2),
            "`num_codes` is 2; allowed: 4, the whole",
        ),
        (lambda pipe, codes: continue_codes(pipe, codes, prompt=["a"] * 3, keep=1), "`prompt` has 3 entries"),
        (lambda pipe, codes: continue_codes(build_pipeline(), codes), "`pipeline` has no `language_model`"),
        (lambda pipe, codes: code_log_probs(pipe, codes[:, :3]), "`codes` has shape"),
        (lambda pipe, codes: mix(codes, codes[:1]), "`first` and `second` have shapes"),
        (lambda pipe, codes: mix(codes, codes, at=-1), r"`at` is -1; allowed: an integer in \[0, 4\]"),
        (lambda pipe, codes: nearest(pipe.image_tokenizer, codes, k=16), r"`k` is 16; allowed: .* \[1, 15\]"),
        (lambda pipe, codes: nearest(pipe.image_tokenizer, codes + 16), "`codes` holds"),
        (lambda pipe, codes: variations(pipe.image_tokenizer, codes, strength=2), "`strength` is 2; allowed"),
        (lambda pipe, codes: interpolate(pipe.image_tokenizer, codes[0], codes[1], steps=1), "`steps` is 1; allowed"),
        (lambda pipe, codes: interpolate(pipe.image_tokenizer, codes, codes[1]), "hold several images"),
    ],
)
def test_wrong_input(pipeline, edit, message):
    with pytest.raises(ValueError, match=message):
        edit(pipeline, build_codes(2))
