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


def assert_same_picture(actual, expected):
    """Two PIL images of one size; a value that rounding had moved across a half is off by one of 255."""
    assert actual.size == expected.size and actual.mode == expected.mode
    actual, expected = (np.asarray(picture).astype(int) for picture in (actual, expected))
    assert np.abs(actual - expected).max() <= 1
