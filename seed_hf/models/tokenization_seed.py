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
"""The text side of SEED: a tokenizer with one token per code."""

import json
import os

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from .chat_seed import (
    control_token_pattern,
    escape_control_tokens,
    escape_marked_tokens,
    prepare_chat,
    prepare_chat_arguments,
)
from .hub_mixin_seed import HubUploadMixin
from .image_codec_seed import ImageCodec
from .image_tokens_seed import BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN, ImageTokenLayout, image_token


logger = logging.get_logger(__name__)


class SeedTokenizer(HubUploadMixin, PreTrainedTokenizerFast):
    r"""
    Any fast tokenizer of transformers plus `<img>`, `</img>`, `<image>` and one token per code.

    It holds no weights. `encode_image` and `decode_image` of the original's tokenizer hand over to `image_codec`,
    which fetches the models that the folder names when it is asked for the first time.

    Args:
        codebook_size (`int`, defaults to 8192): Number of codes.
        num_query_tokens (`int`, defaults to 32): Number of codes of an image.
        image_tokenizer_id (`str`, *optional*): Folder or repository with the image tokenizer, in diffusers layout.
        image_tokenizer_revision (`str`, *optional*): Revision of that repository.
        kwargs: As in `PreTrainedTokenizerFast`.

    Raises:
        ValueError: The vocabulary holds a part of the image tokens only, or not one after the other.

    Source: `SeedLlamaTokenizer` of the original; there it constructs a ViT-g and a pipeline, here it does not.

    Example: see `SeedTokenizer.from_base_tokenizer`.
    """

    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        *args,
        codebook_size: int = 8192,
        num_query_tokens: int = 32,
        image_tokenizer_id: str | None = None,
        image_tokenizer_revision: str | None = None,
        **kwargs,
    ):
        kwargs.setdefault("padding_side", "left")
        # thousands of added tokens: left to transformers they would be added and written a second time, slowly
        kwargs.pop("added_tokens_decoder", None)
        super().__init__(
            *args,
            codebook_size=codebook_size,
            num_query_tokens=num_query_tokens,
            image_tokenizer_id=image_tokenizer_id,
            image_tokenizer_revision=image_tokenizer_revision,
            **kwargs,
        )
        self.codebook_size = codebook_size
        self.num_query_tokens = num_query_tokens
        self.image_tokenizer_id = image_tokenizer_id
        self.image_tokenizer_revision = image_tokenizer_revision
        self.image_codec = ImageCodec(self)
        self._control_tokens = None
        self._add_image_tokens()

    @classmethod
    def convert_to_native_format(cls, **kwargs):
        """Reads `tokenizer.json` as it is: a class with its own `__init__` would otherwise rebuild it in part."""
        tokenizer_file = kwargs.get("tokenizer_file")
        if tokenizer_file is not None and os.path.isfile(tokenizer_file):
            kwargs.pop("trust_remote_code", None)
            return kwargs
        return super().convert_to_native_format(**kwargs)

    @classmethod
    def from_base_tokenizer(
        cls,
        tokenizer: PreTrainedTokenizerFast,
        codebook_size: int = 8192,
        num_query_tokens: int = 32,
        image_tokenizer_id: str | None = None,
        image_tokenizer_revision: str | None = None,
        **kwargs,
    ) -> "SeedTokenizer":
        """
        Adds the image tokens to a tokenizer; the given one is not changed.

        Where that one has an `<img>`, `</img>` or `<image>` of its own but no codes, its own is renamed, to
        `<base_img>` and so on, and keeps its id: here these words mean what this package means by them.

        Args:
            tokenizer (`PreTrainedTokenizerFast`): Tokenizer of the language model.
            codebook_size (`int`, defaults to 8192): Number of codes.
            num_query_tokens (`int`, defaults to 32): Number of codes of an image.
            image_tokenizer_id (`str`, *optional*): Repository of the image tokenizer.
            image_tokenizer_revision (`str`, *optional*): Revision of that repository.
            kwargs: Settings to change, such as `padding_side`.

        Returns:
            [`SeedTokenizer`]

        Raises:
            ValueError: `tokenizer` has no `tokenizers` backend, some image tokens but not all, or puts one of the
                words together from parts.

        Example:

        ```python
        >>> from tokenizers import Tokenizer, models
        >>> from transformers import PreTrainedTokenizerFast
        >>> from seed_hf import SeedTokenizer
        >>> vocabulary = Tokenizer(models.WordLevel({"hello": 0, "<unk>": 1}, unk_token="<unk>"))
        >>> base = PreTrainedTokenizerFast(tokenizer_object=vocabulary, unk_token="<unk>")
        >>> tokenizer = SeedTokenizer.from_base_tokenizer(base, codebook_size=8, num_query_tokens=2)
        >>> tokenizer("<img><img_00003><img_00005></img>").input_ids
        [10, 5, 7, 11]

        ```
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(
                f"`tokenizer` is a {type(tokenizer).__name__} without a `tokenizers` backend; allowed: a fast "
                "tokenizer."
            )
        settings = {name: value for name, value in tokenizer.special_tokens_map.items() if value is not None}
        for name in ("model_max_length", "clean_up_tokenization_spaces", "chat_template"):
            settings[name] = getattr(tokenizer, name, None)
        settings = {name: value for name, value in settings.items() if value is not None}
        own = [
            word for word in (BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN) if backend.token_to_id(word) is not None
        ]
        if own and backend.token_to_id(image_token(0)) is None:
            names = {word: word.replace("<", "<base_") for word in own}
            backend, settings = _rename_tokens(backend, names), _rename_values(settings, names)
        return cls(
            tokenizer_object=backend,
            codebook_size=codebook_size,
            num_query_tokens=num_query_tokens,
            image_tokenizer_id=image_tokenizer_id,
            image_tokenizer_revision=image_tokenizer_revision,
            **{**settings, **kwargs},
        )

    def to_plain_tokenizer(self) -> PreTrainedTokenizerFast:
        """
        Makes the same tokenizer without this class, with image tokens as ordinary tokens.

        Servers leave special tokens out of their replies, but a client needs the image tokens.

        Returns:
            `PreTrainedTokenizerFast`: The same ids; `SeedTokenizer.from_pretrained` loads what it saves.
        """
        backend = json.loads(self.backend_tokenizer.to_str())
        layout = self.image_token_layout
        image_ids = {*layout.special_token_ids, *range(layout.first_image_token_id, layout.end_image_token_id)}
        for token in backend["added_tokens"]:
            token["special"] = token["special"] and token["id"] not in image_ids
        settings = {name: value for name, value in self.special_tokens_map.items() if value is not None}
        names = ("model_max_length", "clean_up_tokenization_spaces", "chat_template", "padding_side")
        names += ("codebook_size", "num_query_tokens", "image_tokenizer_id", "image_tokenizer_revision")
        settings |= {name: getattr(self, name) for name in names if getattr(self, name, None) is not None}
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(backend)), **settings)

    def _add_image_tokens(self):
        """Adds what is missing in one call of the backend and reads the layout from the vocabulary."""
        contents = [image_token(code) for code in range(self.codebook_size)]
        contents += [BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN]
        backend = self.backend_tokenizer
        # a word of the base vocabulary has to be added too, with its id, to be found inside a text
        added = {token.content for token in backend.get_added_tokens_decoder().values()}
        missing = [content for content in contents if content not in added]
        if missing:
            backend.add_special_tokens([AddedToken(content, normalized=False, special=True) for content in missing])
        ids = [backend.token_to_id(content) for content in contents]
        codes = ids[: self.codebook_size]
        if codes != list(range(codes[0], codes[0] + self.codebook_size)):
            raise ValueError(
                f"`codebook_size` is {self.codebook_size} but the image tokens of the vocabulary do not lie one after "
                "the other; allowed: a vocabulary with all of them in order, or with none."
            )
        self.image_token_layout = ImageTokenLayout(codes[0], self.codebook_size, self.num_query_tokens, *ids[-3:])

    # ------------------------------------------------------------------------------------------ codes and tokens
    @property
    def image_token(self) -> str:
        """`<image>`, which stands for one image."""
        return IMAGE_PLACEHOLDER_TOKEN

    @property
    def boi_token(self) -> str:
        """`<img>`, which opens an image."""
        return BOI_TOKEN

    @property
    def eoi_token(self) -> str:
        """`</img>`, which closes an image."""
        return EOI_TOKEN

    @property
    def first_image_token_id(self) -> int:
        """Id of the image token of code 0."""
        return self.image_token_layout.first_image_token_id

    @property
    def boi_token_id(self) -> int:
        """Id of `<img>`."""
        return self.image_token_layout.boi_token_id

    @property
    def eoi_token_id(self) -> int:
        """Id of `</img>`."""
        return self.image_token_layout.eoi_token_id

    @property
    def image_placeholder_token_id(self) -> int:
        """Id of `<image>`."""
        return self.image_token_layout.image_placeholder_token_id

    @property
    def image_token_id(self) -> int:
        """Id of `<image>`, by the name that trainers and servers ask for."""
        return self.image_token_layout.image_placeholder_token_id

    def codes_to_token_ids(self, codes) -> torch.Tensor:
        """Codes of any shape to image tokens; `ValueError` for a code out of range."""
        return self.image_token_layout.codes_to_token_ids(codes)

    def token_ids_to_codes(self, token_ids) -> torch.Tensor:
        """Image tokens of any shape to codes; `ValueError` for an id that is not an image token."""
        return self.image_token_layout.token_ids_to_codes(token_ids)

    def codes_to_text(self, codes) -> str:
        """The image span of one image as text, `<img><img_00003>...</img>`; the first codes alone as `(1, k)`."""
        codes = self.image_token_layout.check_image_codes(codes, allow_prefix=True)[0].tolist()
        return "".join([BOI_TOKEN, *map(image_token, codes), EOI_TOKEN])

    # ------------------------------------------------------------------------------------------ text of others
    def escape_control_tokens(self, text: str) -> str:
        """
        Makes the text of others, such as a caption or a question, safe to be put into a prompt.

        Args:
            text (`str`): Any text.

        Returns:
            `str`: Text that reads the same, but has no special token or image token in it, since each such word has an
            invisible space inside.
        """
        size = len(self)
        if self._control_tokens is None or self._control_tokens[0] != size:
            layout = self.image_token_layout
            images = range(layout.first_image_token_id, layout.end_image_token_id)
            added = self.backend_tokenizer.get_added_tokens_decoder().items()
            words = [token.content for index, token in added if token.special and index not in images]
            self._control_tokens = (
                size,
                control_token_pattern([BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN, *words]),
            )
        return escape_control_tokens(text, self._control_tokens[1])

    def escape_marked_tokens(self, text: str) -> str:
        """`text` in which what transformers' `mark_control_tokens` has marked is text, and the marks are gone."""
        return escape_marked_tokens(text, self.escape_control_tokens)

    def apply_chat_template(
        self,
        conversation,
        tools: list | None = None,
        documents: list[dict] | None = None,
        chat_template: str | None = None,
        *args,
        sanitize_control_tokens: bool = True,
        **kwargs,
    ):
        """
        Works as in transformers, but what people write is always text, never a special token or an image token.

        Args:
            conversation (`list[dict]`): Messages; see [`~SeedTokenizer.escape_control_tokens`] for their texts.
            tools, documents (`list`, *optional*): As in transformers; their texts are text, too.
            chat_template (`str`, *optional*): Template to use instead of the tokenizer's.
            sanitize_control_tokens (`bool`, defaults to `True`): Accepted here and in `tokenizer_kwargs`, as in
                transformers; always on here.
            args, kwargs: As in transformers.

        Returns:
            `str`, `list` or `BatchEncoding`: As in transformers.
        """
        given = {"tools": tools, "documents": documents, **kwargs}
        given = prepare_chat_arguments(given, self.escape_control_tokens)
        conversation = prepare_chat(conversation, self.escape_control_tokens)
        tools, documents = given.pop("tools"), given.pop("documents")
        return super().apply_chat_template(conversation, tools, documents, chat_template, *args, **given)

    def __call__(self, text=None, *args, padding: bool | str = False, **kwargs):
        """
        Works as in transformers, but texts of one length need no pad token.

        Args:
            text (`str` or `list[str]`, *optional*): Texts.
            padding (`bool` or `str`, defaults to `False`): As in transformers.
            args, kwargs: As in transformers.

        Returns:
            `BatchEncoding`: As in transformers.

        Raises:
            ValueError: Texts of several lengths are to be padded and there is no pad token.
        """
        if self.pad_token is not None or padding not in (True, "longest"):
            return super().__call__(text, *args, padding=padding, **kwargs)
        unpadded = super().__call__(text, *args, **{**kwargs, "return_tensors": None})
        lengths = {len(ids) for ids in unpadded["input_ids"] if isinstance(ids, list)}
        if len(lengths) > 1 or kwargs.get("pad_to_multiple_of"):
            raise ValueError(
                f"`padding` is {padding!r} for texts of {sorted(lengths)} tokens and the tokenizer has no "
                "pad token; allowed: texts of one length, or a `pad_token`, such as `processor.tokenizer.pad_token = "
                "processor.tokenizer.eos_token`."
            )
        return super().__call__(text, *args, **kwargs) if kwargs.get("return_tensors") else unpadded

    def _encode_plus(self, text, *args, sanitize_control_tokens: bool | None = None, **kwargs):
        """As in transformers; marked words are taken apart, so that text may begin with special tokens, too."""
        if sanitize_control_tokens:
            is_one = isinstance(text, str)
            text = self.escape_marked_tokens(text) if is_one else list(map(self.escape_marked_tokens, text))
        return super()._encode_plus(text, *args, **kwargs)

    # ------------------------------------------------------------------------------------------ images
    def encode_image(self, images, *args, **kwargs) -> torch.LongTensor:
        """Codes of images, as in the original's tokenizer; arguments of [`~image_codec_seed.ImageCodec.encode`]."""
        return self.image_codec.encode(images, *args, **kwargs)

    def decode_image(self, codes, *args, **kwargs) -> list:
        """Images of codes, as in the original's tokenizer; arguments of [`~image_codec_seed.ImageCodec.decode`]."""
        return self.image_codec.decode(codes, *args, **kwargs)


def _rename_tokens(backend: Tokenizer, names: dict[str, str]) -> Tokenizer:
    """A copy of a backend in which tokens have other names and the same ids."""
    state = json.loads(backend.to_str())
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = state["model"]
    for merge in model.get("merges") or []:
        word = "".join(merge) if isinstance(merge, list) else merge.replace(" ", "")
        if word in names:
            raise ValueError(f"`tokenizer` puts {word!r} together from {merge}; allowed: a vocabulary without it.")
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(word, word): index for word, index in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(word, word), score] for word, score in model["vocab"]]
    return Tokenizer.from_str(json.dumps(state))


def _rename_values(settings: dict, names: dict[str, str]) -> dict:
    """Settings of a tokenizer in which special tokens have other names."""
    renamed = {}
    for name, value in settings.items():
        if isinstance(value, list):
            renamed[name] = [names.get(str(token), token) for token in value]
        else:
            renamed[name] = names.get(str(value), value)
    return renamed


__all__ = ["SeedTokenizer"]
