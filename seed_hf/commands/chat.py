"""`seed-hf chat`: several turns with a model, in words and images, by [`~seed_hf.studio.Studio.reply`]."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

from .flags import DRAWING_MODEL, AsJson, Device, Guidance, Seed, Steps, announce, model_flag
from .pictures import free_name
from .terminal import show_picture


if TYPE_CHECKING:
    from ..studio import Piece, Studio


HELP = """  photo.jpg what is this?   asks about an image, by its path or dragged here; alone, it gets a caption
  /image photo.jpg          the same, for any path
  what colour is it?        asks about the newest image
  draw red apple            draws a picture, and writes it to a file; also /draw red apple
  /save [chat.json]         writes the chat to a file
  /clear                    forgets the chat
  /quit                     ends it"""
EXAMPLES = (
    """examples:
  seed-hf chat
  seed-hf chat --model out/stage3 --output drawn
  printf '/image photo.jpg\\nWhat is this?\\ndraw red apple\\n' | seed-hf chat --json
in the chat:
"""
    + HELP
    + "\n"
)
# what a terminal pastes where a file is dragged into it: quoted, with backslashes, or as it is
_WORD = re.compile(r"""(?<!\S)(?:'[^']+'|"[^"]+"|(?:\\.|[^\s\\])+)(?!\S)""")


def run(
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for pictures, made when one is drawn.")
    ] = Path("seed-hf-chat"),
    as_json: AsJson = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Give the chat as it is to a model without a chat template of its own, too.")
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Number of tokens of an answer at most; by default 20, or the model's."),
    ] = None,
    seed: Seed = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    model: Annotated[str, model_flag(DRAWING_MODEL)] = "seed-mini",
    device: Device = None,
) -> int:
    """Answers line by line until the input ends; in a terminal it asks for lines."""
    from ..loading import NO_LANGUAGE_MODEL
    from ..studio import Studio  # brings torch, for which `--help` must not wait

    studio = Studio.load(*announce(model, device))
    if studio.model is None:
        raise ValueError(f"`--model` {model!r} {NO_LANGUAGE_MODEL}")
    writing = {"raw": raw, "seed": seed} | ({} if max_new_tokens is None else {"max_new_tokens": max_new_tokens})
    drawing = {"seeds": [seed], "steps": steps, "guidance": guidance}
    status = _answer_lines(Chat(studio, output, as_json, writing, drawing))
    # someone who types sees what goes wrong, and tries again
    return 0 if sys.stdin.isatty() else status


def _answer_lines(chat: "Chat") -> int:
    status = 0
    for line in _lines():
        if line in ("/quit", "/exit"):
            break
        try:
            chat.take(line)
        except (ValueError, OSError) as error:
            print(f"seed-hf chat: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            status = 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return status


def _lines() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    try:
        import readline  # noqa: F401  gives `input` its arrow keys; not on every system
    except ImportError:
        pass
    print("An image's path, words, or /help. /quit ends the chat.", file=sys.stderr)
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return
        if line:
            yield line


class Chat:
    """
    What was said so far.

    Args:
        studio ([`~seed_hf.studio.Studio`]): Models, one of which writes.
        output (`Path`): Folder for pictures.
        as_json (`bool`): Whether answers are lines of JSON.
        writing (`dict`): Settings of [`~seed_hf.studio.Studio.reply`].
        drawing (`dict`): Settings of [`~seed_hf.studio.Studio.draw`].
    """

    def __init__(self, studio: "Studio", output: Path, as_json: bool, writing: dict, drawing: dict):
        self.studio, self.output, self.as_json = studio, output, as_json
        self.writing, self.drawing = writing, drawing
        self.history: list[dict] = []

    def take(self, line: str):
        """
        Answers a line, or does what it says.

        Args:
            line (`str`): What someone typed.

        Raises:
            ValueError: It cannot be answered; the chat goes on as if it had not been said.
        """
        command, _, rest = line.partition(" ")
        if command == "/help":
            print(HELP)
        elif command == "/clear":
            self.history.clear()
        elif command == "/save":
            self._save(Path(rest.strip() or self.output / "chat.json"))
        elif command == "/image":
            self._answer(*_whole_path(rest))
        elif re.fullmatch(r"/\w+", command) and command != "/draw" and not Path(command).exists():
            raise ValueError(f"{command!r} is no command; allowed: /image, /draw, /save, /clear, /help and /quit.")
        else:
            self._answer(*find_paths(line))

    def _answer(self, paths: list[Path], words: str = ""):
        from ..models.image_processing_seed import load_rgb_image  # brings torch

        images = [load_rgb_image(path, name=str(path)) for path in paths]
        parts = [{"type": "image", "codes": row.tolist()} for row in self.studio.encode(images)] if images else []
        parts += [{"type": "text", "text": words}] if words else []
        history = [*self.history, {"role": "user", "content": parts}]
        pieces = self.studio.reply(history, **self.writing)
        answer = [self._show(piece, self.studio.drawing_request(words) or "picture") for piece in pieces]
        if self.as_json:
            print(json.dumps({"answer": answer}, ensure_ascii=False), flush=True)
        self.history = [*history, {"role": "assistant", "content": answer}]

    def _show(self, piece: "Piece", name: str) -> dict:
        """Prints words, or draws codes; gives them as a part of a message."""
        if piece.codes is None:
            if not self.as_json:
                print(piece.text, flush=True)
            return {"type": "text", "text": piece.text}
        (picture,) = self.studio.draw(piece.codes[None], **self.drawing)
        self.output.mkdir(parents=True, exist_ok=True)
        taken = {path.stem.lower() for path in self.output.iterdir()}
        file = self.output / f"{free_name(name, taken)}.png"
        picture.save(file)
        if not self.as_json:
            show_picture(picture, os.environ)
            print(f"wrote {file}", flush=True)
        return {"type": "image", "codes": piece.codes.tolist(), "file": str(file)}

    def _save(self, file: Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.history, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)


def find_paths(line: str) -> tuple[list[Path], str]:
    """
    Finds the image files that a message names.

    Args:
        line (`str`): A message; a path may be quoted, have backslashes before blanks, or start with `file://`.

    Returns:
        `tuple[list[Path], str]`: Image files, and the other words.

    Raises:
        ValueError: What ends like the path of an image is not there.
    """
    from ..models.image_formats_seed import IMAGE_SUFFIXES  # the folder of models brings torch

    paths, words, end = [], [], 0
    for match in _WORD.finditer(line):
        forms = [form for form in _unquoted(match[0]) if form.suffix.lower() in IMAGE_SUFFIXES]
        if forms:
            paths.append(next((form for form in forms if form.is_file()), None))
            words.append(line[end : match.start()].strip())
            end = match.end()
            if paths[-1] is None:
                raise ValueError(f"{match[0]!r} is not there; allowed: the path of an image.")
    return paths, " ".join(filter(None, [*words, line[end:].strip()]))


def _unquoted(word: str) -> list[Path]:
    """The paths that a word may mean."""
    quoted = word[0] in "'\"" and word[-1] == word[0]
    plain = word[1:-1] if quoted else word
    forms = [plain, re.sub(r"\\(.)", r"\1", plain)]
    forms += [unquote(urlsplit(plain).path)] if plain.startswith("file://") else []
    # not `Path.expanduser`, which raises for a word like "~this~"
    return [Path(os.path.expanduser(form)) for form in forms]


def _whole_path(text: str) -> tuple[list[Path], str]:
    """What follows `/image`: a path with or without quotes, and perhaps words."""
    text = text.strip()
    whole = Path(os.path.expanduser(text))
    if text and whole.is_file():
        return [whole], ""
    paths, words = find_paths(text)
    if not paths:
        raise ValueError(f"{text!r} is no image file; allowed: the path of one.")
    return paths, words


__all__ = ["Chat", "find_paths", "run"]
