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
"""Generation with [`SeedForCausalLM`]: the image-span grammar, guidance over image tokens, and `generate()`."""

import copy

import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
    __version__,
)

from .generation_steps_seed import SeedImageSteps
from .image_tokens_seed import ImageTokenLayout


try:
    from transformers.generation.continuous_batching.cb_logits_processors import (
        CLASSIC_TO_CB_PROCESSORS_MAP,
        ContinuousBatchingLogitsProcessor,
    )
except ImportError:  # an older transformers
    CLASSIC_TO_CB_PROCESSORS_MAP, ContinuousBatchingLogitsProcessor = None, object


GENERATION_MODES = ("text", "image", "interleaved")
# transformers 5.24 renames the first to the second
_CACHE_NAMES = ("past_key_values", "cache")

# States of the grammar: where the next id would stand; from the last one on, one for each place in the span
_OUTSIDE, _OUTSIDE_MAY_OPEN, _AT_SPAN_END, _IN_SPAN = range(4)


class SeedImageSpanLogitsProcessor(LogitsProcessor):
    r"""
    Keeps generated ids inside the grammar: an image span is `<img>` + `num_query_tokens` image tokens + `</img>`.
    Where each query has its own part of the codebook, the image token at place i belongs to part i.

    The state is read from the ids alone, so that beams, batches with left padding, assisted decoding and prompts
    that end in the middle of a span all work.

    Args:
        layout ([`ImageTokenLayout`]): Which ids are image tokens.
        generation_mode (`str`, defaults to `"text"`):
            `"text"` never emits an image token, `"image"` emits image spans and nothing else, `"interleaved"` emits
            text in which the model may open image spans.
        max_length (`int`, *optional*): Longest sequence, prompt included. With it, `"interleaved"` opens no span that
            would not fit.
        num_codes (`int`, *optional*): Number of codes after which a span ends: the first ones of an image, which are
            an image already. By default `num_query_tokens`.

    Raises:
        ValueError: An unknown `generation_mode`, or `num_codes` out of range.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf import SeedConfig
    >>> from seed_hf.models.generation_seed import SeedImageSpanLogitsProcessor
    >>> layout = SeedConfig().image_token_layout
    >>> processor = SeedImageSpanLogitsProcessor(layout, "image")
    >>> scores = processor(torch.tensor([[2, 100]]), torch.zeros(1, 58467))
    >>> scores.argmax(-1).item() == layout.boi_token_id
    True

    ```
    """

    # whether nobody asks for the logits that it will forbid; see `SeedGenerationMixin._sample`
    is_only_reader = False

    def __init__(
        self,
        layout: ImageTokenLayout,
        generation_mode: str = "text",
        max_length: int | None = None,
        num_codes: int | None = None,
    ):
        if generation_mode not in GENERATION_MODES:
            raise ValueError(f"`generation_mode` is {generation_mode!r}; allowed: {GENERATION_MODES}.")
        self.layout = layout
        self.generation_mode = generation_mode
        self.max_length = max_length
        self.num_codes = _check_num_codes(num_codes, layout)
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
            limits = limits[_OUTSIDE]
        else:
            limits = limits.index_select(0, states.to(scores.device))
        processed = torch.minimum(scores, limits)
        # an earlier processor (`min_new_tokens`, `suppress_tokens`, a forced end) may have removed all that the
        # grammar allows here: the grammar wins, else sampling would meet a row without any finite score
        is_dead = torch.isneginf(processed.amax(dim=-1, keepdim=True))
        # not `torch.where`, which takes three times as long with a condition for each row
        at_least = torch.zeros_like(is_dead, dtype=scores.dtype).masked_fill(~is_dead, -float("inf"))
        return torch.maximum(processed, limits.clamp(max=0) + at_least)

    def state_of(self, num_tokens: int | None, room: int | None) -> int:
        """
        Gives the state of one sequence.

        Args:
            num_tokens (`int`, *optional*): Ids after an `<img>` that is not closed; `None` outside a span.
            room (`int`, *optional*): Number of ids that may still come; `None` for any number.

        Returns:
            `int`: State for `mask_states`.
        """
        if num_tokens is not None:
            return _IN_SPAN + num_tokens if num_tokens < self.num_codes else _AT_SPAN_END
        fits = room is None or self.num_codes + 2 <= room
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
        inside = torch.where(num_tokens < self.num_codes, _IN_SPAN + num_tokens, _AT_SPAN_END)
        return torch.where(is_open, inside, _OUTSIDE_MAY_OPEN if may_open else _OUTSIDE)

    def _span_fits(self, input_ids: torch.Tensor) -> bool:
        span_length = self.num_codes + 2
        return self.max_length is None or input_ids.shape[-1] + span_length <= self.max_length


class SeedContinuousBatchingSpanProcessor(ContinuousBatchingLogitsProcessor):
    """
    The grammar in continuous batching, where a processor is given no ids but a number for each request: here
    the number of a request is its state in the grammar.

    Args:
        processor ([`SeedImageSpanLogitsProcessor`]): Knows the states and what they allow.
    """

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, processor: LogitsProcessor):
        self.processor = processor

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """The first state, for rows without a request."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list) -> torch.Tensor:
        """The state of each request, an int32 vector."""
        states = [self._state_of(request.state) for request in requests_with_new_token]
        return torch.tensor(states, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`-inf` in `scores` `(num_requests, vocab_size)` where the grammar forbids an id."""
        return self.processor.mask_states(scores, tensor_arg[: scores.shape[0]].long())

    def _state_of(self, request) -> int:
        layout = self.processor.layout
        length = layout.num_query_tokens + 1
        tail = request.generated_tokens[-length:]
        tail = request.initial_tokens[-length:] + tail if len(tail) < length else tail
        num_tokens = _tokens_in_open_span(tail, layout)
        room = None if request.max_new_tokens is None else request.max_new_tokens - len(request.generated_tokens)
        return self.processor.state_of(num_tokens, room)


def _tokens_in_open_span(token_ids: list[int], layout: ImageTokenLayout) -> int | None:
    """How many ids follow an `<img>` that is not closed; `None` outside a span."""
    for count, token_id in enumerate(reversed(token_ids)):
        if token_id == layout.eoi_token_id or count > layout.num_query_tokens:
            return None
        if token_id == layout.boi_token_id:
            return count
    return None


class SeedImageGuidanceLogitsProcessor(UnbatchedClassifierFreeGuidanceLogitsProcessor):
    r"""
    Classifier-free guidance over image tokens only; text keeps its own scores.

    The arithmetic and the unconditional cache are those of transformers'
    `UnbatchedClassifierFreeGuidanceLogitsProcessor`, whose cache does not follow beams.

    Args:
        layout ([`ImageTokenLayout`]): Which ids are image tokens.
        guidance_scale (`float`): 1 is no guidance; larger follows the prompt more closely.
        model ([`SeedForCausalLM`]): Model that gives the unconditional scores.
        unconditional_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*):
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

    def get_unconditional_logits(self, input_ids: torch.LongTensor) -> torch.FloatTensor:
        """Logits of the unconditional branch for the next id, `(batch_size, 1, vocab_size)`, in float32."""
        if self.unconditional_context["first_pass"]:
            self._expand_prompt(input_ids)
        # in float32, as `generate` has those of the prompt
        return super().get_unconditional_logits(input_ids)[:, -1:].float()

    def check_rows(self, batch_size: int):
        """`ValueError` unless there is one unconditional prompt, or one for each of `batch_size` prompts."""
        ids = self.unconditional_context["input_ids"]
        if ids is not None and ids.shape[0] not in (1, batch_size):
            raise ValueError(f"`negative_prompt_ids` has {ids.shape[0]} rows; allowed: 1 or {batch_size}.")

    def _expand_prompt(self, input_ids: torch.LongTensor):
        """An unconditional prompt for each row, as many as `num_return_sequences` has made of them."""
        context, rows = self.unconditional_context, input_ids.shape[0]
        ids = input_ids[:, -1:] if context["input_ids"] is None else context["input_ids"]
        mask = torch.ones_like(ids) if context["attention_mask"] is None else context["attention_mask"]
        for name, values in (("input_ids", ids), ("attention_mask", mask)):
            context[name] = values.to(input_ids.device).repeat_interleave(rows // values.shape[0], dim=0)


class SeedBatchedImageGuidanceLogitsProcessor(SeedImageGuidanceLogitsProcessor):
    r"""
    The same guidance in one forward: the unconditional rows stand below the others.

    The sampling loop knows nothing of them: `prepare_inputs_for_generation` adds them to what the model is given, and
    `_update_model_kwargs_for_generation` takes them from what it returns.
    """

    _prompt_length = _logits = None

    def num_more_positions(self, prompt_length: int) -> int:
        """By how much the unconditional prompt is longer than one of `prompt_length` ids."""
        ids = self.unconditional_context["input_ids"]
        return 0 if ids is None else max(0, ids.shape[1] - prompt_length)

    def double(self, input_ids, attention_mask=None, position_ids=None) -> tuple[torch.Tensor, dict]:
        """
        Adds the unconditional rows; what is shorter is padded on the left.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Prompt and what was generated.
            attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Its mask.
            position_ids (`torch.LongTensor` of shape `(batch_size or 1, sequence_length)`, *optional*): Its positions.

        Returns:
            Ids of twice the rows, and a dictionary of their `attention_mask` and `position_ids`.
        """
        if self._prompt_length is None:
            self._prompt_length = input_ids.shape[1]
            self._expand_prompt(input_ids)
        new_ids = input_ids[:, self._prompt_length :]
        below = torch.cat([self.unconditional_context["input_ids"], new_ids], dim=1)
        mask_below = torch.cat([self.unconditional_context["attention_mask"], torch.ones_like(new_ids)], dim=1)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = _positions_of(mask) if position_ids is None else position_ids.expand(len(input_ids), -1)
        inputs = {
            "attention_mask": _stack_left_padded(mask, mask_below),
            "position_ids": _stack_left_padded(positions, _positions_of(mask_below)),
        }
        return _stack_left_padded(input_ids, below), inputs

    def take_rows(self, outputs):
        """Takes the unconditional logits out of the outputs of the model, in place."""
        outputs.logits, self._logits = outputs.logits.chunk(2)

    def get_unconditional_logits(self, input_ids: torch.LongTensor) -> torch.FloatTensor:
        """Logits of the unconditional branch for the next id, `(batch_size, 1, vocab_size)`, in float32."""
        # in float16 the logarithm of what is no code overflows, and guidance makes NaN of it
        return self._logits[:, -1:].float()


def _positions_of(attention_mask: torch.Tensor) -> torch.Tensor:
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def _stack_left_padded(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Both below each other, with zeros on the left of the shorter one."""
    width = max(first.shape[1], second.shape[1])
    return torch.cat([torch.nn.functional.pad(rows, (width - rows.shape[1], 0)) for rows in (first, second)])


if CLASSIC_TO_CB_PROCESSORS_MAP is not None:
    CLASSIC_TO_CB_PROCESSORS_MAP[SeedImageSpanLogitsProcessor] = SeedContinuousBatchingSpanProcessor


class SeedGenerationMixin:
    """
    Generation with [`SeedForCausalLM`]; decoding itself is transformers'.

    Everything that is wanted stands in the generation configuration, and what it means is done in the hooks of
    transformers' `generate()`, so that whatever hands over a configuration alone gets the same.
    """

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        *,
        generation_mode: str | None = None,
        num_codes: int | None = None,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        guidance_scale: float | None = None,
        negative_prompt_ids: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ):
        """
        Generates text, an image, or both, with every option of transformers' `generate()`.

        Inside images only the logits of codes are computed, and ids that nothing else can follow take no forward, as
        long as nobody looks: with `return_dict_in_generate`, a cache, vectors or processors of your own, with beams,
        an assistant or a static cache every step is computed in full. The ids are the same.

        Args:
            inputs (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): The prompt, left padded;
                `input_ids` means the same.
            generation_config (`GenerationConfig`, *optional*): As in transformers.
            logits_processor (`LogitsProcessorList`, *optional*): Further processors, applied before the grammar.
            generation_mode (`str`, *optional*): `"text"` emits no image token; `"image"` emits one image span (or
                finishes the one in which the prompt ends); `"interleaved"` leaves the choice to the model. Defaults
                to the generation configuration's, or `"text"`.
            num_codes (`int`, *optional*): Number of codes of each image that is written: the first ones, with which it
                can be decoded. Defaults to the generation configuration's, or all.
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`, *optional*):
                Images for the `<image>` placeholders of the prompt; they come back as image tokens.
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`, *optional*): Their codes instead.
            guidance_scale (`float`, *optional*): Classifier-free guidance; over image tokens only, except in text
                mode, where it is transformers' own. It takes one forward of twice the rows, or two forwards with a
                cache or vectors of your own, `prefill_chunk_size` or `return_dict_in_generate`.
            negative_prompt_ids (`torch.LongTensor` of shape `(batch_size or 1, length)`, *optional*): The
                unconditional prompt of the guidance. Defaults to the last token of the prompt.
            negative_prompt_attention_mask (`torch.LongTensor`, *optional*): Its attention mask.
            kwargs: Everything else that transformers' `generate()` accepts.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length)` with the prompt first, or the
            `ModelOutput` of transformers.

        Raises:
            ValueError: An unknown mode, `num_codes` out of range, images that do not fit the placeholders, a prompt
                with a malformed span, a limit too short for an image, or guidance with beams or assisted decoding.
        """
        images = {"pixel_values": pixel_values, "codes": codes}
        settings = {"generation_mode": generation_mode, "guidance_scale": guidance_scale, "num_codes": num_codes}
        kwargs |= {name: value for name, value in (images | settings).items() if value is not None}
        negative = {"negative_prompt_ids": negative_prompt_ids}
        negative["negative_prompt_attention_mask"] = negative_prompt_attention_mask
        if negative_prompt_ids is not None:
            kwargs["unconditional_prompt"] = (negative_prompt_ids, negative_prompt_attention_mask)
        return super().generate(inputs, generation_config, logits_processor, **negative, **kwargs)

    def _prepare_generation_config(
        self, generation_config, generation_mode=None, num_codes=None, unconditional_prompt=(None, None), **kwargs
    ):
        generation_config, model_kwargs = super()._prepare_generation_config(generation_config, **kwargs)
        for name, value in (("generation_mode", generation_mode), ("num_codes", num_codes)):
            if value is not None:
                setattr(generation_config, name, value)
        if _mode_of(generation_config) == "image" and not generation_config.is_assistant:
            # a limit that a configuration carries is meant for texts; one in the call is checked with the prompt
            generation_config.max_length = kwargs.get("max_length")
            generation_config.max_new_tokens = kwargs.get("max_new_tokens")
            self._end_with_the_image(generation_config)
        if _is_guided(generation_config):
            model_kwargs["guidance"] = self._image_guidance(generation_config, model_kwargs, *unconditional_prompt)
        return generation_config, model_kwargs

    def _image_guidance(self, generation_config, model_kwargs, *unconditional_prompt):
        # what comes in or goes out with rows of its own cannot have the unconditional rows too
        is_alone = _is_closed(generation_config, model_kwargs)
        is_alone &= all(model_kwargs.get(name) is None for name in _CACHE_NAMES)
        kind = SeedBatchedImageGuidanceLogitsProcessor if is_alone else SeedImageGuidanceLogitsProcessor
        return kind(
            self.config.image_token_layout,
            generation_config.guidance_scale,
            self,
            unconditional_ids=unconditional_prompt[0],
            unconditional_attention_mask=unconditional_prompt[1],
            use_cache=generation_config.use_cache is not False,
        )

    def _validate_model_kwargs(self, model_kwargs):
        # the first is ours; the forward of the wrapped model takes the others, by release of transformers
        known = ("guidance", *_CACHE_NAMES)
        super()._validate_model_kwargs({name: value for name, value in model_kwargs.items() if name not in known})

    def _end_with_the_image(self, generation_config):
        """Every sequence ends at its `</img>`; what pads it afterwards is the end of texts."""
        eoi, eos = self.config.image_token_layout.eoi_token_id, generation_config.eos_token_id
        if generation_config.pad_token_id is None:
            generation_config.pad_token_id = eos[0] if isinstance(eos, list) else (eoi if eos is None else eos)
        generation_config.eos_token_id = eoi

    def _validate_generation_mode(self, generation_mode, generation_config, generation_mode_kwargs):
        super()._validate_generation_mode(generation_mode, generation_config, generation_mode_kwargs)
        if not _is_guided(generation_config):
            return
        if generation_config.num_beams is not None and generation_config.num_beams > 1:
            raise ValueError(f"`num_beams` is {generation_config.num_beams}; allowed with `guidance_scale`: 1.")
        # its own rows and caches do not follow candidates that are taken back
        for name in ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit"):
            if generation_mode_kwargs.get(name, getattr(generation_config, name, None)) is not None:
                raise ValueError(f"`{name}` is given; allowed with `guidance_scale`: None.")

    def _prepare_model_inputs(self, inputs, bos_token_id, model_kwargs):
        images = {name: model_kwargs.pop(name, None) for name in ("pixel_values", "codes")}
        inputs = model_kwargs.pop("input_ids", None) if inputs is None else inputs
        if any(value is not None for value in images.values()):
            if inputs is None:
                raise ValueError(
                    "`input_ids` is None but images were given; allowed: a prompt with `<image>` placeholders."
                )
            # not in `prepare_inputs_for_generation`: beams and the grammar read the codes among the ids
            inputs = self.insert_images(inputs, **images)
        return super()._prepare_model_inputs(inputs, bos_token_id, model_kwargs)

    def _prepare_generated_length(self, generation_config, inputs_tensor, **kwargs):
        # an assistant writes a few tokens of what another model has checked
        if not generation_config.is_assistant:
            # vectors instead of ids tell nothing of spans
            prompt = inputs_tensor if inputs_tensor.ndim == 2 else inputs_tensor.new_zeros((1, 0), dtype=torch.long)
            self._check_prompt(prompt, _mode_of(generation_config))
            if _mode_of(generation_config) == "image":
                self._make_room_for_one_image(prompt, generation_config)
        return super()._prepare_generated_length(generation_config, inputs_tensor=inputs_tensor, **kwargs)

    def _check_prompt(self, input_ids, generation_mode):
        layout = self.config.image_token_layout
        if bool((input_ids == layout.image_placeholder_token_id).any()):
            raise ValueError(
                "`input_ids` holds `<image>` placeholders but neither `pixel_values` nor `codes` was given."
            )
        is_open, num_tokens = layout.span_state(input_ids)
        if bool((is_open & (num_tokens > layout.num_query_tokens)).any()):
            raise ValueError(
                f"`input_ids` has an `<img>` without `</img>` after {layout.num_query_tokens} image tokens."
            )
        if generation_mode == "text" and bool(is_open.any()):
            raise ValueError(
                "`input_ids` ends in the middle of an image span and `generation_mode` is 'text'; allowed: 'image' or "
                "'interleaved'."
            )

    def _make_room_for_one_image(self, input_ids, generation_config):
        layout, asked = self.config.image_token_layout, generation_config.max_new_tokens
        is_open, num_tokens = layout.span_state(input_ids)
        num_codes = _check_num_codes(getattr(generation_config, "num_codes", None), layout)
        remaining = (num_codes - num_tokens).clamp(min=0) + 1
        needed = int(torch.where(is_open, remaining, num_codes + 2).max())
        if asked is not None and asked < needed:
            raise ValueError(f"`max_new_tokens` is {asked}; allowed for an image: at least {needed}.")
        longest, needed_length = generation_config.max_length, input_ids.shape[1] + needed
        if longest is not None and longest < needed_length:
            raise ValueError(f"`max_length` is {longest}; allowed for an image after this prompt: {needed_length}.")
        generation_config.max_length, generation_config.max_new_tokens = None, needed

    def _prepare_cache_for_generation(
        self, generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
    ):
        guidance = model_kwargs.get("guidance")
        if isinstance(guidance, SeedBatchedImageGuidanceLogitsProcessor):
            batch_size *= 2
            max_cache_length += guidance.num_more_positions(model_kwargs["position_ids"].shape[-1])
        super()._prepare_cache_for_generation(
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
        )

    def _get_logits_processor(
        self, generation_config, encoder_input_ids=None, logits_processor=None, model_kwargs=None, **kwargs
    ):
        processors = LogitsProcessorList(logits_processor or [])
        is_only_reader = all(getattr(processor, "runs_last", False) for processor in processors)
        # where one is given, this model assists another one, whose grammar says what may follow
        if not any(isinstance(processor, SeedImageSpanLogitsProcessor) for processor in processors):
            guidance = (model_kwargs or {}).get("guidance")
            if guidance is not None:
                guidance.check_rows(len(encoder_input_ids))
                processors.append(guidance)
                generation_config = copy.copy(generation_config)
                generation_config.guidance_scale = None
            processors.append(self._grammar(generation_config, has_length=encoder_input_ids is not None))
            processors[-1].is_only_reader = is_only_reader
        processors = super()._get_logits_processor(
            generation_config,
            encoder_input_ids=encoder_input_ids,
            logits_processor=processors,
            model_kwargs=model_kwargs,
            **kwargs,
        )
        # one that draws a token must see the scores as guidance and the grammar leave them
        processors.sort(key=lambda processor: getattr(processor, "runs_last", False))
        return processors

    def _grammar(self, generation_config, has_length: bool) -> SeedImageSpanLogitsProcessor:
        mode = _mode_of(generation_config)
        # continuous batching has a length for each request
        max_length = generation_config.max_length if has_length and mode == "interleaved" else None
        num_codes = getattr(generation_config, "num_codes", None)
        return SeedImageSpanLogitsProcessor(self.config.image_token_layout, mode, max_length, num_codes)

    def _sample(
        self, input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus=False, **model_kwargs
    ):
        grammar = next((each for each in logits_processor if isinstance(each, SeedImageSpanLogitsProcessor)), None)
        may_skip = grammar is not None and grammar.is_only_reader and grammar.generation_mode != "text"
        # processes that hold parts of one model have to call it equally often
        may_skip &= not synced_gpus and not generation_config.is_assistant and not self.language_model._is_stateful
        may_skip &= _is_closed(generation_config, model_kwargs) and _is_fresh(_cache_of(model_kwargs))
        if may_skip:
            steps = SeedImageSteps(grammar.layout, grammar.generation_mode, grammar.num_codes)
            model_kwargs["image_steps"] = steps
        return super()._sample(
            input_ids,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            generation_config=generation_config,
            synced_gpus=synced_gpus,
            **model_kwargs,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids,
        next_sequence_length=None,
        attention_mask=None,
        inputs_embeds=None,
        is_first_iteration=False,
        guidance=None,
        image_steps=None,
        **kwargs,
    ):
        """As in transformers; with guidance, of twice the rows; inside images only what the next step needs."""
        is_batched = isinstance(guidance, SeedBatchedImageGuidanceLogitsProcessor)
        if is_first_iteration and (is_batched or image_steps is not None):
            # rows that guidance adds may be longer than the prompt, of which nothing may be cut
            next_sequence_length = None
        if image_steps is not None:
            kwargs["needed_logits"], next_sequence_length = image_steps.next(input_ids, next_sequence_length)
        if is_batched:
            input_ids, doubled = guidance.double(input_ids, attention_mask, kwargs.get("position_ids"))
            attention_mask = doubled.pop("attention_mask")
            kwargs |= doubled
        return super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        guidance = model_kwargs.get("guidance")
        if isinstance(guidance, SeedBatchedImageGuidanceLogitsProcessor):
            guidance.take_rows(outputs)
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    def generate_batch(self, inputs, generation_config=None, *args, **kwargs):
        """
        As in transformers, under the grammar of `generation_config.generation_mode` (see `generate`).

        Args:
            inputs (`list[list[int]]`): Prompts.
            generation_config (`GenerationConfig`, *optional*): As in `init_continuous_batching`.
            args, kwargs: As in transformers.

        Returns:
            `dict`: As in transformers.
        """
        return super().generate_batch(inputs, self._config_for_batching(generation_config), *args, **kwargs)

    def init_continuous_batching(self, generation_config=None, continuous_batching_config=None, **kwargs):
        """
        As in transformers, under the grammar of `generation_config.generation_mode` (see `generate`).

        Args:
            generation_config (`GenerationConfig`, *optional*): With `"image"`, a request ends with its `</img>`, and
                `max_new_tokens` counts only where it is given with the request. No `guidance_scale`.
            continuous_batching_config (`ContinuousBatchingConfig`, *optional*): The grammar needs
                `per_request_processors`, which are turned on, and no `use_async_batching`.
            kwargs: As in transformers.

        Raises:
            ValueError: `use_async_batching`, guidance, an unknown mode, or a release of transformers without what this
                needs.
        """
        if CLASSIC_TO_CB_PROCESSORS_MAP is None:
            raise ValueError(
                f"transformers {__version__} has no processors for each request, which continuous batching "
                "needs; allowed: a newer release."
            )
        from transformers import ContinuousBatchingConfig

        settings = copy.copy(continuous_batching_config or ContinuousBatchingConfig())
        if settings.use_async_batching:
            raise ValueError("`use_async_batching` is True; allowed: False, since the grammar reads the last id.")
        settings.per_request_processors, settings.use_async_batching = True, False
        return super().init_continuous_batching(self._config_for_batching(generation_config), settings, **kwargs)

    def _config_for_batching(self, generation_config: GenerationConfig | None) -> GenerationConfig:
        generation_config = generation_config or self.generation_config
        if _is_guided(generation_config):
            scale = generation_config.guidance_scale
            raise ValueError(f"`guidance_scale` is {scale}; allowed in continuous batching: None or 1.")
        if _mode_of(generation_config) == "image":
            generation_config = copy.deepcopy(generation_config)
            # meant for texts, as in `generate`
            generation_config.max_new_tokens = None
            self._end_with_the_image(generation_config)
        return generation_config


def _is_closed(generation_config: GenerationConfig, model_kwargs: dict) -> bool:
    """Whether ids alone come in and go out, so that what happens in between is ours."""
    is_closed = generation_config.prefill_chunk_size is None and not generation_config.return_dict_in_generate
    return is_closed and model_kwargs.get("inputs_embeds") is None


def _cache_of(model_kwargs: dict):
    return next((model_kwargs[name] for name in _CACHE_NAMES if model_kwargs.get(name) is not None), None)


def _is_fresh(cache) -> bool:
    """Whether a cache takes any number of ids at a time, and nobody looks at it afterwards; none does too."""
    if cache is None:
        return True
    return type(cache) is DynamicCache and cache.get_seq_length() == 0 and not hasattr(cache, "_is_user_defined")


def _mode_of(generation_config: GenerationConfig) -> str:
    generation_mode = getattr(generation_config, "generation_mode", None)
    generation_mode = "text" if generation_mode is None else generation_mode
    if generation_mode not in GENERATION_MODES:
        raise ValueError(f"`generation_mode` is {generation_mode!r}; allowed: {GENERATION_MODES}.")
    return generation_mode


def _check_num_codes(num_codes: int | None, layout: ImageTokenLayout) -> int:
    num_codes = layout.num_query_tokens if num_codes is None else num_codes
    if not isinstance(num_codes, int) or not 1 <= num_codes <= layout.num_query_tokens:
        raise ValueError(f"`num_codes` is {num_codes!r}; allowed: an integer in [1, {layout.num_query_tokens}].")
    return num_codes


def _is_guided(generation_config: GenerationConfig) -> bool:
    """Whether image tokens are guided; in text mode guidance is transformers' own."""
    return generation_config.guidance_scale not in (None, 1) and _mode_of(generation_config) != "text"


__all__ = ["SeedGenerationMixin", "SeedImageGuidanceLogitsProcessor", "SeedImageSpanLogitsProcessor"]
