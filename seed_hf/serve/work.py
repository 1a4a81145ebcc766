"""What the lanes do with a batch: plain functions of a studio, each from items to results."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import LogitsProcessorList

from ..models.image_tokens_seed import BOI_TOKEN
from ..studio import Piece, Studio
from .errors import RequestError
from .metrics import Metrics
from .sampling import FirstCodes, RowSampling


@dataclass(eq=False)
class Item:
    """
    One row of a batch.

    Args:
        value: Pixel values of an image, codes or words.
        seed (`int`, defaults to 0): Seed of a picture.
        is_cancelled (`bool`, defaults to `False`): Whether nobody waits for the result any more.
    """

    value: Any
    seed: int = 0
    is_cancelled: bool = False


@dataclass(eq=False)
class Row:
    """
    An answer that is written.

    Args:
        chat (`list[dict]` or `str`): Messages for [`~Studio.write`], or words for [`~Studio.write_images`].
        temperature (`float`, *optional*): 0 for the likeliest; by default the model's.
        top_p (`float`, *optional*): Share of the probability that may be drawn, in (0, 1].
        seed (`int`, defaults to 0): Seed of the sampling.
        stop (`tuple[str, ...]`): Words at which the answer ends, without them.
        first_codes (`tuple[int, ...]`): Codes that its image begins with.
        on_pieces (`Callable`, *optional*): Called in the thread of the work with the pieces so far.
        name (`str`, defaults to `"messages"`): Name of the field with the prompt, for errors.
        is_cancelled (`bool`, defaults to `False`): Whether nobody waits for the answer any more.
    """

    chat: list[dict] | str
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()
    first_codes: tuple[int, ...] = ()
    on_pieces: Callable[[list[Piece]], None] | None = None
    name: str = "messages"
    is_cancelled: bool = False
    ids: list[int] = field(default_factory=list)
    num_prompt_tokens: int = 0
    finish_reason: str | None = None
    pieces: list[Piece] = field(default_factory=list)


@dataclass(frozen=True)
class WriteSettings:
    """What the rows of one batch share: `"text"`, `"image"` or `"interleaved"`, and the largest number of tokens."""

    mode: str
    max_tokens: int


@dataclass(frozen=True)
class DrawSettings:
    """What the pictures of one batch share; by default the model's number of steps and guidance."""

    num_codes: int
    steps: int | None = None
    guidance: float | None = None


def cut_at_stop(pieces: list[Piece], stop: tuple[str, ...]) -> list[Piece]:
    """
    Leaves out what follows a stop sequence, and the sequence itself.

    Args:
        pieces (`list[Piece]`): Pieces of an answer.
        stop (`tuple[str, ...]`): The sequences.

    Returns:
        `list[Piece]`: The pieces before the first of them, of which the last may be shortened.
    """
    for number, piece in enumerate(pieces):
        places = [at for words in stop if (at := (piece.text or "").find(words)) >= 0]
        if places:
            return [*pieces[:number], Piece(text=piece.text[: min(places)])]
    return pieces


class Work:
    """
    Work on batches, for one thread at a time in each lane.

    Args:
        studio ([`Studio`]): The models.
        metrics ([`Metrics`]): What counts tokens and pictures.
    """

    def __init__(self, studio: Studio, metrics: Metrics):
        self.studio, self.metrics = studio, metrics

    # ------------------------------------------------------------------------------------------ images
    def encode(self, items: list[Item], settings: None) -> list[torch.Tensor | None]:
        """Turns pixel values into codes, a row of shape `(num_codes,)` for each; nothing for what nobody waits for."""
        wanted, tokenizer = [item for item in items if not item.is_cancelled], self.studio.image_tokenizer
        self.metrics.stopped_rows.inc(len(items) - len(wanted))
        if not wanted:
            return [None] * len(items)
        pixel_values = torch.stack([item.value for item in wanted]).to(tokenizer.device, tokenizer.dtype)
        with torch.no_grad():
            codes = dict(zip(wanted, tokenizer.encode(pixel_values).cpu(), strict=True))
        return [codes.get(item) for item in items]

    def draw(self, items: list[Item], settings: DrawSettings) -> list[Image.Image]:
        """Draws a picture of each row of codes."""

        def is_unwanted(step: int) -> bool:
            return all(item.is_cancelled for item in items)

        codes, seeds = torch.stack([item.value for item in items]), [item.seed for item in items]
        pictures = self.studio.draw(codes, seeds, settings.steps, settings.guidance, is_unwanted)
        self.metrics.stopped_rows.inc(sum(item.is_cancelled for item in items))
        self.metrics.pictures.inc(len(pictures))
        return pictures

    def embed_images(self, items: list[Item], settings: None) -> list[torch.Tensor | None]:
        """Features of pixel values, a row of shape `(dim,)` for each; nothing for what nobody waits for."""
        codes = self.encode(items, settings)
        wanted = [row for row in codes if row is not None]
        features = iter(self.studio.image_features(torch.stack(wanted)).cpu() if wanted else [])
        return [None if row is None else next(features) for row in codes]

    def embed_texts(self, items: list[Item], settings: None) -> list[torch.Tensor]:
        """Features of words, a row of shape `(dim,)` for each."""
        return list(self.studio.text_features([item.value for item in items]).cpu())

    # ------------------------------------------------------------------------------------------ words
    def write(self, rows: list[Row], settings: WriteSettings) -> list[Row | RequestError]:
        """Answers chats; a row whose prompt is wrong or too long gives an error and leaves the others alone."""
        results = [self._check_length(row, settings) for row in rows]
        fitting = [row for row in results if isinstance(row, Row)]
        if fitting:
            chats, generation = [row.chat for row in fitting], self._generation(fitting, settings)
            self.studio.write(chats, settings.mode, self._listener(fitting, settings), **generation)
        return results

    def write_images(self, rows: list[Row], settings: WriteSettings) -> list[Row | RequestError]:
        """Writes the codes of an image for each row's words."""
        results = [self._check_length(row, settings) for row in rows]
        fitting = [row for row in results if isinstance(row, Row)]
        if fitting:
            words, generation = [row.chat for row in fitting], self._generation(fitting, settings)
            self.studio.write_images(words, self._listener(fitting, settings), **generation)
        return results

    def _check_length(self, row: Row, settings: WriteSettings) -> Row | RequestError:
        row.ids, row.finish_reason, row.pieces = [], None, []
        name, limit = row.name, self.studio.context_length
        try:
            row.num_prompt_tokens = self.studio.count_tokens(row.chat, settings.mode)
        except TemplateError as error:
            return RequestError(f"`{name}` does not fit the chat template: {error}.", name, code="invalid_value")
        except ValueError as error:
            return RequestError(f"`{name}` is no prompt for the model: {error}", name, code="invalid_value")
        if row.num_prompt_tokens == 0:
            return RequestError(f"`{name}` is empty; allowed: some words or an image.", name, code="invalid_value")
        if limit is not None and row.num_prompt_tokens + settings.max_tokens > limit:
            message = f"`{name}` has {row.num_prompt_tokens} tokens; allowed beside an answer of up to "
            message += f"{settings.max_tokens}: {max(0, limit - settings.max_tokens)}."
            return RequestError(message, name, code="context_length_exceeded")
        return row

    def _generation(self, rows: list[Row], settings: WriteSettings) -> dict[str, Any]:
        studio = self.studio
        defaults = studio.image_generation if settings.mode == "image" else {}
        warmth = defaults.get("temperature", 1.0) if defaults.get("do_sample") else 0.0
        warmths = [warmth if row.temperature is None else row.temperature for row in rows]
        top_ps = [defaults.get("top_p", 1.0) if row.top_p is None else row.top_p for row in rows]
        processors = LogitsProcessorList()
        if any(warmths):
            processors.append(RowSampling(warmths, top_ps, [row.seed for row in rows]))
        if any(row.first_codes for row in rows):
            layout = studio.processor.tokenizer.image_token_layout
            processors.insert(0, FirstCodes(layout, [row.first_codes for row in rows]))
        generation = {"do_sample": False, "logits_processor": processors}
        if settings.mode != "image":
            return {**generation, "max_new_tokens": settings.max_tokens}
        return {**(defaults if isinstance(rows[0].chat, str) else self._guidance_in_chats()), **generation}

    def _guidance_in_chats(self) -> dict[str, Any]:
        """Guidance whose prompt has opened the image where the chat template has."""
        names = ("guidance_scale", "negative_prompt_ids", "negative_prompt_attention_mask")
        guidance = {name: value for name, value in self.studio.image_generation.items() if name in names}
        chat, template = [{"role": "user", "content": "x"}], self.studio.processor.apply_chat_template
        prompt = template(chat, tokenize=False, add_generation_prompt=True, generation_mode="image")
        if prompt.endswith(BOI_TOKEN):
            openers = (self.studio.processor.tokenizer.boi_token_id, 1)
            for name, opener in zip(names[1:], openers, strict=True):
                if guidance.get(name) is not None:
                    guidance[name] = torch.nn.functional.pad(guidance[name], (0, 1), value=opener)
        return guidance

    def _listener(self, rows: list[Row], settings: WriteSettings) -> Callable[[torch.Tensor], list[bool]]:
        """Follows the rows token by token; says which are finished."""
        ends = self.studio.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        if settings.mode == "image":
            ends = {self.studio.processor.tokenizer.eoi_token_id}

        def listen(ids: torch.Tensor) -> list[bool]:
            return [self._advance(row, own, ends, settings) for row, own in zip(rows, ids.tolist(), strict=True)]

        return listen

    def _advance(self, row: Row, ids: list[int], ends: set[int], settings: WriteSettings) -> bool:
        if row.finish_reason is not None:
            return True
        row.ids = ids
        self.metrics.tokens.inc()
        if row.is_cancelled:
            row.finish_reason = "cancelled"
            self.metrics.stopped_rows.inc()
        elif ids[-1] in ends:
            row.finish_reason = "stop"
        elif len(ids) >= settings.max_tokens:
            row.finish_reason = "length"
        if row.stop or row.on_pieces or row.finish_reason:
            self._show(row)
        return row.finish_reason is not None

    def _show(self, row: Row):
        pieces = self.studio.pieces(row.ids)
        row.pieces = cut_at_stop(pieces, row.stop)
        if row.pieces is not pieces:
            row.finish_reason = "stop"
        if row.on_pieces:
            row.on_pieces(row.pieces)


__all__ = ["DrawSettings", "Item", "Row", "Work", "WriteSettings", "cut_at_stop"]
