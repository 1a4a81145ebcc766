"""SeedTokenizer on byte-level and metaspace BPE: layout, round trips, codes, lazily found image parts."""

import json
import time

import pytest
import torch
from tiny.language import (
    CODEBOOK_SIZE,
    NUM_QUERY_TOKENS,
    build_base_tokenizer,
    build_codes,
    build_image_tokenizer,
    build_tokenizer,
)
from tokenizers import AddedToken
from transformers import AutoTokenizer

from seed_hf import SeedConfig, SeedImageProcessor, SeedTokenizer


KINDS = ("gpt2", "llama")


@pytest.mark.parametrize("kind", KINDS)
def test_image_tokens_follow_the_text_tokens(kind):
    base, tokenizer = build_base_tokenizer(kind), build_tokenizer(kind)
    first = len(base)
    assert tokenizer.first_image_token_id == first
    assert tokenizer.convert_tokens_to_ids("<img_00003>") == first + 3
    ends = ("boi_token_id", "eoi_token_id", "image_placeholder_token_id")
    assert [getattr(tokenizer, name) for name in ends] == [first + CODEBOOK_SIZE + i for i in range(3)]
    assert len(tokenizer) == first + CODEBOOK_SIZE + 3 and len(base) == first
    sizes = {"codebook_size": CODEBOOK_SIZE, "num_query_tokens": NUM_QUERY_TOKENS}
    text_config = {"model_type": "llama", "vocab_size": first}
    assert SeedConfig(text_config=text_config, **sizes).image_token_layout == tokenizer.image_token_layout


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_tokenized_as_by_the_base(kind):
    base, tokenizer = build_base_tokenizer(kind), build_tokenizer(kind)
    for text in ("a photo of a red apple", "an  odd <img text", "Ünïcode äpple 7"):
        assert tokenizer(text)["input_ids"] == base(text)["input_ids"]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == base.decode(base(text)["input_ids"])


@pytest.mark.parametrize("kind", KINDS)
def test_codes_survive_text_and_back(kind):
    tokenizer = build_tokenizer(kind)
    codes = build_codes()
    text = tokenizer.codes_to_text(codes)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[-(NUM_QUERY_TOKENS + 2) :] == tokenizer.image_token_layout.span(codes)
    assert torch.equal(tokenizer.token_ids_to_codes(tokenizer.codes_to_token_ids(codes)), codes)
    spoken = tokenizer.decode(tokenizer("a photo" + text + " of a cat")["input_ids"], skip_special_tokens=True)
    assert "<img" not in spoken and "of a cat" in spoken


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind, tmp_path):
    tokenizer = build_tokenizer(kind, image_tokenizer_id="someone/seed", image_tokenizer_revision="v1")
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "SeedTokenizer"
    text = "a photo<img><img_00001></img> of <image>"
    for loader in (SeedTokenizer, AutoTokenizer):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, SeedTokenizer)
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.image_token_layout == tokenizer.image_token_layout
        assert (loaded.image_tokenizer_id, loaded.image_tokenizer_revision) == ("someone/seed", "v1")
        assert loaded.special_tokens_map == tokenizer.special_tokens_map
        assert loaded.padding_side == "left" and len(loaded) == len(tokenizer)


def test_padding_is_on_the_left():
    batch = build_tokenizer()(["a cat", "a photo of a red apple"], padding=True, return_tensors="pt")
    assert batch["attention_mask"][0, 0] == 0 and batch["attention_mask"][:, -1].tolist() == [1, 1]


def test_the_papers_codebook_is_added_fast(tmp_path):
    started = time.process_time()
    tokenizer = SeedTokenizer.from_base_tokenizer(build_base_tokenizer())
    tokenizer.save_pretrained(tmp_path)
    loaded = SeedTokenizer.from_pretrained(tmp_path)
    # a tenth of a second on its own; token by token it was minutes in older releases
    assert time.process_time() - started < 5
    assert loaded.convert_tokens_to_ids("<img_08191>") == loaded.first_image_token_id + 8191


def test_vocabularies_with_some_image_tokens_are_refused():
    base = build_base_tokenizer()
    base.backend_tokenizer.add_special_tokens([AddedToken("<img_00003>", normalized=False)])
    with pytest.raises(ValueError, match="do not lie one after the other"):
        SeedTokenizer.from_base_tokenizer(base, codebook_size=CODEBOOK_SIZE)


def test_a_tokenizer_without_backend_is_refused():
    with pytest.raises(ValueError, match="`tokenizer` is a object without"):
        SeedTokenizer.from_base_tokenizer(object())


@pytest.mark.parametrize("bad", [[CODEBOOK_SIZE] * 4, [-1] * 4, [0.5] * 4, [1] * 3, [[1, 2], [3]]])
def test_wrong_codes_are_refused(bad):
    with pytest.raises(ValueError, match="`codes`"):
        build_tokenizer().codes_to_text(bad)
    with pytest.raises(ValueError, match="`codes`"):
        build_tokenizer().decode_image(bad)


def test_images_are_encoded_by_what_is_given_or_named(tmp_path):
    image_tokenizer, processor = build_image_tokenizer(), SeedImageProcessor(size={"height": 28, "width": 28})
    pixels = [torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8) for _ in range(2)]
    wanted = image_tokenizer.encode(processor(pixels, return_tensors="pt")["pixel_values"])
    given = build_tokenizer()
    assert torch.equal(given.encode_image(pixels, image_tokenizer, processor), wanted)
    assert torch.equal(given.encode_image(pixels), wanted)
    image_tokenizer.save_pretrained(tmp_path / "image_tokenizer")
    processor.save_pretrained(tmp_path / "image_processor")
    named = build_tokenizer(image_tokenizer_id=str(tmp_path))
    named.save_pretrained(tmp_path / "tokenizer")
    assert torch.equal(SeedTokenizer.from_pretrained(tmp_path / "tokenizer").encode_image(pixels), wanted)
    assert not list((tmp_path / "tokenizer").glob("*.safetensors"))


def test_images_are_decoded_by_the_pipeline_given():
    class Pipeline:
        def __call__(self, codes, **kwargs):
            self.codes, self.kwargs = codes, kwargs
            return type("Output", (), {"images": [f"picture of {row}" for row in codes.tolist()]})

    tokenizer, pipeline = build_tokenizer(), Pipeline()
    assert tokenizer.decode_image([1, 2, 3, 4], pipeline, num_inference_steps=3) == ["picture of [1, 2, 3, 4]"]
    assert pipeline.kwargs == {"num_inference_steps": 3} and pipeline.codes.dtype == torch.long


def test_without_an_image_tokenizer_images_are_refused():
    for call in (lambda: build_tokenizer().encode_image([]), lambda: build_tokenizer().decode_image(build_codes())):
        with pytest.raises(ValueError, match="`image_tokenizer_id` is None"):
            call()
