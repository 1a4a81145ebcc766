"""Folders of each kind, as the package saved them before it had folders of its own, load and compute the same.

`tests/saved_before/` was written by version 0.1.0.dev0 at commit 298798d, without the copies of its code: toys of
`tests/tiny/pictures.py` in float16, and in `wanted.safetensors` what they computed in float32.
"""

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from safetensors.torch import load_file
from tiny import TESTS
from tiny.pictures import draw

from seed_hf import SeedForCausalLM, SeedImageTokenizer, SeedPipeline, SeedProcessor
from seed_hf.data import read_codes


SAVED = TESTS / "saved_before"


@pytest.fixture(scope="module")
def wanted():
    return load_file(SAVED / "wanted.safetensors")


def test_image_tokenizer(wanted):
    model = SeedImageTokenizer.from_pretrained(SAVED / "pipeline", subfolder="image_tokenizer", dtype=torch.float32)
    # the second nearest codes are farther by 0.01 at least, of distances of 9
    assert torch.equal(model.encode(wanted["pixel_values"]), wanted["codes"])
    assert_equal_up_to_rounding(model.decode(wanted["given_codes"]), wanted["generation_embeds"])


def test_pipeline(wanted):
    pipeline = SeedPipeline.from_pretrained(SAVED / "pipeline").to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    images = draw(pipeline, 0, 1, codes=wanted["given_codes"], num_inference_steps=2)
    # each of the two steps takes differences of predictions, which guidance multiplies
    assert_equal_up_to_rounding(images, wanted["image"], roundings=1024)


def test_language_model_and_processor(wanted):
    model = SeedForCausalLM.from_pretrained(SAVED / "language_model", image_tokenizer=None).eval()
    # other releases of the libraries add in another order
    assert_equal_up_to_rounding(model(wanted["input_ids"]).logits, wanted["logits"], roundings=1024)
    processor = SeedProcessor.from_pretrained(SAVED / "language_model")
    (codes,) = processor.post_process_generation(wanted["input_ids"], output="codes")
    assert torch.equal(codes[0], wanted["given_codes"][0])


def test_adapter(wanted, monkeypatch):
    monkeypatch.chdir(SAVED)  # its base is named by a relative path
    model = SeedForCausalLM.from_pretrained("adapter", image_tokenizer=None).eval()
    # the adapter is merged here, and was added then
    assert_equal_up_to_rounding(model(wanted["input_ids"]).logits, wanted["adapted_logits"], roundings=1024)


def test_codes(wanted):
    assert torch.tensor([list(codes) for codes in read_codes(SAVED / "codes")["codes"]]).equal(wanted["encoded"])
