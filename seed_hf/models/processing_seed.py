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
from transformers.processing_utils import ImagesKwargs, MultiModalData, ProcessingKwargs, Unpack
from transformers.tokenization_utils_base import TextInput
from transformers.utils import logging

from .chat_seed import prepare_chat, prepare_chat_arguments
from .hub_mixin_seed import HubUploadMixin
from .image_processing_seed import SeedImageProcessor
from .image_processing_torchvision_seed import SeedImageProcessorTorchvision
from .image_tokens_seed import BOI_TOKEN, EOI_TOKEN, IMAGE_PLACEHOLDER_TOKEN, ImageCodes
from .tokenization_seed import SeedTokenizer


logger = logging.get_logger(__name__)

OUTPUTS = ("text", "codes", "images", "interleaved")
GENERATION_MODES = (None, "text", "image")
# by `backend`, as `AutoImageProcessor` has them
IMAGE_PROCESSORS = {"pil": SeedImageProcessor, "torchvision": SeedImageProcessorTorchvision}

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


class SeedImagesKwargs(ImagesKwargs, total=False):
    """
    return_codes (`bool`, *optional*, defaults to `False`):
        Whether images become codes at once, by the image tokenizer that `encode_image` uses.
    """

    return_codes: bool | None


class SeedProcessorKwargs(ProcessingKwargs, total=False):
    """What `SeedProcessor.__call__` hands on to the tokenizer and the image processor."""

    images_kwargs: SeedImagesKwargs

    # older releases of transformers read it
    _defaults = {}


class SeedProcessor(HubUploadMixin, ProcessorMixin):
    r"""
    Puts text, images and codes together for [`SeedForCausalLM`], and takes its output apart.

    Each `<image>` in a text stands for one image: it becomes `<img>` + `num_query_tokens` ids + `</img>`, where the
    ids are image tokens if codes were given, and placeholders that the model fills from `pixel_values` otherwise.

    Args:
        image_processor ([`SeedImageProcessor`] or [`SeedImageProcessorTorchvision`]): Images to `pixel_values`.
            `from_pretrained(..., backend="torchvision")` loads the second.
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

    valid_processor_kwargs = SeedProcessorKwargs
    image_token = IMAGE_PLACEHOLDER_TOKEN
    boi_token = BOI_TOKEN
    eoi_token = EOI_TOKEN

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
        super().__init__(image_processor, tokenizer, chat_template=chat_template or DEFAULT_CHAT_TEMPLATE)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path, processor_dict=None, backend: str = "pil", **kwargs
    ):
        """The parts by the classes that a copy of this file brings along, so that no other code has to be trusted."""
        if backend not in IMAGE_PROCESSORS:
            raise ValueError(f"`backend` is {backend!r}; allowed: {tuple(IMAGE_PROCESSORS)}.")
        parts = (IMAGE_PROCESSORS[backend], SeedTokenizer)
        return [part.from_pretrained(pretrained_model_name_or_path, **kwargs) for part in parts]

    def __call__(
        self,
        images: ImageInput | None = None,
        text: TextInput | list[TextInput] | None = None,
        codes=None,
        generation_mode: str | None = None,
        **kwargs: Unpack[SeedProcessorKwargs],
    ) -> BatchFeature:
        """
        Makes model inputs.

        Args:
            images (*optional*): An image, a list of images in reading order over all texts, or one list for each text;
                everything that the image processor takes.
            text (`str` or `list[str]`, *optional*): Texts with one `<image>` for each image.
            codes (*optional*): Codes instead of images: integers of shape `(num_images, num_query_tokens)`, or
                `(num_query_tokens,)` for one image. With the first ones alone, `codes[:, :k]`, each span ends after
                `k` image tokens.
            generation_mode (`str`, *optional*): `"image"` opens an image at the end of each text, for a model that is
                to draw; `None` and `"text"` leave the texts as they are.
            kwargs: For the tokenizer and the image processor, such as `padding=True` and `return_tensors="pt"`; and
                `return_mm_token_type_ids`, `return_text_replacement_offsets` as in transformers. With
                `return_codes=True` the images become codes, by the image tokenizer that
                [`~SeedProcessor.encode_image`] uses, and no `pixel_values` are returned.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` if text was given, `pixel_values` of shape
            `(num_images, 3, height, width)` if images were given; `mm_token_type_ids` (1 in image spans, 0 elsewhere)
            and `text_replacement_offsets` (where the spans are in the text) if asked for. With `return_codes=True` the
            image tokens of the codes are in `input_ids`, or, without text, `codes` are returned alone: a
            `torch.LongTensor` of shape `(num_images, num_query_tokens)`.

        Raises:
            ValueError: No input, images together with codes, another number of images than of `<image>`, videos or
                audio, an unknown `generation_mode`, or a `max_length` that cuts an image; with `return_codes=True`,
                no image tokenizer is named or given.
        """
        if images is not None and codes is not None:
            raise ValueError("`images` and `codes` were both given; allowed: one of them.")
        _check_generation_mode(generation_mode)
        if codes is not None:
            images = ImageCodes(self.tokenizer.image_token_layout.check_image_codes(codes, allow_prefix=True))
        text, kwargs = self._escape_marked(text, kwargs)
        if text is not None and _need_no_image(text, images):
            images = None
        if generation_mode == "image" and text is not None:
            text = [sample + BOI_TOKEN for sample in ([text] if isinstance(text, str) else text)]
        inputs = super().__call__(images=images, text=text, **kwargs)
        if text is not None:
            inputs.pop("codes", None)
        return inputs

    def _escape_marked(self, text, kwargs: dict) -> tuple:
        """Text and arguments without the marks of transformers around a user's words, before `<image>` is counted."""
        text_kwargs = dict(kwargs.get("text_kwargs") or {})
        flags = [settings.pop("sanitize_control_tokens", None) for settings in (kwargs, text_kwargs)]
        if text is None or not any(flags):
            return text, {**kwargs, "text_kwargs": text_kwargs} if text_kwargs else kwargs
        texts = [text] if isinstance(text, str) else text
        return list(map(self.tokenizer.escape_marked_tokens, texts)), {**kwargs, "text_kwargs": text_kwargs}

    def prepare_inputs_layout(self, images=None, text=None, videos=None, audio=None, **kwargs) -> tuple:
        """As in transformers, but images are loaded one at a time, where each is resized before the next is loaded."""
        _, text, videos, audio = super().prepare_inputs_layout(text=text, videos=videos, audio=audio, **kwargs)
        return images, text, videos, audio

    def validate_inputs(self, images=None, text=None, videos=None, audio=None, **kwargs):
        """
        Checks what was given together.

        Args:
            images: As in `__call__`, or codes in their place.
            text (`list[str]`, *optional*): Texts.
            videos, audio: Not supported.
            kwargs: Not used.

        Raises:
            ValueError: No input, a video or audio, or another number of images than of `<image>`.
        """
        if images is None and text is None:
            raise ValueError("`images` and `text` are both None; allowed: at least one of them.")
        for name, value in (("videos", videos), ("audio", audio)):
            if value is not None:
                raise ValueError(f"`{name}` was given; allowed: images and text.")
        if text is None:
            return
        if not isinstance(text, list) or not all(isinstance(sample, str) for sample in text):
            raise ValueError(f"`text` is {text!r}; allowed: a string or a list of strings.")
        images, counts = _flatten_images(images)
        if counts is not None:
            _check_counts(text, counts)
        wanted = sum(sample.count(IMAGE_PLACEHOLDER_TOKEN) for sample in text)
        if wanted != len(images):
            raise ValueError(
                f"`text` has {wanted} `{IMAGE_PLACEHOLDER_TOKEN}` but {len(images)} images or codes were given; "
                "allowed: the same number."
            )

    def _process_images(self, images, **kwargs) -> tuple[dict, list[str]]:
        """What of images goes to the model besides text, and the text that takes their place."""
        return_codes = kwargs.pop("return_codes", None)
        if isinstance(images, ImageCodes):
            return {}, [self.tokenizer.codes_to_text(codes) for codes in images.codes.split(1)]
        if return_codes:
            pixel_values = self.image_processor(images, **{**kwargs, "return_tensors": "pt"})["pixel_values"]
            codes = self.tokenizer.image_codec.encode_pixels(pixel_values)
            return {"codes": codes}, [self.tokenizer.codes_to_text(row) for row in codes]
        inputs = self.image_processor(images, **kwargs)
        return inputs, [self.replace_image_token(inputs, index) for index in range(len(_flatten_images(images)[0]))]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """The text that takes the place of `<image>`; it is equally long for all images."""
        return BOI_TOKEN + IMAGE_PLACEHOLDER_TOKEN * self.tokenizer.num_query_tokens + EOI_TOKEN

    def _check_special_mm_tokens(self, text: list[str], text_inputs, modalities: list[str]):
        """A cut image span would only fail later, inside the model; one of codes has no placeholder to count."""
        rows = text_inputs["input_ids"]
        rows = rows.tolist() if isinstance(rows, torch.Tensor) else rows
        num_closed = sum(list(row).count(self.tokenizer.eoi_token_id) for row in rows)
        if num_closed < sum(sample.count(EOI_TOKEN) for sample in text):
            raise ValueError("`max_length` cuts an image span; allowed: room for the whole image.")

    def apply_chat_template(
        self,
        conversation,
        chat_template: str | None = None,
        tools: list | None = None,
        documents: list[dict] | None = None,
        *args,
        sanitize_control_tokens: bool = True,
        **kwargs,
    ):
        """
        Works as in transformers, but what people write is always text, never a special token or an image token.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`): Messages. Images come as parts of type `"image"`; an
                `<image>` in a text is text (see [`SeedTokenizer.escape_control_tokens`]).
            chat_template (`str`, *optional*): Template to use instead of the processor's.
            tools, documents (`list`, *optional*): As in transformers; their texts are text, too.
            sanitize_control_tokens (`bool`, defaults to `True`): Accepted here and in `processor_kwargs`, as in
                transformers; always on here.
            args, kwargs: As in transformers.

        Returns:
            `str`, `list[str]` or `BatchFeature`: As in transformers.
        """
        escape = self.tokenizer.escape_control_tokens
        given = {"tools": tools, "documents": documents, **kwargs}
        given = prepare_chat_arguments(given, escape)
        conversation = prepare_chat(conversation, escape)
        tools, documents = given.pop("tools"), given.pop("documents")
        return super().apply_chat_template(conversation, chat_template, tools, documents, *args, **given)

    @property
    def image_token_id(self) -> int:
        """Id of `<image>`."""
        return self.tokenizer.image_token_id

    @property
    def boi_token_id(self) -> int:
        """Id of `<img>`."""
        return self.tokenizer.boi_token_id

    @property
    def eoi_token_id(self) -> int:
        """Id of `</img>`."""
        return self.tokenizer.eoi_token_id

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
            codes (`torch.LongTensor` of shape `(num_images, num_codes)` or `(num_query_tokens,)`): Codes, all of each
                image or its first ones.
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
    def fill_prompt(self, prompt: str, **words: str) -> str:
        """
        Puts words into one of the prompts, always as text: they never become control tokens.

        Args:
            prompt (`str`): Such as `question_prompt`.
            words (`str`): Words for each `{name}` in it, by name.

        Returns:
            `str`: For `SeedProcessor.__call__`.
        """
        for name, text in words.items():
            prompt = prompt.replace(f"{{{name}}}", self.tokenizer.escape_control_tokens(text))
        return prompt

    def post_process_generation(
        self,
        generated_ids,
        output: str = "text",
        prompt_length: int = 0,
        strict: bool = False,
        num_codes: int | None = None,
        **kwargs,
    ) -> list:
        """
        Turns what a model generated into text, codes or images.

        Only whole images are returned. A span with too few or too many image tokens, such as one that
        `max_new_tokens` cut, is no image: it is left out with a warning that names it, or raises with `strict=True`.
        So a sequence may give fewer images than it has `<img>`, and none at all.

        Args:
            generated_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)` or `(sequence_length,)`, or
                nested lists): What `generate()` returned. Or a `str` or `list[str]`: what a server of the exported
                model replied.
            output (`str`, defaults to `"text"`):
                `"text"`: the text without image spans; `"codes"`: the codes of the whole images; `"images"`: these
                decoded; `"interleaved"`: text and images in order.
            prompt_length (`int`, defaults to 0): Number of ids at the start to leave out; not used for text.
            strict (`bool`, defaults to `False`): Whether a broken image span raises `ValueError`.
            num_codes (`int`, *optional*): Number of codes that images were written with; by default all.
            kwargs: For [`~SeedProcessor.decode_image`], such as `pipeline` and `generator`.

        Returns:
            `list`: for each sequence a `str` (`"text"`), a `torch.LongTensor` of shape
            `(num_images, num_codes)` (`"codes"`), a list of `PIL.Image.Image` (`"images"`), or a list of `str`
            and `PIL.Image.Image` (`"interleaved"`).

        Raises:
            ValueError: An unknown `output`, or a broken image span with `strict=True`.
        """
        if output not in OUTPUTS:
            raise ValueError(f"`output` is {output!r}; allowed: {OUTPUTS}.")
        rows = self._rows(generated_ids, prompt_length)
        num_codes = self.tokenizer.num_query_tokens if num_codes is None else num_codes
        sequences = [self._pieces(row, f"sequence {index}", strict, num_codes) for index, row in enumerate(rows)]
        if output == "text":
            return ["".join(value for kind, value in pieces if kind == "text").strip() for pieces in sequences]
        images = [[value for kind, value in pieces if kind == "image"] for pieces in sequences]
        if output == "codes":
            empty = torch.zeros(0, num_codes, dtype=torch.long)
            return [torch.tensor(codes) if codes else empty for codes in images]
        flat = [codes for row in images for codes in row]
        decoded = iter(self.decode_image(torch.tensor(flat), **kwargs) if flat else [])
        if output == "images":
            return [[next(decoded) for _ in row] for row in images]
        return [[value if kind == "text" else next(decoded) for kind, value in pieces] for pieces in sequences]

    def _rows(self, generated, prompt_length: int) -> list[list[int]]:
        """Ids of each sequence, of what a model or a server wrote."""
        texts = [generated] if isinstance(generated, str) else generated
        if not isinstance(texts, torch.Tensor) and len(texts) and all(isinstance(text, str) for text in texts):
            return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        rows = torch.as_tensor(generated)
        return (rows[None] if rows.ndim == 1 else rows)[:, prompt_length:].tolist()

    def _pieces(self, row: list[int], name: str, strict: bool, wanted: int) -> list[tuple[str, str | list[int]]]:
        """Text without special tokens and whole images, in order; empty text is dropped."""
        pieces = []
        for kind, values in self.tokenizer.image_token_layout.split(row):
            if kind == "text":
                text = self.tokenizer.decode(values, skip_special_tokens=True)
                if text:
                    pieces.append((kind, text))
            elif len(values) == wanted:
                pieces.append((kind, values))
            elif strict:
                raise ValueError(
                    f"`generated_ids` has an image span of {len(values)} codes in {name}; allowed: {wanted}."
                )
            else:
                logger.warning(f"An image span of {len(values)} codes instead of {wanted} in {name} was left out.")
        return pieces

    def post_process_multimodal_output(
        self, generated_outputs, skip_special_tokens: bool = True, generation_mode: str | None = None, **kwargs
    ) -> list:
        """
        What transformers' `any-to-any` pipeline calls.

        Args:
            generated_outputs (`torch.LongTensor` of shape `(batch_size, sequence_length)`): What `generate()`
                returned.
            skip_special_tokens (`bool`, defaults to `True`): Whether text is without special and image tokens.
            generation_mode (`str`, *optional*): `"image"` for images; `None` and `"text"` for text.
            kwargs: For the tokenizer's `decode`, or for [`~SeedProcessor.post_process_generation`].

        Returns:
            `list`: for each sequence its text, or its last whole image as `PIL.Image.Image`, which is `None` where
            there is none.

        Raises:
            ValueError: An unknown `generation_mode`, or a broken image span with `strict=True`.
        """
        _check_generation_mode(generation_mode)
        if generation_mode == "image":
            rows = self.post_process_generation(generated_outputs, "images", **kwargs)
            return [row[-1] if row else None for row in rows]
        return super().post_process_multimodal_output(generated_outputs, skip_special_tokens, **kwargs)


def _check_generation_mode(generation_mode: str | None):
    if generation_mode not in GENERATION_MODES:
        raise ValueError(f"`generation_mode` is {generation_mode!r}; allowed: {GENERATION_MODES}.")


def _flatten_images(images) -> tuple[list, list[int] | None]:
    """A flat list of images or codes and, if one list for each text was given, their lengths."""
    if images is None or isinstance(images, ImageCodes):
        return ([] if images is None else list(images.codes)), None
    if not isinstance(images, list | tuple):
        is_batch = getattr(images, "ndim", 0) == 4
        return (list(images) if is_batch else [images]), None
    if any(isinstance(value, list | tuple) for value in images):
        nested = [list(value) if isinstance(value, list | tuple) else [value] for value in images]
        return [image for row in nested for image in row], [len(row) for row in nested]
    return list(images), None


def _need_no_image(text: str | list[str], images) -> bool:
    """Whether an empty list, or one for each text, was given in place of images."""
    flat, counts = _flatten_images(images)
    return not flat and counts in (None, [0] * (len(text) if isinstance(text, list) else 1))


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


__all__ = ["SeedProcessor", "SeedProcessorKwargs"]
