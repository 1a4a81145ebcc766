"""The prompts that a model was trained on, in place of a chat that it would not understand."""

from typing import Any

from ..models.processing_seed import DEFAULT_CHAT_TEMPLATE
from ..studio import Studio


def trained_prompt(studio: Studio, messages: list[dict], mode: str) -> list[dict] | str | None:
    """
    Gives the prompt for the newest message of a chat, as [`~Studio.reply`] chooses it.

    Args:
        studio ([`Studio`]): The models.
        messages (`list[dict]`): Messages as in [`~Studio.write`].
        mode (`str`): `"text"`, `"image"` or `"interleaved"`.

    Returns:
        `list[dict]`, `str` or `None`: A question about the newest image, or without words its caption, as a chat; what
        to draw, for [`~Studio.write_images`]; `None` where the chat is the prompt, since the model has a chat
        template of its own, or was trained on no other prompt for it.
    """
    if studio.processor.chat_template != DEFAULT_CHAT_TEMPLATE or mode == "interleaved":
        return None
    parts = [part for message in messages for part in _parts(message)]
    words = " ".join(part["text"].strip() for part in _parts(messages[-1]) if part["type"] == "text").strip()
    if mode == "image":
        request = studio.drawing_request(words)
        return (words if request is None else request) or None
    images = [part for part in parts if part["type"] == "image"]
    prompt = studio.processor.question_prompt if words else studio.processor.caption_prompt
    before, _, after = prompt.replace("{question}", words).partition(studio.processor.image_token)
    content = [{"type": "text", "text": before}, *images[-1:], {"type": "text", "text": after}]
    return [{"role": "user", "content": content}] if images else None


def _parts(message: dict[str, Any]) -> list[dict]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


__all__ = ["trained_prompt"]
