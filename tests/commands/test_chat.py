"""A chat with seed-mini: the rule that chooses among the prompts that it was trained on, and `seed-hf chat`."""

import pytest
import torch

from seed_hf.inference import generate_texts
from seed_hf.mini import mini_image
from seed_hf.studio import Studio


QUESTION = "What kind of thing is this?"


@pytest.fixture(scope="module")
def studio():
    return Studio.load("seed-mini", device="cpu")


@pytest.fixture(scope="module")
def owl(studio):
    return studio.encode([mini_image("owl")])[0]


def image(codes) -> dict:
    return {"type": "image", "codes": codes}


def message(*parts, role="user") -> dict:
    """Words, or codes of images."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else image(part) for part in parts]
    return {"role": role, "content": content}


def written(studio, codes, prompt) -> str:
    return (
        generate_texts(studio.model, studio.processor, codes[None], prompt, max_new_tokens=20)[0]
        .split("\n")[0]
        .strip()
    )


def test_an_image_alone_asks_for_a_caption_and_words_a_question(studio, owl):
    processor = studio.processor
    caption = written(studio, owl, processor.caption_prompt)
    answer = written(studio, owl, processor.question_prompt.format(question=QUESTION))
    assert caption and answer and caption != answer
    assert [piece.text for piece in studio.reply([message(owl)])] == [caption]
    # the newest image counts, not the only one and not that of the same message
    strawberry = studio.encode([mini_image("strawberry")])[0]
    history = [message(strawberry), message("strawberry", role="assistant"), message(owl)]
    history += [message(caption, role="assistant"), message(QUESTION)]
    assert [piece.text for piece in studio.reply(history)] == [answer]
    assert [piece.text for piece in studio.reply([message(strawberry), message(QUESTION, owl)])] == [answer]


def test_drawn_images_are_talked_about(studio):
    (piece,) = studio.reply([{"role": "user", "content": "Draw red apple"}])
    assert torch.equal(piece.codes, studio.write_codes(["red apple"])[0])
    history = [message("/draw red apple"), message(piece.codes, role="assistant"), message(QUESTION)]
    expected = written(studio, piece.codes, studio.processor.question_prompt.format(question=QUESTION))
    assert studio.reply(history)[0].text == expected


def test_raw_messages_and_other_templates_get_the_whole_chat(studio, owl, monkeypatch):
    chat = [message(owl, "A photo of")]
    expected = studio.write([chat], max_new_tokens=8)[0]
    assert studio.reply(chat, raw=True, max_new_tokens=8) == expected
    seen = []
    monkeypatch.setattr(studio.processor, "chat_template", studio.processor.chat_template + " ")
    monkeypatch.setattr(studio, "_generate", lambda texts, codes, mode, *rest: seen.append((texts, mode)) or [[]])
    studio.reply([message("draw red apple")])
    studio.reply([message("hello")])
    assert [(texts[0].strip(), mode) for texts, mode in seen] == [("red apple<img>", "image"), ("hello", "text")]


@pytest.mark.parametrize(
    "words, problem", [("hello", "no image to talk about"), ("/draw", "does not say what to draw")]
)
def test_what_cannot_be_answered(words, problem, studio):
    with pytest.raises(ValueError, match=problem):
        studio.reply([message(words)])
