"""What "equal" means for numbers that were computed twice.

Only copies, and computations on the same tensors in one process, are equal to the last bit. Weights that come out of
a file lie in memory as the file's header left them, and where they lie decides which kernel multiplies them; another
process, processor, number of threads or batch size does too. Each of these adds the same products in another order.
"""

import numpy as np
import torch


# Two orders of a sum of n products differ by about sqrt(n) roundings of the largest partial sum. The toys add at most
# 200 products at a time, which makes 14, in fewer than ten layers, each of which normalises or adds to what it gets:
# 64 is twice what that comes to when the layers' errors are independent. A wrong weight shows a thousand times larger.
ROUNDINGS = 64


def largest(value: torch.Tensor) -> float:
    return value.detach().abs().max().item()


def assert_equal_up_to_rounding(actual: torch.Tensor, expected: torch.Tensor, name: str = "", roundings=ROUNDINGS):
    """No number differs by more than `roundings` units in the last place of the largest; all but floats are equal."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype, name
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), f"{name}: {(actual != expected).sum()} of {expected.numel()} differ"
        return
    assert actual.isfinite().all() and expected.isfinite().all(), name
    error, allowed = largest(actual - expected), roundings * torch.finfo(expected.dtype).eps * largest(expected)
    assert error <= allowed, f"{name}: differs by {error} of {largest(expected)}; rounding explains {allowed}"


def assert_same_codes(actual: torch.Tensor, expected: torch.Tensor, distances: torch.Tensor):
    """Codes are equal, or rounding chooses: their `distances` `(*codes.shape, codebook_size)` are equal up to it."""
    first, second = distances.gather(-1, torch.stack([actual, expected], dim=-1)).unbind(-1)
    assert_equal_up_to_rounding(first, second, roundings=ROUNDINGS * largest(distances) / largest(second))


@torch.no_grad()
def assert_codes_of_images(model, pixel_values: torch.Tensor, codes: torch.Tensor):
    """`codes` that another load or batch made are those of `model`, or as near to what decides them up to rounding."""
    projected = model.quantizer.project(model.get_causal_embeds(pixel_values))
    vectors = [model.get_code_vectors(each).to(projected) for each in (codes, model.encode(pixel_values))]
    actual, nearest = ((projected - each).square().sum(-1) for each in vectors)
    assert_equal_up_to_rounding(actual, nearest)


@torch.no_grad()
def assert_codes_of_prompt(pipeline, prompt: str, codes: torch.Tensor):
    """One row of `codes` that another load wrote greedily: each is the likeliest next one, or as likely."""
    text = pipeline.processor.image_prompt.format(caption=prompt) + "<image>"
    ids = pipeline.processor(text=text, codes=codes, return_tensors="pt")["input_ids"]
    layout = pipeline.language_model.config.image_token_layout
    first, count = layout.first_image_token_id, layout.num_query_tokens
    assert torch.equal(ids[:, -count - 1 : -1], codes + first)
    logits = pipeline.language_model(ids).logits[:, -count - 2 : -2, first : first + layout.codebook_size]
    assert_equal_up_to_rounding(logits.gather(-1, codes[..., None])[..., 0], logits.amax(-1))


def assert_same_picture(actual, expected):
    """Two PIL images of one size; a value that rounding had moved across a half is off by one of 255."""
    assert actual.size == expected.size and actual.mode == expected.mode
    actual, expected = (np.asarray(picture).astype(int) for picture in (actual, expected))
    assert np.abs(actual - expected).max() <= 1
