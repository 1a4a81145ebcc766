"""The helpers that say what "equal" means notice what is not rounding."""

import subprocess

import pytest
import torch
from PIL import Image
from replaced import Replaced
from rounding import (
    assert_codes_of_images,
    assert_codes_of_prompt,
    assert_equal_up_to_rounding,
    assert_same_codes,
    assert_same_picture,
)
from tiny.language import build_seed_model
from tiny.pictures import build_images, build_prompt_pipeline


def test_another_order_of_a_sum_is_equal():
    left, right = torch.randn(8, 200), torch.randn(200, 16)
    order = torch.randperm(200)
    assert_equal_up_to_rounding(left[:, order] @ right[order], left @ right)


def test_one_wrong_weight_is_noticed():
    model, _ = build_seed_model("opt")
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    with torch.no_grad():
        model.language_model.model.decoder.layers[0].fc1.weight[0, 0] += 0.01
    with pytest.raises(AssertionError, match="rounding explains"):
        assert_equal_up_to_rounding(model(ids).logits, before)


@pytest.mark.parametrize(
    "wrong",
    [torch.tensor([1.0]), torch.tensor([1.0, float("nan")]), torch.tensor([1, 2]), torch.tensor([1.0, 2.0]).double()],
)
def test_other_shapes_dtypes_and_what_is_not_a_number_are_not_equal(wrong):
    with pytest.raises(AssertionError):
        assert_equal_up_to_rounding(wrong, torch.tensor([1.0, 2.0]))


def test_codes_differ_only_where_they_are_as_near():
    distances = torch.tensor([[1.0, 1.0 + 1e-7, 5.0]])
    near, nearest, far = (torch.tensor([code]) for code in (1, 0, 2))
    assert_same_codes(near, nearest, distances)
    with pytest.raises(AssertionError):
        assert_same_codes(far, nearest, distances)


def test_a_picture_may_be_off_by_one_level():
    grey = Image.new("RGB", (2, 2), (10, 10, 10))
    assert_same_picture(Image.new("RGB", (2, 2), (11, 9, 10)), grey)
    with pytest.raises(AssertionError):
        assert_same_picture(Image.new("RGB", (2, 2), (12, 10, 10)), grey)


def test_a_function_is_replaced_for_one_importer_only():
    replaced = Replaced(subprocess, run=lambda: "ours")
    assert replaced.run() == "ours" and replaced.PIPE == subprocess.PIPE and subprocess.run is not replaced.run


def test_other_codes_are_not_what_decides_them():
    pipeline = build_prompt_pipeline()
    pixel_values = pipeline.image_processor(build_images(), return_tensors="pt")["pixel_values"]
    seen, written = pipeline.image_tokenizer.encode(pixel_values), pipeline.encode_prompt("a cat")
    assert_codes_of_images(pipeline.image_tokenizer, pixel_values, seen)
    assert_codes_of_prompt(pipeline, "a cat", written)
    size = pipeline.image_tokenizer.config.codebook_size
    for place in range(seen.shape[1]):
        step = torch.nn.functional.one_hot(torch.tensor([place]), seen.shape[1])
        with pytest.raises(AssertionError):
            assert_codes_of_images(pipeline.image_tokenizer, pixel_values, (seen + step) % size)
        with pytest.raises(AssertionError):
            assert_codes_of_prompt(pipeline, "a cat", (written + step) % size)
