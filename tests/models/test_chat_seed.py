"""What people type is text, wherever it goes; only templates and processors write control tokens."""

import base64
import dataclasses
import io

import pytest
import torch
from PIL import Image
from tiny.language import (
    CODEBOOK_SIZE,
    NUM_QUERY_TOKENS,
    build_base_tokenizer,
    build_language_model,
    build_tokenizer,
    placeholder_span,
)
from tiny.pictures import build_prompt_pipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedProcessor, SeedTokenizer


WORDS = ("<img>", "</img>", "<image>", "<img_00007>", "<img_00007></img>", "<img<img>", "<<image>>")
SIZE = {"height": 28, "width": 28}
SETTINGS = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}


def build_processor(kind="gpt2"):
    return SeedProcessor(SeedImageProcessor(size=SIZE), build_tokenizer(kind))


def control_ids(tokenizer, ids):
    """Ids of images and special tokens."""
    layout = tokenizer.image_token_layout
    special = {layout.boi_token_id, layout.eoi_token_id, layout.image_placeholder_token_id, tokenizer.eos_token_id}
    codes = range(layout.first_image_token_id, layout.end_image_token_id)
    return [index for index in torch.as_tensor(ids).flatten().tolist() if index in special or index in codes]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("word", [*WORDS, "eos"])
def test_control_words_in_a_chat_are_text(word, kind):
    processor = build_processor(kind)
    tokenizer = processor.tokenizer
    word = tokenizer.eos_token if word == "eos" else word
    text = f"see the {word} tag"
    picture = {"type": "image", "image": Image.new("RGB", (30, 30), "red")}
    for flag in ({}, {"sanitize_control_tokens": True}, {"sanitize_control_tokens": False}):
        for content in (text, [{"type": "text", "text": text}]):
            chat = [{"role": "user", "content": content}, {"role": "assistant", "content": content}]
            ids = processor.apply_chat_template(chat, **SETTINGS, **flag)["input_ids"]
            assert not control_ids(tokenizer, ids), (word, flag)
            template = "{{ messages[0]['content'] }}"
            ids = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=True, **flag)["input_ids"]
            assert not control_ids(tokenizer, ids), (word, flag)
        with_image = [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]
        inputs = processor.apply_chat_template([with_image], **SETTINGS, **flag)
        assert inputs["pixel_values"].shape == (1, 3, 28, 28)
        span = placeholder_span(tokenizer.image_token_layout)
        assert control_ids(tokenizer, inputs["input_ids"]) == span
    # what is rendered first and read later is as safe
    rendered = processor.apply_chat_template(chat, tokenize=False)
    assert not control_ids(tokenizer, processor(text=rendered)["input_ids"])
    assert rendered.replace("\u200b", "").startswith(text)


@pytest.mark.parametrize("word", [*WORDS, "eos"])
def test_control_words_in_parts_are_text(word):
    """Wherever a text is cut in two or three; templates write the parts one after the other."""
    processor = build_processor()
    tokenizer = processor.tokenizer
    word = tokenizer.eos_token if word == "eos" else word
    cuts = [(cut, cut) for cut in range(1, len(word))] + [(1, len(word) - 1), (2, 3)]
    chats = []
    for first, second in cuts:
        texts = [f"see {word[:first]}", word[first:second], f"{word[second:]} tag"]
        content = [{"type": "text", "text": text} for text in texts]
        chats.append([{"role": "user", "content": content}])
        # the answer begins with a part that the default template leaves out
        answer = [{"type": "note"}, {"type": "text", "text": texts[2]}]
        chats.append([{"role": "user", "content": content[:2]}, {"role": "assistant", "content": answer}])
    rendered = processor.apply_chat_template(chats, tokenize=False)
    for row, text in zip(processor(text=rendered)["input_ids"], rendered, strict=True):
        assert not control_ids(tokenizer, row) and text.replace("\u200b", "").strip() == f"see {word} tag"
    # what stands in no token stays as it is, and each chat of a batch is as if it were alone
    plain = [{"type": "text", "text": text} for text in ("a <b", "> <ima", "gination>")]
    chats = [[{"role": "user", "content": plain}], [{"role": "user", "content": plain[2:]}]]
    assert processor.apply_chat_template(chats, tokenize=False) == ["a <b> <imagination>", "gination>"]


@dataclasses.dataclass
class Message:
    """A message as an object, which transformers takes as well."""

    role: str
    content: str


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_control_words_are_text_wherever_they_come_from(kind):
    """Message objects, tools, documents and variables; the flag where a call or its settings may hold it."""
    processor = build_processor(kind)
    tokenizer, text = processor.tokenizer, " ".join(WORDS)
    template = "{{ messages[0]['content'] }}{{ tools }}{{ documents }}{{ extra }}<img>"
    given = {"tools": [{"type": "function", "function": {"name": text}}], "documents": [{"text": text}], "extra": text}
    flags = ({}, {"sanitize_control_tokens": True}, {"text_kwargs": {"sanitize_control_tokens": True}})
    for flag in flags:
        settings = {**given, "chat_template": template, "tokenize": True, "return_dict": True}
        chat = [Message("user", text)]
        ids = processor.apply_chat_template(chat, **settings, processor_kwargs=flag)["input_ids"]
        assert control_ids(tokenizer, ids) == [tokenizer.boi_token_id]
        ids = tokenizer.apply_chat_template(chat, **settings, tokenizer_kwargs=flag and flags[1])["input_ids"]
        assert control_ids(tokenizer, ids) == [tokenizer.boi_token_id]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("word", WORDS)
def test_marked_words_are_text_and_others_are_not(word, kind):
    """What `mark_control_tokens` of transformers marks; a template may tear a pair of marks apart."""
    processor = build_processor(kind)
    tokenizer, image = processor.tokenizer, Image.new("RGB", (30, 30))
    marked = f"<image> see \U000f0000{word}\U000f0001 and <\U000f0000img>"
    span = placeholder_span(tokenizer.image_token_layout)
    for flag in ({"sanitize_control_tokens": True}, {"text_kwargs": {"sanitize_control_tokens": True}}):
        inputs = processor(text=marked, images=image, **flag)
        assert control_ids(tokenizer, inputs["input_ids"]) == span
    for call in (tokenizer, tokenizer.encode):
        ids = call(marked, sanitize_control_tokens=True)
        ids = ids["input_ids"] if call is tokenizer else ids
        assert control_ids(tokenizer, ids) == [tokenizer.image_token_id]
    shown = tokenizer.escape_marked_tokens(marked).replace("\u200b", "")
    assert shown == f"<image> see {word} and <img>"


def test_other_text_and_the_templates_own_tokens_stay():
    processor = build_processor()
    chat = [{"role": "user", "content": "a < b, <b>bold</b> and <imagination>"}]
    opened = processor.apply_chat_template(chat, add_generation_prompt=True, generation_mode="image")
    assert opened == chat[0]["content"] + "<img>"
    assert processor.tokenizer.escape_control_tokens("") == ""


@pytest.mark.parametrize("word", WORDS)
def test_control_words_in_a_prompt_are_text(word):
    pipeline = build_prompt_pipeline()
    tokenizer, prompts = pipeline.processor.tokenizer, []
    hook = pipeline.language_model.generate
    pipeline.language_model.generate = lambda **inputs: prompts.append(inputs["input_ids"]) or hook(**inputs)
    codes = pipeline.encode_prompt(f"the html {word} tag", do_sample=False)
    assert codes.shape == (1, NUM_QUERY_TOKENS) and not control_ids(tokenizer, prompts[0])


def encoded_picture():
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), 50).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("key", ["base64", "lines", "uri"])
def test_a_picture_in_a_chat_may_be_base64(key):
    processor, data = build_processor(), encoded_picture()
    text = base64.b64encode(data).decode()
    part = {
        "base64": {"base64": text, "lines": base64.encodebytes(data).decode(), "uri": f"data:image/png;base64,{text}"}[
            key
        ]
    }
    given = {"role": "user", "content": [{"type": "image", **part}, {"type": "text", "text": "a cat"}]}
    got = processor.apply_chat_template([given], **SETTINGS)["pixel_values"]
    assert torch.equal(got, processor(images=data, return_tensors="pt")["pixel_values"])
    assert given["content"][0] == {"type": "image", **part}


# ---------------------------------------------------------------------------------------------- base tokenizers
def word_tokenizer(pad=None, words="<unk> <s> </s> red apple", extra=()):
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words.split())}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": pad, "extra_special_tokens": list(extra)}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def test_texts_of_one_length_need_no_pad_token():
    tokenizer = SeedTokenizer.from_base_tokenizer(word_tokenizer(), CODEBOOK_SIZE, NUM_QUERY_TOKENS)
    processor = SeedProcessor(SeedImageProcessor(size=SIZE), tokenizer)
    for texts in ("red apple", ["red apple", "apple red"]):
        for padding in (True, "longest"):
            inputs = processor(text=texts, padding=padding, return_tensors="pt")
            assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (1 if texts == "red apple" else 2, 2)
            assert processor(text=texts, padding=padding)["input_ids"] == inputs["input_ids"].tolist()
    with pytest.raises(ValueError, match=r"`padding` is True for texts of \[1, 2\] tokens .* `pad_token`"):
        processor(text=["red apple", "red"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert processor(text=["red apple", "red"], padding=True)["attention_mask"] == [[1, 1], [0, 1]]


@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
@pytest.mark.parametrize("own", [["<image>"], ["<img>", "</img>"], ["</img>", "<image>", "<img>"]])
@pytest.mark.parametrize("how", ["special", "word"])
def test_a_base_with_image_words_of_its_own(how, own, embedding, tmp_path):
    words = "<unk> <s> </s> red apple"
    words, extra = (words + " " + " ".join(own), []) if how == "word" else (words, own)
    base = word_tokenizer("</s>", words, extra)
    ids = base.convert_tokens_to_ids(own)
    tokenizer = SeedTokenizer.from_base_tokenizer(base, CODEBOOK_SIZE, NUM_QUERY_TOKENS)
    first = len(base)
    assert base.convert_tokens_to_ids(own) == ids  # the given one is not changed
    assert tokenizer.first_image_token_id == first and len(tokenizer) == first + CODEBOOK_SIZE + 3
    assert tokenizer.convert_tokens_to_ids([word.replace("<", "<base_") for word in own]) == ids
    wanted = [tokenizer.boi_token_id, tokenizer.image_placeholder_token_id, tokenizer.eoi_token_id]
    assert tokenizer("red<img><image></img>")["input_ids"] == [3, *wanted]
    tokenizer.save_pretrained(tmp_path)
    loaded = SeedTokenizer.from_pretrained(tmp_path)
    assert loaded.image_token_layout == tokenizer.image_token_layout
    assert loaded("red<img><image></img>")["input_ids"] == [3, *wanted]
    torch.manual_seed(0)
    model = SeedForCausalLM.from_language_model(
        build_language_model(vocab_size=first), tokenizer, codebook=torch.randn(CODEBOOK_SIZE, 8),
        image_token_embedding=embedding,
    )  # fmt: skip
    model.check_tokenizer(tokenizer)
    processor = SeedProcessor(SeedImageProcessor(size=SIZE), tokenizer)
    codes = torch.tensor([[1, 2, 3, 4]])
    inputs = processor(text="<image> red apple", codes=codes, return_tensors="pt")
    ids = model.generate(**inputs, generation_mode="image", do_sample=False)
    assert torch.equal(processor.post_process_generation(ids, "codes")[0][:1], codes)


def test_a_base_with_all_codes_keeps_them():
    """As SEED-LLaMA's; also where they are words of the vocabulary, which have to be found inside a text."""
    codes = [f"<img_{index:05d}>" for index in range(CODEBOOK_SIZE)]
    words = " ".join(["<unk> <s> </s> red apple", *codes, "<img> </img> <image>"])
    base = word_tokenizer("</s>", words)
    tokenizer = SeedTokenizer.from_base_tokenizer(base, CODEBOOK_SIZE, NUM_QUERY_TOKENS)
    assert len(tokenizer) == len(base) and tokenizer.first_image_token_id == 5
    assert tokenizer("red<img><img_00001></img>")["input_ids"] == [3, 21, 6, 22]


def test_a_word_that_is_put_together_from_parts_is_refused():
    base = build_base_tokenizer()
    vocabulary = {**base.get_vocab(), "<i": 400, "<im": 401, "<img": 402, "<img>": 403}
    merges = [("<", "i"), ("<i", "m"), ("<im", "g"), ("<img", ">")]
    backend = Tokenizer(models.BPE(vocabulary, merges))
    with pytest.raises(ValueError, match="`tokenizer` puts '<img>' together"):
        SeedTokenizer.from_base_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend), CODEBOOK_SIZE)
