"""What `SeedForCausalLM` adds around transformers' `generate()`: image inputs, the span grammar, image guidance."""

import copy

import torch
from transformers import GenerationConfig, LogitsProcessorList

from .continuous_batching_seed import CLASSIC_TO_CB_PROCESSORS_MAP
from .logits_process_seed import GENERATION_MODES, SeedImageGuidanceLogitsProcessor, SeedImageSpanLogitsProcessor


class SeedGenerationMixin:
    """`generate()` of [`SeedForCausalLM`]; decoding itself is transformers'."""

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        *,
        generation_mode: str | None = None,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        guidance_scale: float | None = None,
        negative_prompt_ids: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ):
        """
        Generates text, an image, or both, with every option of transformers' `generate()`.

        Args:
            inputs (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): The prompt, left padded;
                `input_ids` means the same.
            generation_config (`GenerationConfig`, *optional*): As in transformers.
            logits_processor (`LogitsProcessorList`, *optional*): Further processors, applied before the grammar.
            generation_mode (`str`, *optional*): `"text"` emits no image token; `"image"` emits one image span (or
                finishes the one in which the prompt ends); `"interleaved"` leaves the choice to the model. Defaults
                to that of the generation configuration, or `"text"`.
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`, *optional*):
                Images for the `<image>` placeholders of the prompt; they come back as image tokens.
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`, *optional*): Or their codes.
            guidance_scale (`float`, *optional*): Classifier-free guidance; over image tokens only, except in text
                mode, where it is transformers' own.
            negative_prompt_ids (`torch.LongTensor` of shape `(batch_size or 1, length)`, *optional*): The
                unconditional prompt of the guidance. Defaults to the last token of the prompt.
            negative_prompt_attention_mask (`torch.LongTensor`, *optional*): Its attention mask.
            kwargs: Everything else that transformers' `generate()` accepts.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length)` with the prompt first, or the
            `ModelOutput` of transformers.

        Raises:
            ValueError: An unknown mode, images that do not fit the placeholders, a prompt with a malformed span, a
                limit too short for an image, or guidance with beams or assisted decoding.
        """
        settings = generation_config or self.generation_config
        if generation_mode is None:
            generation_mode = getattr(settings, "generation_mode", None)
        generation_mode = _check_mode(generation_mode)
        if any(isinstance(processor, SeedImageSpanLogitsProcessor) for processor in logits_processor or []):
            # this model assists another one, whose grammar says what may follow
            return super().generate(inputs, generation_config, logits_processor=logits_processor, **kwargs)
        input_ids = kwargs.pop("input_ids", None) if inputs is None else inputs
        if input_ids is not None:
            input_ids = self._prepare_prompt(input_ids, generation_mode, pixel_values, codes)
            kwargs["input_ids"] = input_ids
        elif pixel_values is not None or codes is not None:
            raise ValueError(
                "`input_ids` is None but images were given; allowed: a prompt with `<image>` placeholders."
            )
        if generation_mode == "image":
            self._limit_to_one_image(input_ids, settings, kwargs)
        if guidance_scale is None:
            guidance_scale = settings.guidance_scale
        negative = {"negative_prompt_ids": negative_prompt_ids}
        negative["negative_prompt_attention_mask"] = negative_prompt_attention_mask
        processors = LogitsProcessorList(logits_processor or [])
        if guidance_scale is not None and guidance_scale != 1 and generation_mode != "text":
            processors.append(self._image_guidance(guidance_scale, input_ids, settings, kwargs, **negative))
            guidance_scale, negative = 1.0, {}
        max_length = self._max_length(input_ids, settings, kwargs) if generation_mode == "interleaved" else None
        layout = self.config.image_token_layout
        processors.append(SeedImageSpanLogitsProcessor(layout, generation_mode, max_length))
        if guidance_scale is not None:
            kwargs["guidance_scale"] = guidance_scale
        return super().generate(generation_config=generation_config, logits_processor=processors, **negative, **kwargs)

    def _get_logits_processor(self, generation_config, *args, **kwargs):
        if not args and not kwargs:
            # continuous batching asks so and does not come through `generate()`
            mode = _check_mode(getattr(generation_config, "generation_mode", None))
            grammar = SeedImageSpanLogitsProcessor(self.config.image_token_layout, mode)
            kwargs["logits_processor"] = LogitsProcessorList([grammar])
        return super()._get_logits_processor(generation_config, *args, **kwargs)

    def init_continuous_batching(self, generation_config=None, continuous_batching_config=None, **kwargs):
        """
        As in transformers, under the grammar of `generation_config.generation_mode` (see `generate`).

        Args:
            generation_config (`GenerationConfig`, *optional*): With `"image"`, a request ends with its `</img>`.
            continuous_batching_config (`ContinuousBatchingConfig`, *optional*): The grammar needs
                `per_request_processors`, which are turned on, and no `use_async_batching`.
            kwargs: As in transformers.

        Raises:
            ValueError: `use_async_batching`, an unknown mode, or a release of transformers without what this needs.
        """
        if CLASSIC_TO_CB_PROCESSORS_MAP is None:
            raise ValueError("Continuous batching needs a newer transformers, with processors for each request.")
        from transformers import ContinuousBatchingConfig

        settings = copy.copy(continuous_batching_config or ContinuousBatchingConfig())
        if settings.use_async_batching:
            raise ValueError("`use_async_batching` is True; allowed: False, since the grammar reads the last id.")
        settings.per_request_processors, settings.use_async_batching = True, False
        generation_config = generation_config or self.generation_config
        if _check_mode(getattr(generation_config, "generation_mode", None)) == "image":
            generation_config = copy.deepcopy(generation_config)
            generation_config.eos_token_id = self.config.image_token_layout.eoi_token_id
        return super().init_continuous_batching(generation_config, settings, **kwargs)

    def _prepare_prompt(self, input_ids, generation_mode, pixel_values, codes):
        layout = self.config.image_token_layout
        if pixel_values is not None or codes is not None:
            # before decoding starts, so that beams and the grammar see the codes themselves
            input_ids = self.insert_images(input_ids, pixel_values, codes)
        elif bool((input_ids == layout.image_placeholder_token_id).any()):
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
        return input_ids

    def _limit_to_one_image(self, input_ids, settings, kwargs):
        """Ends every sequence at its `</img>`; makes room for a whole image."""
        layout = self.config.image_token_layout
        needed = layout.num_query_tokens + 2
        if input_ids is not None:
            is_open, num_tokens = layout.span_state(input_ids)
            remaining = torch.where(is_open, layout.num_query_tokens + 1 - num_tokens, needed)
            needed = int(remaining.max())
        max_new_tokens = kwargs.get("max_new_tokens")
        if max_new_tokens is not None and max_new_tokens < needed:
            raise ValueError(f"`max_new_tokens` is {max_new_tokens}; allowed for an image: at least {needed}.")
        kwargs.pop("max_length", None)
        kwargs["max_new_tokens"] = needed
        kwargs["eos_token_id"] = layout.eoi_token_id
        if kwargs.get("pad_token_id") is None and settings.pad_token_id is None:
            eos = settings.eos_token_id
            kwargs["pad_token_id"] = eos[0] if isinstance(eos, list) else (layout.eoi_token_id if eos is None else eos)

    def _max_length(self, input_ids, settings, kwargs) -> int | None:
        prompt_length = 0 if input_ids is None else input_ids.shape[-1]
        max_new_tokens = kwargs.get("max_new_tokens", settings.max_new_tokens)
        if max_new_tokens is not None:
            return prompt_length + max_new_tokens
        max_length = kwargs.get("max_length", settings.max_length)
        # transformers adds its default of 20 new tokens to the prompt when nothing was set
        return prompt_length + 20 if max_length is None else max_length

    def _image_guidance(self, guidance_scale, input_ids, settings, kwargs, negative_prompt_ids, **negative):
        num_beams = kwargs.get("num_beams", settings.num_beams)
        if num_beams is not None and num_beams > 1:
            raise ValueError(f"`num_beams` is {num_beams}; allowed with `guidance_scale`: 1.")
        # guidance keeps a cache of its own, which does not follow candidates that are taken back
        for name in ("assistant_model", "prompt_lookup_num_tokens"):
            if kwargs.get(name, getattr(settings, name, None)) is not None:
                raise ValueError(f"`{name}` is given; allowed with `guidance_scale`: None.")
        mask = negative["negative_prompt_attention_mask"]
        if negative_prompt_ids is not None:
            batch_size = 1 if input_ids is None else input_ids.shape[0]
            if negative_prompt_ids.shape[0] not in (1, batch_size):
                raise ValueError(
                    f"`negative_prompt_ids` has {negative_prompt_ids.shape[0]} rows; allowed: 1 or {batch_size}."
                )
            repeats = kwargs.get("num_return_sequences", settings.num_return_sequences) or 1
            negative_prompt_ids = _expand(negative_prompt_ids, batch_size, repeats)
            mask = None if mask is None else _expand(mask, batch_size, repeats)
        use_cache = kwargs.get("use_cache", settings.use_cache)
        return SeedImageGuidanceLogitsProcessor(
            self.config.image_token_layout,
            guidance_scale,
            self,
            unconditional_ids=negative_prompt_ids,
            unconditional_attention_mask=mask,
            use_cache=use_cache is not False,
        )


def _check_mode(generation_mode: str | None) -> str:
    generation_mode = "text" if generation_mode is None else generation_mode
    if generation_mode not in GENERATION_MODES:
        raise ValueError(f"`generation_mode` is {generation_mode!r}; allowed: {GENERATION_MODES}.")
    return generation_mode


def _expand(values, batch_size, repeats):
    values = values.expand(batch_size, -1) if values.shape[0] == 1 else values
    return values.repeat_interleave(repeats, dim=0)
