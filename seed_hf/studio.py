"""One set of loaded models behind a chat, an app or a server: images, codes, pictures and words in one place."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from .hub.fetch import MINI_NAME, find_folder
from .inference import check_places, context_length, places_of_codes, text_features
from .loading import load_drawing_pipeline, load_pipeline, load_text_tokenizer
from .models.pipeline_seed import seeded_sampling
from .models.processing_seed import DEFAULT_CHAT_TEMPLATE


# For each sequence of a batch the ids that it has so far, without the prompt; true where a sequence should stop.
OnTokens = Callable[[torch.Tensor], Sequence[bool] | None]

# number of tokens: captions and answers that models are trained on have fewer
_SHORT_ANSWER = 20


@dataclass
class Piece:
    """
    Part of a message.

    Args:
        text (`str`, *optional*): Words; or else
        codes (`torch.LongTensor` of shape `(num_query_tokens,)`, *optional*): The codes of an image.
    """

    text: str | None = None
    codes: torch.Tensor | None = None


class _Watch(StoppingCriteria):
    """Shows the ids to a listener as they are written, and stops the sequences that it has enough of."""

    def __init__(self, listener: OnTokens, prompt_length: int):
        self.listener, self.prompt_length = listener, prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores, **kwargs) -> torch.BoolTensor:
        stop = self.listener(input_ids[:, self.prompt_length :])
        stop = [False] * len(input_ids) if stop is None else list(stop)
        return torch.tensor(stop, dtype=torch.bool, device=input_ids.device)


class Studio:
    """
    Loaded models, and what people do with them. All methods take and give codes; none of them keeps anything.

    Args:
        pipeline ([`SeedPipeline`]): What turns images into codes and draws codes; with a language model and its
            processor, it also writes.
        image_generation (`dict`, *optional*): How its language model writes images best, for `generate()`.
        text_tokenizer (`PreTrainedTokenizerBase`, *optional*): That of the image tokenizer's text side, for search.

    Example:

    ```python
    >>> from seed_hf.mini import mini_image
    >>> from seed_hf.studio import Studio

    >>> studio = Studio.load("seed-mini")  # doctest: +SKIP
    >>> codes = studio.encode([mini_image("strawberry")])  # doctest: +SKIP
    >>> (picture,) = studio.draw(codes, seeds=[0])  # doctest: +SKIP
    ```
    """

    def __init__(self, pipeline: Any, image_generation: dict | None = None, text_tokenizer: Any = None):
        self.pipeline = pipeline
        self.image_tokenizer = pipeline.image_tokenizer
        self.model, self.processor = pipeline.language_model, pipeline.processor
        self.image_generation = image_generation or {}
        self.text_tokenizer = text_tokenizer

    @classmethod
    def load(cls, name: str = MINI_NAME, device: str | None = None) -> "Studio":
        """
        Loads all that a model offers: a pipeline without a language model sees and draws, but does not write.

        Args:
            name (`str`, defaults to `MINI_NAME`): Folder or Hub id of a pipeline, or of a language model that names
                its pipeline.
            device (`str`, *optional*): Such as `"cpu"`; by default `"cuda"` where there is one.

        Returns:
            [`Studio`]: With progress bars off.

        Raises:
            ValueError: There is no such model, or no such device.
        """
        if name != MINI_NAME and (find_folder(name) / "model_index.json").is_file():
            pipeline, image_generation = load_pipeline(name, device), {}
        else:
            pipeline, image_generation = load_drawing_pipeline(name, device)
        pipeline.set_progress_bar_config(disable=True)
        folder = Path(pipeline.name_or_path) / "image_tokenizer"
        has_text_side = (folder / "tokenizer_config.json").is_file()
        return cls(pipeline, image_generation, load_text_tokenizer(folder) if has_text_side else None)

    @property
    def num_codes(self) -> int:
        """Number of codes of an image."""
        return self.image_tokenizer.config.num_query_tokens

    @property
    def codes_of_place(self) -> list[range]:
        """For each place in an image the codes that may stand there."""
        return places_of_codes(self.image_tokenizer.config)

    # ------------------------------------------------------------------------------------------ images
    def encode(self, images: list) -> torch.LongTensor:
        """
        Turns images into codes.

        Args:
            images (`list`): Images in any form that the image processor takes. Never pass on what a stranger sent as
                a string: it may be a path or an address.

        Returns:
            `torch.LongTensor` of shape `(num_images, num_codes)`.

        Raises:
            ValueError: An image cannot be read.
        """
        return self.pipeline.encode_image(images).cpu()

    def draw(
        self,
        codes: torch.LongTensor,
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        on_step: Callable[[int], bool] | None = None,
    ) -> list[PIL.Image.Image]:
        """
        Draws pictures of codes.

        Args:
            codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Codes, all of an image or its first ones.
            seeds (`Sequence[int]`): One for each picture: what a picture looks like does not depend on the others.
            steps (`int`, *optional*): Number of denoising steps; by default the model's.
            guidance (`float`, *optional*): Strength of guidance; by default the model's.
            on_step (`Callable`, *optional*): Called with the number of steps that are done; true ends the drawing.

        Returns:
            `list[PIL.Image.Image]`

        Raises:
            ValueError: Codes or settings that cannot work.
        """

        def callback(pipeline, step, timestep, tensors):
            pipeline._interrupt = bool(on_step and on_step(step + 1))
            return {}

        return self.pipeline(
            codes=check_places(codes, self.image_tokenizer.config),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=steps,
            guidance_scale=guidance,
            callback_on_step_end=callback,
        ).images

    def image_features(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """Features of codes `(num_images, num_codes)`: `(num_images, dim)`, L2-normalised, as in search."""
        with torch.no_grad():
            return self.image_tokenizer.get_image_features(codes=codes.to(self.image_tokenizer.device)).pooler_output

    def text_features(self, texts: list[str]) -> torch.FloatTensor:
        """
        Features of words, whose dot products with those of codes say how well they fit.

        Args:
            texts (`list[str]`): Words.

        Returns:
            `torch.FloatTensor` of shape `(len(texts), dim)`, L2-normalised.

        Raises:
            ValueError: The image tokenizer came without the tokenizer of its text side.
        """
        if self.text_tokenizer is None:
            raise ValueError("`texts` needs the text side of the image tokenizer, which this model came without.")
        return text_features(self.image_tokenizer, self.text_tokenizer, texts)

    # ------------------------------------------------------------------------------------------ words
    def write(
        self,
        chats: Sequence[list[dict]],
        generation_mode: str = "text",
        on_tokens: OnTokens | None = None,
        seed: int | None = None,
        **generation,
    ) -> list[list[Piece]]:
        """
        Answers chats, all in one batch.

        Args:
            chats (`Sequence[list[dict]]`): Messages as in transformers: `role`, and `content`, which is a string or a
                list of `{"type": "text", "text": ...}` and `{"type": "image", "codes": ...}` with the codes of an
                image, or in all images equally many first ones. What people wrote is text in any case, never a
                control token.
            generation_mode (`str`, defaults to `"text"`): `"text"`, `"image"` or `"interleaved"`.
            on_tokens (`Callable`, *optional*): Called after each token with all ids so far `(num_chats, num_tokens)`
                without the prompts; may return for each chat whether to stop. Also for streaming: `pieces` splits ids.
            seed (`int`, *optional*): Makes sampling repeatable.
            generation: For `generate()`; greedy by default.

        Returns:
            `list[list[Piece]]`: An answer for each chat: text and codes in order.

        Raises:
            ValueError: There is no language model, or settings that cannot work.
        """
        self._need_language_model()
        texts, codes = zip(*(self._prompt(chat, generation_mode) for chat in chats), strict=True)
        return self._generate(texts, sum(codes, []), generation_mode, on_tokens, seed, generation)

    def reply(
        self,
        history: list[dict],
        on_tokens: OnTokens | None = None,
        seed: int | None = None,
        raw: bool = False,
        **generation,
    ) -> list[Piece]:
        """
        Answers the newest message of a chat in the words that the model was trained on.

        A model without a chat template of its own knows three prompts: a request to draw (see
        [`~Studio.drawing_request`]) is answered by an image, an image alone by a caption, and words by an answer about
        the newest image of the chat, which may be one that the model drew. Other models get the whole chat.

        Args:
            history (`list[dict]`): Messages as in [`~Studio.write`], of which the newest is the user's.
            on_tokens (`Callable`, *optional*): As in [`~Studio.write`].
            seed (`int`, *optional*): Makes sampling repeatable.
            raw (`bool`, defaults to `False`): Whether a model without a chat template of its own gets the whole chat,
                too.
            generation: For `generate()`; by default greedy, and for images how the model writes them best. A
                `generation_mode` of `"image"` has any words drawn, one of `"text"` none.

        Returns:
            `list[Piece]`: The answer: text and codes in order.

        Raises:
            ValueError: There is no language model, or nothing that it can answer.
        """
        self._need_language_model()
        mode = generation.pop("generation_mode", None)
        if raw or mode == "interleaved" or self.has_chat_template:
            words, _ = _split_message(history[-1])
            request = words if mode == "image" else self.drawing_request(words) if mode is None else None
            if request:
                history, mode = [*history[:-1], _with_words(history[-1], request)], "image"
            settings = {**(self.image_generation if mode == "image" else {}), **generation}
            return self.write([history], mode or "text", on_tokens, seed, **settings)[0]
        prompt = self.trained_prompt(history, mode)
        if prompt is None:
            raise ValueError("there is no image to talk about yet; allowed: an image, or 'draw' and what to draw.")
        if prompt == "":
            raise ValueError("the message does not say what to draw; allowed: such as 'draw red apple'.")
        if isinstance(prompt, str):
            return [Piece(codes=self.write_codes([prompt], on_tokens, seed, **generation)[0])]
        settings = {"max_new_tokens": _SHORT_ANSWER, **generation}
        pieces = self.write([prompt], "text", on_tokens, seed, **settings)[0]
        # what follows the first line is made up
        return [Piece(text="".join(piece.text or "" for piece in pieces).strip().partition("\n")[0].strip())]

    @property
    def has_chat_template(self) -> bool:
        """Whether the model has a chat template of its own, and so was trained on chats."""
        return self.processor.chat_template != DEFAULT_CHAT_TEMPLATE

    def trained_prompt(self, history: list[dict], generation_mode: str | None = None) -> list[dict] | str | None:
        """
        Gives the prompt that a model without a chat template of its own was trained on, for the newest message.

        Args:
            history (`list[dict]`): Messages as in [`~Studio.write`], of which the newest is the user's.
            generation_mode (`str`, *optional*): `"text"` or `"image"`; by default an image where the message asks to
                draw (see [`~Studio.drawing_request`]), and text otherwise.

        Returns:
            `list[dict]`, `str` or `None`: A question about the newest image, or without words a request for its
            caption, as a chat for [`~Studio.write`]; what to draw, which may be nothing, for [`~Studio.write_codes`];
            `None` where there is no image to talk about.
        """
        words, _ = _split_message(history[-1])
        request = self.drawing_request(words)
        if generation_mode == "image" or generation_mode is None and request is not None:
            return words if request is None else request
        codes = [codes for message in history for codes in _split_message(message)[1]]
        if not codes:
            return None
        prompt = self.processor.question_prompt if words else self.processor.caption_prompt
        # words stay as they are: `write` sees to it that they are text
        before, _, after = prompt.partition(self.processor.image_token)
        parts = [{"type": "text", "text": text.replace("{question}", words)} for text in (before, after)]
        return [{"role": "user", "content": [parts[0], {"type": "image", "codes": codes[-1]}, parts[1]]}]

    @staticmethod
    def drawing_request(text: str) -> str | None:
        """
        Finds what a message asks to draw.

        Args:
            text (`str`): Words of a message.

        Returns:
            `str` or `None`: What follows "draw" or "/draw" at the start, which may be nothing; `None` if the message
            starts otherwise.

        Example:

        ```python
        >>> from seed_hf.studio import Studio

        >>> Studio.drawing_request("Draw a red apple")
        'a red apple'

        ```
        """
        command, _, words = text.strip().partition(" ")
        return words.strip() if command.lower() in ("draw", "/draw") else None

    def write_codes(
        self, words: Sequence[str], on_tokens: OnTokens | None = None, seed: int | None = None, **generation
    ) -> torch.LongTensor:
        """
        Writes the codes of pictures that show what words say, with the words that the model was trained on around.

        Args:
            words (`Sequence[str]`): What the pictures should show.
            on_tokens (`Callable`, *optional*): As in [`~Studio.write`].
            seed (`int`, *optional*): Makes sampling repeatable.
            generation: For `generate()`; by default how the model writes images best.

        Returns:
            `torch.LongTensor` of shape `(len(words), num_codes)`.

        Raises:
            ValueError: There is no language model, or settings that cannot work.
        """
        answers = self.write_images(words, on_tokens, seed, **generation)
        return torch.stack([pieces[-1].codes for pieces in answers])

    def write_images(
        self, words: Sequence[str], on_tokens: OnTokens | None = None, seed: int | None = None, **generation
    ) -> list[list[Piece]]:
        """
        Works like [`~Studio.write_codes`], and where `on_tokens` stopped an image gives what there is of it.

        Args:
            words (`Sequence[str]`): What the pictures should show.
            on_tokens (`Callable`, *optional*): As in [`~Studio.write`].
            seed (`int`, *optional*): Makes sampling repeatable.
            generation: For `generate()`; by default how the model writes images best.

        Returns:
            `list[list[Piece]]`: For each of the words one image, with all codes or the first ones, or nothing.

        Raises:
            ValueError: There is no language model, or settings that cannot work.
        """
        self._need_language_model()
        settings = {**self.image_generation, **generation}
        return self._generate(self._image_prompts(words), [], "image", on_tokens, seed, settings)

    @property
    def context_length(self) -> int | None:
        """Largest number of tokens that the language model reads and writes; `None` if it says none."""
        return context_length(self.model)

    def count_tokens(self, chat: list[dict] | str, generation_mode: str = "text") -> int:
        """
        Counts the tokens of a prompt.

        Args:
            chat (`list[dict]` or `str`): Messages as for [`~Studio.write`], or words as for [`~Studio.write_codes`].
            generation_mode (`str`, defaults to `"text"`): As for [`~Studio.write`].

        Returns:
            `int`: Number of tokens that the language model reads before it writes.
        """
        text, codes = (
            (*self._image_prompts([chat]), []) if isinstance(chat, str) else self._prompt(chat, generation_mode)
        )
        images = {"codes": codes} if codes else {}
        return len(self.processor(text=[text], **images)["input_ids"][0])

    def _image_prompts(self, words: Sequence[str]) -> list[str]:
        return [self.processor.fill_prompt(self.processor.image_prompt, caption=text) for text in words]

    def pieces(self, ids: Sequence[int]) -> list[Piece]:
        """
        Splits ids that a model wrote, which may break off anywhere.

        Args:
            ids (`Sequence[int]`): Ids of one answer.

        Returns:
            `list[Piece]`: Text, and images with all codes or, where it broke off, the first ones.
        """
        pieces = []
        for kind, values in self.processor.tokenizer.image_token_layout.split(list(ids)):
            if kind == "image":
                pieces.append(Piece(codes=torch.tensor(values, dtype=torch.long)))
            elif text := self.processor.tokenizer.decode(values, skip_special_tokens=True):
                pieces.append(Piece(text=text))
        return pieces

    def _need_language_model(self):
        if self.model is None or self.processor is None:
            raise ValueError("`model` has no language model; allowed: one, or a pipeline that was saved with one.")

    def _prompt(self, chat: list[dict], generation_mode: str) -> tuple[str, list]:
        codes = [codes for message in chat for codes in _split_message(message)[1]]
        settings = {"tokenize": False, "add_generation_prompt": True, "generation_mode": generation_mode}
        return self.processor.apply_chat_template(chat, **settings), codes

    def _generate(self, texts, codes, generation_mode, on_tokens, seed, generation) -> list[list[Piece]]:
        codes = {"codes": codes} if codes else {}
        inputs = self.processor(text=list(texts), padding=True, return_tensors="pt", **codes).to(self.model.device)
        settings = {"do_sample": False, "generation_mode": generation_mode, **generation}
        prompt_length = inputs["input_ids"].shape[1]
        if on_tokens is not None:
            settings["stopping_criteria"] = StoppingCriteriaList([_Watch(on_tokens, prompt_length)])
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        with seeded_sampling(generator, self.model.device) if settings["do_sample"] else nullcontext():
            ids = self.model.generate(**inputs, **settings)
        # an image prompt may end in the middle of a span, whose codes count as written
        return [self.pieces(row) for row in ids[:, prompt_length:].tolist()]


def _split_message(message: dict) -> tuple[str, list]:
    """The words of a message, and the codes of its images."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    words = " ".join(part["text"].strip() for part in parts if part["type"] == "text")
    return words.strip(), [part["codes"] for part in parts if part["type"] == "image"]


def _with_words(message: dict, words: str) -> dict:
    images = [{"type": "image", "codes": codes} for codes in _split_message(message)[1]]
    return {**message, "content": [*images, {"type": "text", "text": words}]}


__all__ = ["Piece", "Studio"]
