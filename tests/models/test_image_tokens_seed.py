"""Codes are taken in every form in which they come, everywhere."""

import numpy as np
import pytest
import torch
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.language import CODEBOOK_SIZE, NUM_QUERY_TOKENS, build_codes, build_seed_model, placeholder_span
from tiny.pictures import build_codes as build_pipeline_codes
from tiny.pictures import build_pipeline

from seed_hf import SeedImageProcessor, SeedProcessor
from seed_hf.models.image_tokens_seed import check_codes


def read_only(codes):
    array = codes.numpy().copy()
    array.flags.writeable = False
    return array


FORMS = {name: lambda codes, name=name: codes.numpy().astype(name) for name in (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"
)}  # fmt: skip
FORMS |= {
    "torch.uint16": lambda codes: codes.to(torch.uint16),
    "torch.int32": lambda codes: codes.int(),
    "lists": lambda codes: codes.tolist(),
    "tuple of tensors": lambda codes: tuple(codes),
    "list of arrays": lambda codes: list(codes.numpy().astype(np.uint16)),
    "list of lists of scalars": lambda codes: [list(row) for row in codes.numpy().astype(np.uint16)],
    "not writable": read_only,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_codes_of_every_form_are_the_same_codes(form):
    codes = build_codes(3)
    got = check_codes(FORMS[form](codes), CODEBOOK_SIZE, NUM_QUERY_TOKENS)
    assert got.dtype == torch.long and torch.equal(got, codes)
    assert torch.equal(check_codes(FORMS[form](codes[:1])[0], CODEBOOK_SIZE, NUM_QUERY_TOKENS), codes[:1])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.array([65535] * 4, np.uint16), "`codes` holds 65535"),
        (np.array([2**64 - 1] * 4, np.uint64), "`codes` holds -1"),
        ([-1] * 4, "`codes` holds -1"),
        (np.array([1.0] * 4), "`codes` has dtype torch.float64"),
        ([np.array([True] * 4)], "`codes` has dtype torch.bool"),
        ([torch.zeros(4)], "`codes` has dtype torch.float"),
        ([[1, 2, 3, 4], [1]], "`codes` is not a rectangular array"),
        (None, "`codes` is not a rectangular array"),
        ("1 2 3 4", "`codes` is not a rectangular array"),
        (torch.zeros(1, 1, 4, dtype=torch.int), r"`codes` has shape \(1, 1, 4\)"),
    ],
)
def test_what_are_no_codes_is_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        check_codes(codes, CODEBOOK_SIZE, NUM_QUERY_TOKENS)


@pytest.mark.parametrize("form", ["uint16", "int32", "torch.uint16", "lists", "list of arrays"])
def test_every_door_takes_every_form(form):
    """`seed-hf encode` writes uint16."""
    codes, model = build_pipeline_codes(2), tiny_image_tokenizer()
    pipeline = build_pipeline()
    assert torch.equal(pipeline.decode_codes(FORMS[form](codes)), pipeline.decode_codes(codes))
    assert torch.equal(pipeline(codes=FORMS[form](codes), num_inference_steps=1).codes, codes)
    codes = torch.randint(0, 64, (2, 8), generator=torch.Generator().manual_seed(0))
    for call in (model.decode, model.reconstruct, model.get_code_vectors):
        assert torch.equal(call(FORMS[form](codes)), call(codes))
    features = model.get_image_features(codes=FORMS[form](codes)).pooler_output
    assert torch.equal(features, model.get_image_features(codes=codes).pooler_output)


@pytest.mark.parametrize("form", ["uint16", "int32", "torch.uint16", "lists", "list of arrays"])
def test_every_door_of_the_language_model_takes_every_form(form):
    model, tokenizer = build_seed_model()
    codes = build_codes(1)
    given = FORMS[form](codes)
    processor = SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), tokenizer)
    ids = processor(text="<image>", codes=given, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == tokenizer.image_token_layout.span(given) == tokenizer.image_token_layout.span(codes)
    assert tokenizer.codes_to_text(given) == tokenizer.codes_to_text(codes)
    assert torch.equal(tokenizer.codes_to_token_ids(given), tokenizer.codes_to_token_ids(codes))
    prompt = torch.tensor([placeholder_span(tokenizer.image_token_layout)])
    assert torch.equal(model.insert_images(prompt, codes=given), ids)
    assert torch.equal(model(prompt, codes=given).logits, model(prompt, codes=codes).logits)
    settings = {"max_new_tokens": 3, "do_sample": False}
    assert torch.equal(model.generate(prompt, codes=given, **settings), model.generate(ids, **settings))
