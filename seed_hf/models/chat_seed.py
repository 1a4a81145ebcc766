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

import re
from collections.abc import Callable, Iterable


# Invisible, in no control token, and kept by tokenizers as text
ZERO_WIDTH_SPACE = "\u200b"
IMAGE_TOKENS = r"<img_\d+>"
MEDIA_TYPES = ("image", "image_url", "video", "audio")


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


def prepare_chat(value, escape: Callable[[str], str]):
    """
    A copy of a chat in which no text is a control token and base64 is a data URI.

    Args:
        value: Messages, a list of chats, or any part of them.
        escape (`Callable`): Applied to every text. Images and their addresses are left alone.

    Returns:
        The same structure.
    """
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list | tuple):
        return [prepare_chat(part, escape) for part in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") not in MEDIA_TYPES:
        return {key: prepare_chat(part, escape) for key, part in value.items()}
    encoded = value.get("base64")
    if not isinstance(encoded, str) or encoded.startswith("data:"):
        return value
    # encoders break long lines
    rest = {key: part for key, part in value.items() if key != "base64"}
    return {**rest, "url": "data:image;base64," + "".join(encoded.split())}


__all__ = ["control_token_pattern", "escape_control_tokens", "prepare_chat"]
