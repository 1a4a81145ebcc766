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
"""Text, images and precomputed codes -> model inputs; generated ids -> text, codes or images."""

import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import ImageInput
from transformers.processing_utils import MultiModalData
from transformers.tokenization_utils_base import TextInput
from transformers.utils import logging

from .chat_seed import prepare_chat
from .hub_mixin_seed import HubUploadMixin
from .image_processing_seed import SeedImageProcessor
from .image_tokens_seed import BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN, image_token
from .tokenization_seed import SeedTokenizer


logger = logging.get_logger(__name__)

EXTRA_OUTPUTS = ("return_mm_token_type_ids", "return_text_replacement_offsets")
OUTPUTS = ("text", "codes", "images", "interleaved")

# The paper's prompts have no role names, and neither has this: an answer follows its question as in training.
DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% set parts = [{'type': 'text', 'text': content}] if content is string else content %}"
    "{% if message['role'] == 'assistant' and parts and parts[0]['type'] == 'text' %}{{ ' ' }}{% endif %}"
    "{% for part in parts %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% set is_answered = loop.nextitem is not defined or loop.nextitem['role'] == 'assistant' %}"
    "{% if message['role'] != 'user' or not is_answered %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt and generation_mode == 'image' %}<img>{% endif %}"
)


class SeedProcessor(HubUploadMixin, ProcessorMixin):
    r"""
    Puts text, images and codes together for [`SeedForCausalLM`], and takes its output apart.

    Each `<image>` in a text stands for one image: it becomes `<img>` + `num_query_tokens` ids + `</img>`, where the
    ids are image tokens if codes were given, and placeholders that the model fills from `pixel_values` otherwise.

    Args:
        image_processor ([`SeedImageProcessor`]): Images to `pixel_values`.
        tokenizer ([`SeedTokenizer`]): Text to ids.
        chat_template (`str`, *optional*): Jinja template. The default writes one user message as it is, so that the
            prompts below work in a chat too, and longer chats as lines. With `generation_mode="image"`, as an argument
            of `apply_chat_template` or in the `chat_template_kwargs` of a request, it opens the image to be generated.
        caption_prompt (`str`): Asks for a caption. The paper's words.
        question_prompt (`str`): Asks a question about an image. The paper's words.
        image_prompt (`str`): Asks for an image. The paper's words.

    Source: prompts, paper section 3.

    Example:

    ```python
    >>> import torch
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> from seed_hf import SeedImageProcessor, SeedProcessor, SeedTokenizer
    >>> words = Tokenizer(models.WordLevel({"a": 0, "cat": 1, "<unk>": 2}, unk_token="<unk>"))
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> base = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<unk>")
    >>> tokenizer = SeedTokenizer.from_base_tokenizer(base, codebook_size=8, num_query_tokens=2)
    >>> processor = SeedProcessor(SeedImageProcessor(), tokenizer)
    >>> inputs = processor(text="<image> a cat", codes=torch.tensor([[3, 5]]), return_tensors="pt")
    >>> inputs["input_ids"].tolist()
    [[11, 6, 8, 12, 0, 1]]

    ```
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        chat_template: str | None = None,
        caption_prompt: str = "<image>A photo of",
        question_prompt: str = "<image>Question: {question} Short answer:",
        image_prompt: str = "Generate an image: {caption}",
    ):
        self.caption_prompt = caption_prompt
        self.question_prompt = question_prompt
        self.image_prompt = image_prompt
        self.image_token = IMAGE_PLACEHOLDER_TOKEN
        super().__init__(image_processor, tokenizer, chat_template=chat_template or DEFAULT_CHAT_TEMPLATE)

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        """The parts by the classes that a copy of this file brings along, so that no other code has to be trusted."""
        parts = (SeedImageProcessor, SeedTokenizer)
        return [part.from_pretrained(pretrained_model_name_or_path, **kwargs) for part in parts]

    def __call__(
        self, images: ImageInput | None = None, text: TextInput | list[TextInput] | None = None, codes=None, **kwargs
    ) -> BatchFeature:
        """
        Makes model inputs.

        Args:
            images (*optional*): An image, a list of images in reading order over all texts, or one list for each text;
                everything that the image processor takes.
            text (`str` or `list[str]`, *optional*): Texts with one `<image>` for each image.
            codes (*optional*): Codes instead of images: integers of shape `(num_images, num_query_tokens)`, or
                `(num_query_tokens,)` for one image.
            kwargs: For the tokenizer and the image processor, such as `padding=True` and `return_tensors="pt"`; and
                `return_mm_token_type_ids`, `return_text_replacement_offsets` as in transformers.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` if text was given, `pixel_values` of shape
            `(num_images, 3, height, width)` if images were given; `mm_token_type_ids` (1 in image spans, 0 elsewhere)
            and `text_replacement_offsets` (where the spans are in the text) if asked for.

        Raises:
            ValueError: No input, images together with codes, or another number of images than of `<image>`.
        """
        if images is None and text is None:
            raise ValueError("`images` and `text` are both None; allowed: at least one of them.")
        if images is not None and codes is not None:
            raise ValueError("`images` and `codes` were both given; allowed: one of them.")
        settings = self._merge_kwargs(
            self.valid_processor_kwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs
        )
        text_settings = settings["text_kwargs"]
        # in one or the other, by release of transformers
        extras = {name: any([settings.pop(name, None), text_settings.pop(name, None)]) for name in EXTRA_OUTPUTS}
        data = {}
        spans, texts = None, [text] if isinstance(text, str) else text
        if images is not None:
            images, counts = _flatten_images(images)
            if counts is not None and texts is not None:
                _check_counts(texts, counts)
            data.update(self.image_processor(images, **settings["images_kwargs"]))
            spans = [self.replace_image_token(data, index) for index in range(len(images))]
        elif codes is not None:
            codes = self.tokenizer.image_token_layout.check_image_codes(codes)
            spans = [BOI_TOKEN + "".join(map(image_token, row)) + EOI_TOKEN for row in codes.tolist()]
        if texts is not None:
            texts, offsets = self._insert_spans(texts, spans or [])
            encoded = self._tokenize(texts, text_settings)
            self._check_not_truncated(encoded["input_ids"], spans or [])
            if extras["return_mm_token_type_ids"]:
                encoded["mm_token_type_ids"] = self.create_mm_token_type_ids(encoded["input_ids"])
            if extras["return_text_replacement_offsets"]:
                encoded["text_replacement_offsets"] = offsets
            data.update(encoded)
        return BatchFeature(
            data, tensor_type=text_settings.get("return_tensors"), skip_tensor_conversion=self.skip_tensor_conversion
        )

    def apply_chat_template(self, conversation, *args, sanitize_control_tokens: bool = True, **kwargs):
        """
        Works as in transformers, but what people write is always text, never a special token or an image token.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`): Messages. Images come as parts of type `"image"`; an
                `<image>` in a text is text (see [`SeedTokenizer.escape_control_tokens`]).
            sanitize_control_tokens (`bool`, defaults to `True`): Accepted as in transformers; always on here.
            args, kwargs: As in transformers.
        """
        conversation = prepare_chat(conversation, self.tokenizer.escape_control_tokens)
        return super().apply_chat_template(conversation, *args, **kwargs)

    def _tokenize(self, texts: list[str], settings: dict):
        """Asks for padding only where there is something to pad, so that a tokenizer may be without a pad token."""
        if self.tokenizer.pad_token is not None or settings.get("padding") not in (True, "longest"):
            return self.tokenizer(texts, **settings)
        unpadded = self.tokenizer(texts, **{**settings, "padding": False, "return_tensors": None})
        lengths = {len(ids) for ids in unpadded["input_ids"]}
        if len(lengths) > 1 or settings.get("pad_to_multiple_of"):
            raise ValueError(
                f"`padding` is {settings['padding']!r} for texts of {sorted(lengths)} tokens and the tokenizer has no "
                "pad token; allowed: texts of one length, or a `pad_token`, such as `processor.tokenizer.pad_token = "
                "processor.tokenizer.eos_token`."
            )
        return unpadded.convert_to_tensors(settings.get("return_tensors"))

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """The text that takes the place of `<image>`; it is equally long for all images."""
        return BOI_TOKEN + IMAGE_PLACEHOLDER_TOKEN * self.tokenizer.num_query_tokens + EOI_TOKEN

    @property
    def image_token_ids(self) -> list[int]:
        """Ids in image spans, whose `mm_token_type_ids` are 1."""
        layout = self.tokenizer.image_token_layout
        return [*layout.special_token_ids, *range(layout.first_image_token_id, layout.end_image_token_id)]

    def _get_num_multimodal_tokens(self, image_sizes=None, **kwargs) -> MultiModalData:
        """What servers plan with: ids for each image, given as (height, width)."""
        if image_sizes is None:
            return MultiModalData()
        count = len(image_sizes)
        return MultiModalData(
            num_image_tokens=[self.tokenizer.num_query_tokens + 2] * count, num_image_patches=[1] * count
        )

    def _insert_spans(self, texts: list[str], spans: list[str]) -> tuple[list[str], list]:
        wanted = sum(text.count(IMAGE_PLACEHOLDER_TOKEN) for text in texts)
        if wanted != len(spans):
            raise ValueError(
                f"`text` has {wanted} `{IMAGE_PLACEHOLDER_TOKEN}` but {len(spans)} images or codes were given; "
                "allowed: the same number."
            )
        return self.get_text_with_replacements(list(texts), spans)

    def _check_not_truncated(self, input_ids, spans):
        """A cut image span would only fail later, inside the model."""
        rows = input_ids.tolist() if isinstance(input_ids, torch.Tensor) else input_ids
        num_closed = sum(list(row).count(self.tokenizer.eoi_token_id) for row in rows)
        if num_closed < len(spans):
            raise ValueError("`max_length` cuts an image span; allowed: room for the whole image.")

    # ------------------------------------------------------------------------------------------ images and codes
    def encode_image(self, images, image_tokenizer=None, trust_remote_code: bool | None = None) -> torch.LongTensor:
        """
        Turns images into codes, with the image tokenizer that the tokenizer's folder names, fetched on first use.

        Args:
            images: One image or a list, in any form that the image processor takes.
            image_tokenizer ([`SeedImageTokenizer`], *optional*): One to use from now on instead of the named one.
            trust_remote_code (`bool`, *optional*): Whether the named repository may bring its code: needed where this
                package is not installed.

        Returns:
            `torch.LongTensor` of shape `(num_images, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: An image that cannot be read, or no image tokenizer is named or given.
        """
        return self.tokenizer.image_codec.encode(images, image_tokenizer, self.image_processor, trust_remote_code)

    def decode_image(self, codes, pipeline=None, trust_remote_code: bool | None = None, **kwargs) -> list:
        """
        Turns codes into images, with the pipeline that the tokenizer's folder names, fetched on first use.

        Args:
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)` or `(num_query_tokens,)`): Codes.
            pipeline ([`SeedPipeline`], *optional*): Pipeline to use from now on instead of the named one.
            trust_remote_code (`bool`, *optional*): As in `encode_image`.
            kwargs: For the pipeline's call, such as `generator` or `num_inference_steps`.

        Returns:
            `list[PIL.Image.Image]`.

        Raises:
            ValueError: Wrong codes, or no image tokenizer is named or given.
        """
        return self.tokenizer.image_codec.decode(codes, pipeline, trust_remote_code, **kwargs)

    # ------------------------------------------------------------------------------------------ output
    def post_process_generation(self, generated_ids, output: str = "text", prompt_length: int = 0, **kwargs) -> list:
        """
        Turns what a model generated into text, codes or images.

        Args:
            generated_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)` or `(sequence_length,)`, or
                nested lists): What `generate()` returned. Or a `str` or `list[str]`: what a server of the exported
                model replied.
            output (`str`, defaults to `"text"`):
                `"text"`: the text without image spans; `"codes"`: the codes of the whole images; `"images"`: these
                decoded; `"interleaved"`: text and images in order.
            prompt_length (`int`, defaults to 0): Number of ids at the start to leave out; not used for text.
            kwargs: For [`~SeedProcessor.decode_image`], such as `pipeline` and `generator`.

        Returns:
            `list`: for each sequence a `str` (`"text"`), a `torch.LongTensor` of shape
            `(num_images, num_query_tokens)` (`"codes"`), a list of `PIL.Image.Image` (`"images"`), or a list of `str`
            and `PIL.Image.Image` (`"interleaved"`).

        Raises:
            ValueError: An unknown `output`.
        """
        if output not in OUTPUTS:
            raise ValueError(f"`output` is {output!r}; allowed: {OUTPUTS}.")
        texts = [generated_ids] if isinstance(generated_ids, str) else generated_ids
        if not isinstance(texts, torch.Tensor) and len(texts) and all(isinstance(text, str) for text in texts):
            rows = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        else:
            rows = torch.as_tensor(generated_ids)
            rows = (rows[None] if rows.ndim == 1 else rows)[:, prompt_length:].tolist()
        sequences = [self._pieces(row) for row in rows]
        if output == "text":
            return ["".join(value for kind, value in pieces if kind == "text").strip() for pieces in sequences]
        images = [[value for kind, value in pieces if kind == "image"] for pieces in sequences]
        if output == "codes":
            empty = torch.zeros(0, self.tokenizer.num_query_tokens, dtype=torch.long)
            return [torch.tensor(codes) if codes else empty for codes in images]
        flat = [codes for row in images for codes in row]
        decoded = iter(self.decode_image(torch.tensor(flat), **kwargs) if flat else [])
        if output == "images":
            return [[next(decoded) for _ in row] for row in images]
        return [[value if kind == "text" else next(decoded) for kind, value in pieces] for pieces in sequences]

    def _pieces(self, row: list[int]) -> list[tuple[str, str | list[int]]]:
        """Text without special tokens and whole images, in order; empty text and cut-off images are dropped."""
        pieces = []
        for kind, values in self.tokenizer.image_token_layout.split(row):
            if kind == "text":
                text = self.tokenizer.decode(values, skip_special_tokens=True)
                if text:
                    pieces.append((kind, text))
            elif len(values) == self.tokenizer.num_query_tokens:
                pieces.append((kind, values))
            else:
                logger.warning(f"An image span with {len(values)} image tokens was left out.")
        return pieces

    def post_process_multimodal_output(
        self, generated_outputs, skip_special_tokens: bool = True, generation_mode: str | None = None, **kwargs
    ) -> list:
        """What transformers' `any-to-any` pipeline calls: text, or one image for each sequence."""
        if generation_mode in (None, "text"):
            return self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        if generation_mode == "image":
            return [row[-1] if row else None for row in self.post_process_generation(generated_outputs, "images")]
        raise ValueError(f"`generation_mode` is {generation_mode!r}; allowed: None, 'text', 'image'.")


def _flatten_images(images) -> tuple[list, list[int] | None]:
    """A flat list of images and, if one list for each text was given, their lengths."""
    if not isinstance(images, list | tuple):
        is_batch = getattr(images, "ndim", 0) == 4
        return (list(images) if is_batch else [images]), None
    if any(isinstance(value, list | tuple) for value in images):
        nested = [list(value) if isinstance(value, list | tuple) else [value] for value in images]
        return [image for row in nested for image in row], [len(row) for row in nested]
    return list(images), None


def _check_counts(texts: list[str], counts: list[int]):
    if len(texts) != len(counts):
        raise ValueError(f"`images` has {len(counts)} lists; allowed: {len(texts)}, one for each text.")
    for index, (text, count) in enumerate(zip(texts, counts, strict=True)):
        wanted = text.count(IMAGE_PLACEHOLDER_TOKEN)
        if wanted != count:
            raise ValueError(
                f"`text[{index}]` has {wanted} `{IMAGE_PLACEHOLDER_TOKEN}` but {count} images were given; allowed: "
                "the same number."
            )


__all__ = ["SeedProcessor"]
