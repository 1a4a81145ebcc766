"""A chat with seed-mini: the rule that chooses among the prompts that it was trained on, and `seed-hf chat`."""

import base64
import io
import json
import shutil

import pytest
import torch
from PIL import Image

from seed_hf.commands import main
from seed_hf.commands.chat import find_paths
from seed_hf.commands.terminal import picture_escapes, picture_protocol
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


@pytest.fixture
def chat(studio, tmp_path, monkeypatch):
    """Runs `seed-hf chat` on lines, in an empty folder with one image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Studio, "load", lambda *args: studio)
    shutil.copy(mini_image("owl"), tmp_path / "my owl.png")

    def run(*lines, flags=()):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
        return main(["chat", *flags])

    return run


def test_several_turns(chat, studio, owl, tmp_path, capsys):
    assert chat("/image my owl.png", "", QUESTION, "draw red apple", "draw red apple", "/save", "/quit", "hello") == 0
    question = studio.processor.question_prompt.format(question=QUESTION)
    lines = [written(studio, owl, studio.processor.caption_prompt), written(studio, owl, question)]
    lines += ["wrote seed-hf-chat/red-apple.png", "wrote seed-hf-chat/red-apple-2.png"]
    assert capsys.readouterr().out.splitlines() == lines
    saved = json.loads((tmp_path / "seed-hf-chat" / "chat.json").read_text())
    assert [entry["role"] for entry in saved] == ["user", "assistant"] * 4
    codes = torch.tensor([saved[5]["content"][0]["codes"]])
    (picture,) = studio.draw(codes, [0])
    assert Image.open(tmp_path / "seed-hf-chat" / "red-apple.png").tobytes() == picture.tobytes()


def test_a_chat_for_machines_goes_on_after_errors(chat, tmp_path, capsys):
    images = [f"{tmp_path}/my\\ owl.png", f"{tmp_path}/no\\ owl.png", "'my owl.png'"]
    lines = ["hello", "nowhere.png", "/image my owl.txt", "/nonsense", *images, "/clear", QUESTION]
    assert chat(*lines, flags=["--json"]) == 1
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert [part["type"] for part in row["answer"]] == ["text"] and row["answer"][0]["text"]
    problems = [
        "no image to talk about",
        "'nowhere.png' is not there",
        "'my owl.txt' is no",
        "no command",
        "owl.png' is not there",
        "no image to",
    ]
    errors = [line for line in printed.err.splitlines() if line.startswith("seed-hf chat: ")]
    assert all(problem in line for problem, line in zip(problems, errors, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["my owl.png"]


def test_dragged_paths_are_found(tmp_path, monkeypatch):
    file = tmp_path / "my owl.png"
    file.touch()
    forms = [f"'{file}'", f'"{file}"', str(file).replace(" ", "\\ "), file.as_uri()]
    for form in forms:
        assert find_paths(f"what's in {form} today") == ([file], "what's in today")
        assert find_paths(form) == ([file], "")
    for words in ("what's that isn't it", "what is ~this~?"):
        assert find_paths(words) == ([], words)


@pytest.mark.parametrize(
    "environ, protocol",
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "screen", "KITTY_WINDOW_ID": "1"}, None),
        ({}, None),
    ],
)
def test_terminals_that_show_pictures(environ, protocol):
    assert picture_protocol(environ) == protocol


def test_pictures_are_whole_on_the_terminal():
    picture = Image.effect_noise((64, 50), 90).convert("RGB")
    kitty = picture_escapes(picture, "kitty").removesuffix("\x1b\\").split("\x1b\\")
    assert len(kitty) > 1 and all(chunk.startswith("\x1b_G") for chunk in kitty)
    iterm2 = picture_escapes(picture, "iterm2")
    for data in ("".join(chunk.partition(";")[2] for chunk in kitty), iterm2[iterm2.index(":") + 1 : -1]):
        assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == picture.tobytes()


def test_sixels_are_the_pixels():
    """Reads sixels as a terminal does: bands of six rows, a pass over each for every colour."""
    picture = Image.new("RGB", (5, 8), (255, 0, 0))
    picture.paste((0, 0, 255), (1, 2, 4, 7))
    body = picture_escapes(picture, "sixel").removeprefix('\x1bPq"1;1;5;8').removesuffix("\x1b\\")
    drawn, palette, row = {}, {}, 0
    for band in body.split("-")[:-1]:
        for part in band.replace("$", "").split("#")[1:]:
            number, *colour = part.split(";")
            if colour:
                palette[number] = tuple(int(value) * 255 // 100 for value in colour[1:])
                continue
            number, characters = part[:-5], part[-5:]
            for x, character in enumerate(characters):
                for y in range(6):
                    if (ord(character) - 63) >> y & 1:
                        drawn[x, row + y] = palette[number]
        row += 6
    assert all(drawn[x, y] == picture.getpixel((x, y)) for x in range(5) for y in range(8))
