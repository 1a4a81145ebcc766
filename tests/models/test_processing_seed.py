"""SeedProcessor: text, images and codes in; text, codes and images out."""

import copy
import pickle

import pytest
import torch
from PIL import Image
from rounding import assert_codes_of_images
from tiny.language import (
    NUM_QUERY_TOKENS,
    build_codes,
    build_image_tokenizer,
    build_seed_model,
    build_tokenizer,
    placeholder_span,
)
from transformers import AutoProcessor

from seed_hf import SeedImageProcessor, SeedProcessor


def build_processor(kind="gpt2", **kwargs):
    return SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), build_tokenizer(kind), **kwargs)


def picture(color="red"):
    return Image.new("RGB", (40, 30), color)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_each_image_becomes_a_span_of_placeholders(kind):
    processor = build_processor(kind)
    tokenizer = processor.tokenizer
    inputs = processor(images=picture(), text="<image>A photo of", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 28, 28)
    ids = inputs["input_ids"][0].tolist()
    start = ids.index(tokenizer.boi_token_id)
    span = placeholder_span(tokenizer.image_token_layout)
    assert ids[start : start + len(span)] == span
    with_codes = processor(text="<image>A photo of", codes=build_codes(), return_tensors="pt")
    assert with_codes["input_ids"].shape == inputs["input_ids"].shape and "pixel_values" not in with_codes
    inserted = tokenizer.image_token_layout.insert_codes(inputs["input_ids"], build_codes())
    assert torch.equal(inserted, with_codes["input_ids"])


def test_several_images_in_several_texts():
    processor = build_processor()
    pictures = [picture(color) for color in ("red", "green", "blue")]
    texts = ["<image> a", "a <image> and <image>"]
    nested = processor(text=texts, images=[pictures[:1], pictures[1:]], padding=True, return_tensors="pt")
    flat = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    for key in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(nested[key], flat[key])
    one = processor(images=pictures[2], text="<image>", return_tensors="pt")
    assert torch.equal(flat["pixel_values"][2:], one["pixel_values"])
    placeholders = (flat["input_ids"] == processor.tokenizer.image_placeholder_token_id).sum(dim=1)
    assert placeholders.tolist() == [NUM_QUERY_TOKENS, 2 * NUM_QUERY_TOKENS]
    codes = build_codes(3)
    ids = processor(text=texts, codes=codes, padding=True, return_tensors="pt")["input_ids"]
    is_image = processor.tokenizer.image_token_layout.is_image_token(ids)
    assert torch.equal(processor.tokenizer.token_ids_to_codes(ids[is_image]), codes.flatten())


def test_first_codes_make_a_short_span():
    """`<img>`, the codes given, `</img>`, in texts of one batch; and what a model writes comes back as it is."""
    processor = build_processor()
    layout, codes = processor.tokenizer.image_token_layout, build_codes(2)
    for count in (1, NUM_QUERY_TOKENS - 1):
        texts = ["<image> a", "a <image>"]
        inputs = processor(text=texts, codes=codes[:, :count], padding=True, return_tensors="pt")
        for row, image in zip(inputs["input_ids"].tolist(), codes[:, :count], strict=True):
            start = row.index(layout.boi_token_id)
            span = [layout.boi_token_id, *layout.codes_to_token_ids(image).tolist(), layout.eoi_token_id]
            assert row[start : start + count + 2] == span and row.count(layout.eoi_token_id) == 1


@pytest.mark.parametrize("source", ["images", "codes"])
def test_what_servers_plan_with(source):
    """Which ids belong to images, where their spans are in the text, how long they are: as vLLM asks for it."""
    processor = build_processor()
    images = {"images": [picture(), picture()]} if source == "images" else {"codes": build_codes(2)}
    texts = ["<image> a", "a cat <image>"]
    asked = {"return_mm_token_type_ids": True, "return_text_replacement_offsets": True}
    inputs = processor(text=texts, **images, **asked)
    num_tokens = processor._get_num_multimodal_tokens(image_sizes=[(30, 40)] * 2).num_image_tokens
    assert [sum(row) for row in inputs["mm_token_type_ids"]] == num_tokens == [NUM_QUERY_TOKENS + 2] * 2
    for ids, offsets in zip(inputs["input_ids"], inputs["text_replacement_offsets"], strict=True):
        (found,) = offsets
        start, end = found["new_span"]
        assert processor.tokenizer.decode(ids)[start:end] == found["replacement"]
    assert not set(processor(text=texts, **images)) & {"mm_token_type_ids", "text_replacement_offsets"}


def test_one_modality_alone():
    processor = build_processor()
    assert set(processor(images=[picture()], return_tensors="pt")) == {"pixel_values"}
    assert set(processor(text="a cat")) == {"input_ids", "attention_mask"}
    texts, none = ["a cat", "a red apple"], torch.zeros(0, NUM_QUERY_TOKENS, dtype=torch.long)
    for empty in ({"images": []}, {"images": [[], []]}, {"codes": none}):
        assert processor(text=texts, **empty) == processor(text=texts)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"text": "<image> and <image>", "images": [0]}, "2 `<image>` but 1 images"),
        ({"text": "no picture", "images": [0]}, "0 `<image>` but 1 images"),
        ({"text": "<image>"}, "1 `<image>` but 0 images"),
        ({"text": ["<image>", "a"], "images": [[], [0]]}, r"`text\[0\]` has 1 `<image>` but 0 images"),
        ({"text": ["<image>"], "images": [[0], [0]]}, "`images` has 2 lists; allowed: 1"),
        ({"text": ["a", "b"], "images": [[]]}, "`images` has 1 lists; allowed: 2"),
        ({"images": []}, "holds no image"),
        ({"text": "<image>", "codes": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "1 `<image>` but 2 images or codes"),
        ({"text": "<image>", "codes": [1, 2, 3]}, "`codes` has shape"),
        ({"text": "<image>", "codes": [[1, 2, 3, 4, 5]]}, r"`codes` has shape \(1, 5\); allowed: .*1 to 4\)"),
        ({"text": "<image>", "codes": [[]]}, r"`codes` has shape \(1, 0\); allowed: .*1 to 4\)"),
        ({"text": "<image> <image>", "codes": [[1], [1, 2]]}, "`codes` is not a rectangular array"),
        ({"text": "<image>", "codes": [1, 2, 3, 99]}, "`codes` holds 99"),
        ({"text": "<image>", "images": [0], "codes": [1, 2, 3, 4]}, "`images` and `codes` were both given"),
        ({"text": "a <image>", "images": [0], "max_length": 4, "truncation": True}, "`max_length` cuts"),
        ({"text": "a cat", "videos": [0]}, "`videos` was given; allowed: images and text"),
        ({"text": ["a", 1]}, r"`text` is \['a', 1\]; allowed: a string"),
        ({"text": "a", "generation_mode": "video"}, "`generation_mode` is 'video'; allowed: "),
        ({}, "`images` and `text` are both None"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    if "images" in arguments:
        pictures = [
            [picture()] * len(value) if isinstance(value, list) else picture() for value in arguments["images"]
        ]
        arguments = {**arguments, "images": pictures}
    with pytest.raises(ValueError, match=message):
        build_processor()(**arguments)


def test_images_and_codes_by_the_named_models(tmp_path):
    image_tokenizer, processor = build_image_tokenizer(), build_processor()
    processor.image_processor = SeedImageProcessor(size=28)
    images = [picture(), picture("blue")]
    with pytest.raises(ValueError, match="`image_tokenizer_id` is None"):
        processor.encode_image(images)
    codes = processor.encode_image(images, image_tokenizer)
    assert torch.equal(
        codes, image_tokenizer.encode(processor.image_processor(images, return_tensors="pt").pixel_values)
    )
    # what was given stays, for the original's door too, but is no part of a copy or of what is saved
    assert torch.equal(processor.tokenizer.encode_image(images), codes)
    copies = copy.deepcopy(processor.tokenizer), pickle.loads(pickle.dumps(processor.tokenizer))
    assert [one.image_codec.image_tokenizer for one in copies] == [None, None]
    assert all(one.image_codec.tokenizer is one for one in copies)
    image_tokenizer.save_pretrained(tmp_path / "image_tokenizer")
    processor.tokenizer.image_tokenizer_id = str(tmp_path)
    processor.save_pretrained(tmp_path / "processor")
    pixel_values = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    loaded = SeedProcessor.from_pretrained(tmp_path / "processor")
    assert_codes_of_images(image_tokenizer, pixel_values, loaded.encode_image(images))


def test_codes_straight_from_the_processor():
    image_tokenizer, processor = build_image_tokenizer(), build_processor()
    images, texts = [picture(), picture("blue")], ["<image> a", "a cat <image>"]
    with pytest.raises(ValueError, match="`image_tokenizer_id` is None"):
        processor(images=images, return_codes=True)
    codes = processor.encode_image(images, image_tokenizer)
    alone = processor(images=images, return_codes=True)
    assert set(alone) == {"codes"} and torch.equal(alone["codes"], codes)
    # a setting of the image processor is heard here too
    with pytest.raises(ValueError, match="`image_std` is"):
        processor(images=images, images_kwargs={"return_codes": True, "image_std": [0.0] * 3})
    for given in (images, [images[:1], images[1:]]):
        inputs = processor(text=texts, images=given, return_codes=True, padding=True, return_tensors="pt")
        wanted = processor(text=texts, codes=codes, padding=True, return_tensors="pt")
        assert set(inputs) == set(wanted) == {"input_ids", "attention_mask"}
        assert torch.equal(inputs["input_ids"], wanted["input_ids"])
    chat = [{"role": "user", "content": [{"type": "image", "image": images[0]}]}]
    settings = {"tokenize": True, "return_dict": True, "processor_kwargs": {"return_codes": True}}
    ids = processor.apply_chat_template(chat, **settings)["input_ids"]
    assert ids == [processor.tokenizer.image_token_layout.span(codes[0])]


def test_it_says_which_tokens_it_uses_and_opens_an_image():
    processor = build_processor()
    for name in ("image_token", "boi_token", "eoi_token"):
        token = getattr(processor, name)
        assert getattr(processor.tokenizer, name) == token
        index = processor.tokenizer.convert_tokens_to_ids(token)
        assert getattr(processor, f"{name}_id") == getattr(processor.tokenizer, f"{name}_id") == index
    opened = processor(text=["a cat", "a dog"], generation_mode="image")["input_ids"]
    assert opened == [[*ids, processor.boi_token_id] for ids in processor(text=["a cat", "a dog"])["input_ids"]]
    assert processor(text="a cat", generation_mode="text")["input_ids"] == [opened[0][:-1]]


def test_chat_with_several_images():
    processor = build_processor()
    content = [{"type": "image", "image": picture()}, {"type": "image", "image": picture("blue")}]
    chat = [
        {"role": "user", "content": [*content, {"type": "text", "text": "what is this?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "an apple"}]},
        {"role": "user", "content": [content[0], {"type": "text", "text": "and this?"}]},
    ]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    assert text == "<image><image>what is this? an apple\n<image>and this?"
    settings = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = processor.apply_chat_template(chat, **settings)
    assert inputs["pixel_values"].shape == (3, 3, 28, 28)
    pictures = [picture(), picture("blue"), picture()]
    for key, value in processor(text=text, images=pictures, return_tensors="pt").items():
        assert torch.equal(inputs[key], value)


@pytest.mark.parametrize("as_string", [True, False])
def test_a_chat_reads_as_the_prompts_of_training(as_string):
    processor = build_processor()

    def message(role, text):
        return {"role": role, "content": text if as_string else [{"type": "text", "text": text}]}

    prompt = processor.image_prompt.format(caption="a cat")
    asked = [message("user", prompt)]
    assert processor.apply_chat_template(asked, add_generation_prompt=True) == prompt
    opened = processor.apply_chat_template(asked, add_generation_prompt=True, generation_mode="image")
    assert opened == prompt + "<img>"
    answered = [message("system", "Be brief."), *asked, message("assistant", "no"), message("user", "why?")]
    assert processor.apply_chat_template(answered) == f"Be brief.\n{prompt} no\nwhy?"
    drawn = [*asked, {"role": "assistant", "content": [{"type": "image", "image": picture()}]}]
    assert processor.apply_chat_template(drawn) == f"{prompt}<image>\n"


def test_save_and_load(tmp_path):
    processor = build_processor(caption_prompt="<image>An emoji of", chat_template="{{ messages }}")
    processor.save_pretrained(tmp_path)
    for loader in (SeedProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, SeedProcessor)
        assert loaded.caption_prompt == "<image>An emoji of" and loaded.chat_template == "{{ messages }}"
        assert loaded.question_prompt == processor.question_prompt
        arguments = {"images": picture(), "text": loaded.caption_prompt, "return_tensors": "pt"}
        for key, value in processor(**arguments).items():
            assert torch.equal(loaded(**arguments)[key], value)


class Pipeline:
    """Stands for SeedPipeline, whose pictures are not the subject here."""

    def __call__(self, codes, **kwargs):
        return type("Output", (), {"images": [tuple(row) for row in codes.tolist()]})


def test_generated_ids_are_taken_apart():
    processor = build_processor()
    tokenizer, codes = processor.tokenizer, build_codes(2)
    spans = [tokenizer.image_token_layout.span(row) for row in codes]
    text = tokenizer("a red apple")["input_ids"]
    pad = [tokenizer.pad_token_id]
    row = [*pad, *text, *spans[0], *text, *spans[1], tokenizer.eos_token_id]
    other = [*text, *[tokenizer.pad_token_id] * (len(row) - len(text))]
    ids = torch.tensor([row, other])
    assert processor.post_process_generation(ids) == ["a red applea red apple", "a red apple"]
    got = processor.post_process_generation(ids, "codes")
    assert torch.equal(got[0], codes) and got[1].shape == (0, NUM_QUERY_TOKENS)
    pictures = [tuple(row) for row in codes.tolist()]
    assert processor.post_process_generation(ids, "images", pipeline=Pipeline()) == [pictures, []]
    interleaved = processor.post_process_generation(ids, "interleaved", pipeline=Pipeline())
    assert interleaved == [["a red apple", pictures[0], "a red apple", pictures[1]], ["a red apple"]]
    # what a server replied, as text; here the prompt had opened the first image
    reply = [tokenizer.decode(ids[0, 2 + len(text) :]), "a red apple"]
    assert processor.post_process_generation(reply, "interleaved", pipeline=Pipeline()) == [
        [pictures[0], "a red apple", pictures[1]],
        ["a red apple"],
    ]
    assert processor.post_process_generation(reply[0], "codes")[0].tolist() == codes.tolist()
    start = 1 + len(text)
    assert processor.post_process_generation(ids[:1], "codes", prompt_length=start + len(spans[0]))[0].tolist() == [
        codes[1].tolist()
    ]
    # images of their first codes
    short = torch.tensor([[tokenizer.boi_token_id, *spans[0][1:3], tokenizer.eoi_token_id]])
    settings = {"num_codes": 2, "pipeline": Pipeline()}
    first = tuple(codes[0, :2].tolist())
    assert processor.post_process_generation(short, "images", **settings) == [[first]]
    assert processor.post_process_generation(short, "interleaved", **settings) == [[first]]
    cut = processor.post_process_generation(ids[:1, : start + 3], "codes")
    assert cut[0].shape == (0, NUM_QUERY_TOKENS)
    with pytest.raises(ValueError, match="an image span of 2 codes in sequence 0; allowed: 4"):
        processor.post_process_generation(ids[:1, : start + 3], "codes", strict=True)
    assert processor.post_process_multimodal_output(ids, generation_mode="image", pipeline=Pipeline()) == [
        pictures[1],
        None,
    ]
    with pytest.raises(ValueError, match="`output` is 'video'"):
        processor.post_process_generation(ids, "video")


def test_there_and_back_through_the_model():
    model, tokenizer = build_seed_model()
    processor = SeedProcessor(SeedImageProcessor(size={"height": 28, "width": 28}), tokenizer)
    prompts = [processor.image_prompt.format(caption=caption) for caption in ("a cat", "a red apple on the moon")]
    inputs = processor(text=prompts, padding=True, return_tensors="pt")
    ids = model.generate(**inputs, generation_mode="image", do_sample=False)
    codes = processor.post_process_generation(ids, "codes")
    assert [row.shape for row in codes] == [(1, NUM_QUERY_TOKENS)] * 2
    inputs = processor(text=[processor.caption_prompt] * 2, codes=torch.cat(codes), return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=5)
    texts = processor.post_process_generation(ids, prompt_length=inputs["input_ids"].shape[1])
    assert len(texts) == 2 and not any("<img" in text for text in texts)
    assert processor.post_process_multimodal_output(ids[:, -5:]) == tokenizer.batch_decode(
        ids[:, -5:], skip_special_tokens=True
    )
