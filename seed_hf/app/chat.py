"""The tab to talk with the model: images in, pictures out, over several turns."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import gradio as gr
import PIL.Image
from gradio.utils import get_upload_folder

from .limits import Desk, Job, UnreadableError
from .parts import Examples, is_upload
from .streams import Writing, skip, stream


_ABOUT = (
    """**Upload an image, ask about it, or write "draw" and what to draw.** You can ask about what it drew, too."""
)
_EXAMPLES = ["draw red heart", "draw smiling face", "What is this?", "What colour is it?"]
_PREVIEWS = 4
_OPENING_REQUEST = "draw smiling face"


@dataclass
class Talk:
    """
    A chat so far. What it shows is deleted with it.

    Args:
        messages (`list[dict]`): For the model, with the codes of images.
        shown (`list[dict]`): For the page, which takes words as HTML, with files of images.
    """

    messages: list[dict] = field(default_factory=list)
    shown: list[dict] = field(default_factory=list)

    def __post_init__(self):
        # in the folder of uploads, which is deleted when the app stops
        os.makedirs(get_upload_folder(), exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="seed_hf_talk_", dir=get_upload_folder())
        self._numbers = itertools.count()

    def keep(self, picture: PIL.Image.Image) -> dict:
        """A picture as the page shows it."""
        file = Path(self._folder.name) / f"{next(self._numbers)}.png"
        picture.save(file)
        return {"path": str(file), "alt_text": "picture"}


class Chat:
    """
    What the tab does.

    Args:
        desk ([`Desk`]): Models.
    """

    def __init__(self, desk: Desk):
        self.desk, self.opening = desk, None

    def check(self, talk: Talk, words: str, paths: list) -> str:
        """What is wrong with a message, if anything."""
        limits = self.desk.limits
        if not words.strip() and not paths:
            return "Please write something, or add an image."
        if len(words) > limits.words:
            return f"Please use at most {limits.words} characters."
        if len(paths) > limits.pictures:
            return f"Please add at most {limits.pictures} images to a message."
        # the first chat takes an example image
        if self.desk.is_open and not all(map(is_upload, paths)):
            return "Please upload the image as a file."
        if len(talk.messages) >= limits.messages:
            return f"This chat has {limits.messages} messages, and so is full. Please start another with the bin icon."
        return ""

    def read(self, job: Job, talk: Talk, words: str, paths: list[Path]) -> tuple[dict, list[dict]]:
        """A message for the model, and as the page shows it."""
        images = [job.read(path) for path in paths]
        codes = job.studio.encode(images) if images else []
        parts = [{"type": "image", "codes": row} for row in codes]
        parts += [{"type": "text", "text": words}] if words else []
        question = {"role": "user", "content": parts}
        # what is shown is smaller than what was uploaded
        for image in images:
            image.thumbnail((512, 512))
        contents = (*map(talk.keep, images), escape(words))
        return question, [{"role": "user", "content": content} for content in contents if content]

    def on_message(self, message: dict, talk: Talk | None) -> Iterator[list]:
        """Yields the chat, the field for the next message, and what to remember."""
        talk, message = talk or self.opening, message or {}
        words, paths = (message.get("text") or "").strip(), message.get("files") or []
        if talk is self.opening:
            talk = Talk(list(talk.messages), list(talk.shown))
        if problem := self.check(talk, words, paths):
            # an error would cover the chat
            gr.Warning(problem)
            yield skip(3)
            return

        def work(job, show):
            question, shown = self.read(job, talk, words, paths)
            before = [*talk.shown, *shown]
            show([before, None, gr.skip()])
            waiting = {}

            def show_writing(pieces, preview):
                text = "".join(piece.text or "" for piece in pieces).strip()
                if preview is not None:
                    waiting["picture"] = talk.keep(preview)
                answer = [escape(text)] if text else [waiting["picture"]] if waiting else []
                if text or preview is not None:
                    show([[*before, *_said(answer)], gr.skip(), gr.skip()])

            # nobody watches the first chat
            watch = Writing(job, show_writing, previews=_PREVIEWS if self.desk.is_open else 0)
            pieces = job.studio.reply([*talk.messages, question], on_tokens=watch)
            answer = [
                talk.keep(job.draw(piece.codes[None], [0])[0]) if piece.codes is not None else escape(piece.text or "")
                for piece in pieces
            ]
            talk.messages += [question, {"role": "assistant", "content": _parts(pieces)}]
            talk.shown = [*before, *_said([part for part in answer if part] or ["(It has no answer.)"])]
            show([talk.shown, gr.skip(), talk])

        try:
            yield from stream(self.desk, work)
        except UnreadableError as error:
            gr.Warning(error.message)
            yield [gr.skip(), {"text": words, "files": []}, gr.skip()]

    def open(self, examples: Examples) -> None:
        """Makes a first chat to show, which a visitor goes on with."""
        talk = Talk()
        for message in ({"text": "", "files": [examples.paths[0]]}, {"text": _OPENING_REQUEST, "files": []}):
            *_, (_, _, talk) = self.on_message(message, talk)
        self.opening = talk


def _said(contents: list) -> list[dict]:
    return [{"role": "assistant", "content": content} for content in contents]


def _parts(pieces: list) -> list[dict]:
    return [
        {"type": "text", "text": piece.text or ""} if piece.codes is None else {"type": "image", "codes": piece.codes}
        for piece in pieces
    ]


def add_chat(desk: Desk, examples: Examples) -> None:
    """Adds the tab's components and events to the page."""
    tab = Chat(desk)
    tab.open(examples)
    gr.Markdown(_ABOUT)
    talk = gr.State(None, time_to_live=desk.limits.keep_seconds)
    chatbot = gr.Chatbot(
        tab.opening.shown,
        label="Chat",
        height=460,
        render_markdown=False,
        feedback_options=None,
        buttons=["copy"],
        allow_file_downloads=False,
        elem_id="chat",
    )
    box = gr.MultimodalTextbox(
        placeholder="Ask, or write: draw a red heart",
        show_label=False,
        label="Message",
        file_types=["image"],
        file_count="multiple",
        sources=["upload"],
        max_plain_text_length=desk.limits.words,
        elem_id="chat-box",
    )
    gr.Examples([[{"text": text, "files": []}] for text in _EXAMPLES], [box], label="For example")
    desk.on_models(
        box.submit,
        fn=tab.on_message,
        inputs=[box, talk],
        outputs=[chatbot, box, talk],
        api_visibility="private",
        show_progress="hidden",
    )
    chatbot.clear(lambda: (Talk(), []), None, [talk, chatbot], queue=False, api_visibility="private")


__all__ = ["Chat", "Talk", "add_chat"]
