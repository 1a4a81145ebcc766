"""Logits processors for stock `generate()`: the image-span grammar and guidance over image tokens."""

import torch
from transformers import LogitsProcessor, UnbatchedClassifierFreeGuidanceLogitsProcessor

from .continuous_batching_seed import CLASSIC_TO_CB_PROCESSORS_MAP, SeedContinuousBatchingSpanProcessor
from .image_tokens_seed import ImageTokenLayout


GENERATION_MODES = ("text", "image", "interleaved")

# States of the grammar: where the next id would stand; from the last one on, one for each place in the span
_OUTSIDE, _OUTSIDE_MAY_OPEN, _AT_SPAN_END, _IN_SPAN = range(4)


class SeedImageSpanLogitsProcessor(LogitsProcessor):
    r"""
    Keeps generated ids inside the grammar: an image span is `<img>` + `num_query_tokens` image tokens + `</img>`.
    Where each query has its own part of the codebook, the image token at place i is of part i.

    The state is read from the ids alone, so that beams, batches with left padding, assisted decoding and prompts
    that end in the middle of a span all work.

    Args:
        layout ([`ImageTokenLayout`]): Which ids are image tokens.
        generation_mode (`str`, defaults to `"text"`):
            `"text"` never emits an image token, `"image"` emits image spans and nothing else, `"interleaved"` emits
            text in which the model may open image spans.
        max_length (`int`, *optional*): Longest sequence, prompt included. With it, `"interleaved"` opens no span that
            would not fit.

    Raises:
        ValueError: An unknown `generation_mode`.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf import SeedConfig
    >>> from seed_hf.models.logits_process_seed import SeedImageSpanLogitsProcessor
    >>> layout = SeedConfig().image_token_layout
    >>> processor = SeedImageSpanLogitsProcessor(layout, "image")
    >>> scores = processor(torch.tensor([[2, 100]]), torch.zeros(1, 58467))
    >>> scores.argmax(-1).item() == layout.boi_token_id
    True

    ```
    """

    def __init__(self, layout: ImageTokenLayout, generation_mode: str = "text", max_length: int | None = None):
        if generation_mode not in GENERATION_MODES:
            raise ValueError(f"`generation_mode` is {generation_mode!r}; allowed: {GENERATION_MODES}.")
        self.layout = layout
        self.generation_mode = generation_mode
        self.max_length = max_length
        self._table = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """
        Masks what the grammar forbids.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids so far.
            scores (`torch.FloatTensor` of shape `(batch_size, vocab_size)`): Logits of the next id.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, vocab_size)`: `-inf` where forbidden.
        """
        return self.mask_states(scores, None if self.generation_mode == "text" else self._state(input_ids))

    def mask_states(self, scores: torch.Tensor, states: torch.LongTensor | None) -> torch.Tensor:
        """`-inf` in `scores` `(batch_size, vocab_size)` where `states` `(batch_size,)`, by default text, forbid."""
        limits = self._limits(scores)
        if self.generation_mode == "text" or states is None:
            limits = limits[_OUTSIDE].expand(scores.shape)
        else:
            limits = limits.index_select(0, states.to(scores.device))
        processed = torch.minimum(scores, limits)
        # an earlier processor (`min_new_tokens`, `suppress_tokens`, a forced end) may have removed all that the
        # grammar allows here: the grammar wins, else sampling would meet a row without any finite score
        is_dead = torch.isneginf(processed.amax(dim=-1, keepdim=True))
        return torch.where(is_dead, limits.clamp(max=0), processed)

    def state_of(self, num_tokens: int | None, room: int | None) -> int:
        """
        State of one sequence.

        Args:
            num_tokens (`int`, *optional*): Ids after an `<img>` that is not closed; `None` outside a span.
            room (`int`, *optional*): How many ids may still come; `None` for any number.

        Returns:
            `int`: for `mask_states`.
        """
        if num_tokens is not None:
            return _IN_SPAN + num_tokens if num_tokens < self.layout.num_query_tokens else _AT_SPAN_END
        fits = room is None or self.layout.num_query_tokens + 2 <= room
        return _OUTSIDE_MAY_OPEN if self.generation_mode == "interleaved" and fits else _OUTSIDE

    def _limits(self, scores: torch.Tensor) -> torch.Tensor:
        """
        Upper bounds of the scores, one row for each state: `inf` where allowed, `-inf` where forbidden.

        Built once and kept, because this runs at every token and a vocabulary is long.
        """
        wanted = (scores.shape[-1], scores.dtype, scores.device)
        if self._table is None or (self._table.shape[-1], self._table.dtype, self._table.device) != wanted:
            layout = self.layout
            ids = torch.arange(scores.shape[-1], device=scores.device)
            is_image = layout.is_image_token(ids)
            is_boi, is_eoi = ids == layout.boi_token_id, ids == layout.eoi_token_id
            is_text = ~(is_image | is_boi | is_eoi | (ids == layout.image_placeholder_token_id))
            outside = is_boi if self.generation_mode == "image" else is_text
            allowed = torch.stack([outside, is_text | is_boi, is_eoi, *layout.is_image_token_at(ids)])
            self._table = torch.full_like(allowed, -float("inf"), dtype=scores.dtype)
            self._table.masked_fill_(allowed, float("inf"))
        return self._table

    def _state(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Row of `_limits` for each sequence, `(batch_size,)`."""
        is_open, num_tokens = self.layout.span_state(input_ids)
        may_open = self.generation_mode == "interleaved" and self._span_fits(input_ids)
        inside = torch.where(num_tokens < self.layout.num_query_tokens, _IN_SPAN + num_tokens, _AT_SPAN_END)
        return torch.where(is_open, inside, _OUTSIDE_MAY_OPEN if may_open else _OUTSIDE)

    def _span_fits(self, input_ids: torch.Tensor) -> bool:
        span_length = self.layout.num_query_tokens + 2
        return self.max_length is None or input_ids.shape[-1] + span_length <= self.max_length


class SeedImageGuidanceLogitsProcessor(UnbatchedClassifierFreeGuidanceLogitsProcessor):
    r"""
    Classifier-free guidance over image tokens only; text keeps its own scores.

    The arithmetic and the unconditional cache are those of transformers'
    `UnbatchedClassifierFreeGuidanceLogitsProcessor`, whose cache does not follow beams.

    Args:
        layout ([`ImageTokenLayout`]): Which ids are image tokens.
        guidance_scale (`float`): 1 is no guidance; larger follows the prompt more closely.
        model ([`SeedForCausalLM`]): Gives the unconditional scores.
        unconditional_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            The unconditional prompt. Defaults to the last token of the prompt.
        unconditional_attention_mask (`torch.LongTensor`, *optional*): Its attention mask.
        use_cache (`bool`, defaults to `True`): Whether to cache keys and values of the unconditional branch.
    """

    def __init__(self, layout: ImageTokenLayout, guidance_scale: float, model, **kwargs):
        super().__init__(guidance_scale, model, **kwargs)
        self.layout = layout

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Guided scores for the sequences that are about to write an image token, `scores` for the others."""
        guided = super().__call__(input_ids, scores)
        is_open, num_tokens = self.layout.span_state(input_ids)
        writes_code = is_open & (num_tokens < self.layout.num_query_tokens)
        return torch.where(writes_code[:, None], guided, scores)


if CLASSIC_TO_CB_PROCESSORS_MAP is not None:
    CLASSIC_TO_CB_PROCESSORS_MAP[SeedImageSpanLogitsProcessor] = SeedContinuousBatchingSpanProcessor


__all__ = ["SeedImageGuidanceLogitsProcessor", "SeedImageSpanLogitsProcessor"]
