# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Makes what people write in a chat safe and uniform, before a chat template sees it."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any


# Invisible, in no control token, and kept by tokenizers as text
ZERO_WIDTH_SPACE = "\u200b"
IMAGE_TOKENS = r"<img_\d+>"
MEDIA_TYPES = ("image", "image_url", "video", "audio")
# what `apply_chat_template` hands on to the call of a processor or tokenizer
CALL_KWARGS = ("processor_kwargs", "tokenizer_kwargs")
# what `mark_control_tokens` of transformers puts around the control tokens in a user's text
MARK_START, MARK_END = "\U000f0000", "\U000f0001"
MARKED = re.compile(f"{MARK_START}(.*?){MARK_END}", re.DOTALL)
# fields whose texts a template may write one after the other, with nothing between them
WRITTEN_FIELDS = ("text", "content")
# no control token is longer
LONGEST_TOKEN = 256


def control_token_pattern(control_tokens: Iterable[str]) -> re.Pattern:
    """Matches image tokens and the given ones, except single characters, which cannot be taken apart."""
    longest_first = sorted({token for token in control_tokens if len(token) > 1}, key=len, reverse=True)
    return re.compile("|".join([IMAGE_TOKENS, *map(re.escape, longest_first)]))


def escape_control_tokens(text: str, pattern: re.Pattern) -> str:
    """`text` that reads the same, with an invisible space in every control token, which makes it plain text."""
    before = None
    while text != before:  # again, since tokens may overlap
        before = text
        text = pattern.sub(lambda match: match[0][0] + ZERO_WIDTH_SPACE + match[0][1:], text)
    return text


def escape_marked_tokens(text: str, escape: Callable[[str], str]) -> str:
    """
    `text` that reads the same, in which what transformers has marked as a user's words is no control token.

    Args:
        text (`str`): A chat that a template has written from marked messages.
        escape (`Callable`): Takes control tokens apart.

    Returns:
        `str`: Text without marks; where a template has torn a pair of marks apart, an invisible space keeps the two
        sides from joining into a control token.
    """
    text = MARKED.sub(lambda match: escape(match[1][:1] + ZERO_WIDTH_SPACE + match[1][1:]), text)
    return re.sub(f"[{MARK_START}{MARK_END}]", ZERO_WIDTH_SPACE, text)


def prepare_chat(value, escape: Callable[[str], str]):
    """
    A copy of a chat in which no text is a control token, neither alone nor after the texts before it, and base64 is a
    data URI.

    Args:
        value: Messages, a list of chats, or any part of them, as dictionaries, dataclasses or pydantic models.
        escape (`Callable`): Applied to every text. Images and their addresses are left alone.

    Returns:
        The same structure, of lists and dictionaries.
    """
    return _prepare(value, _Texts(escape))


class _Texts:
    """
    Escapes one text after the other, also where a token would begin in one and end in the next.

    Args:
        escape (`Callable`): Takes control tokens apart.
    """

    def __init__(self, escape: Callable[[str], str]):
        self.escape, self.before = escape, ""

    def add(self, text: str) -> str:
        """The next text; with an invisible space before it, if it would end a token that another has begun."""
        text = self.escape(text)
        joint = self.before + text[:LONGEST_TOKEN]
        if self.escape(joint) != joint:
            text = ZERO_WIDTH_SPACE + text
        self.before = (self.before + text)[-LONGEST_TOKEN:]
        return text


def _prepare(value, texts: _Texts):
    value = _as_plain_data(value)
    if isinstance(value, str):
        return texts.add(value)
    if isinstance(value, list | tuple):
        # each list in a list is a chat of a batch
        return [_prepare(part, _Texts(texts.escape) if isinstance(part, list | tuple) else texts) for part in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") in MEDIA_TYPES:
        return _prepare_image(value)
    return {
        key: _prepare(part, texts if key in WRITTEN_FIELDS else _Texts(texts.escape)) for key, part in value.items()
    }


def _prepare_image(value: dict) -> dict:
    encoded = value.get("base64")
    if not isinstance(encoded, str) or encoded.startswith("data:"):
        return value
    # encoders break long lines
    rest = {key: part for key, part in value.items() if key != "base64"}
    return {**rest, "url": "data:image;base64," + "".join(encoded.split())}


def _as_plain_data(value):
    """A message object, or one with messages, as transformers reads it."""
    if isinstance(value, str | list | tuple | dict | type):
        return value
    if hasattr(value, "messages"):
        return value.messages
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value.model_dump() if hasattr(value, "model_dump") else value


def prepare_chat_arguments(arguments: dict[str, Any], escape: Callable[[str], str]) -> dict[str, Any]:
    """
    Keyword arguments of `apply_chat_template` in which no text of a user is a control token.

    Args:
        arguments (`dict`): `tools`, `documents`, variables of the template and settings. Those that name a special
            token, such as `eos_token`, are the caller's and stay.
        escape (`Callable`): Applied to every text.

    Returns:
        `dict`: The same, without `sanitize_control_tokens`, wherever it was: nothing is left that it could mark.
    """
    prepared = {}
    for name, value in arguments.items():
        if name in CALL_KWARGS:
            prepared[name] = _without_sanitizing(value)
        else:
            prepared[name] = value if name.endswith("_token") else prepare_chat(value, escape)
    return prepared


def _without_sanitizing(settings: dict | None) -> dict | None:
    """Settings without `sanitize_control_tokens`, which may be in a dictionary in them too."""
    if not isinstance(settings, dict):
        return settings
    rest = {name: value for name, value in settings.items() if name != "sanitize_control_tokens"}
    return {name: _without_sanitizing(value) if name == "text_kwargs" else value for name, value in rest.items()}


__all__ = [
    "control_token_pattern",
    "escape_control_tokens",
    "escape_marked_tokens",
    "prepare_chat",
    "prepare_chat_arguments",
]
