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
"""Draws pictures from images, from codes, and from prompts if a language model is attached."""

import copy
import inspect
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, ProcessorMixin, StoppingCriteria, StoppingCriteriaList
from transformers.image_processing_utils import BaseImageProcessor

from .hub_mixin_seed import HubUploadMixin
from .image_tokens_seed import check_codes, check_one_given
from .modeling_seed_empty_prompt import SeedEmptyPrompt
from .pipeline_lora_seed import UnetLoraLoaderMixin
from .pipeline_saving_seed import PortablePipelineMixin


OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# `generate` draws from the process-wide random numbers, so that two threads must not sample at once
SAMPLING = threading.Lock()
# Names of tensors of Stable Diffusion by which diffusers' own callbacks ask, and what they are called here.
TENSOR_ALIASES = {"prompt_embeds": "encoder_hidden_states"}


@dataclass
class SeedPipelineOutput(BaseOutput):
    r"""
    Args:
        images (`list[PIL.Image.Image]`, `np.ndarray` of shape `(num_images, height, width, 3)` in [0, 1], or
            `torch.FloatTensor` of shape `(num_images, 3, height, width)` in [0, 1] or of the latents' shape).
        codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`, *optional*): Codes that were drawn, in
            `[0, codebook_size)`; `None` if generation embeddings were given.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    codes: torch.LongTensor | None = None


class SeedPipeline(HubUploadMixin, PortablePipelineMixin, UnetLoraLoaderMixin, DiffusionPipeline):
    r"""
    Decodes SEED's codes with a stock diffusion model of diffusers.

    SEED-1 (`image_tokenizer.config.generation_head == "text"`): the UNet of Stable Diffusion attends to the generation
    embeddings. SEED-2: the UNet of stable unCLIP takes one image embedding as class labels.

    For a part of the work the other components may be None: `encode_prompt` needs the language model and the
    processor, `encode_image` the image tokenizer and the image processor.

    Args:
        image_tokenizer ([`SeedImageTokenizer`]): Images to codes, codes to generation embeddings.
        image_processor ([`SeedImageProcessor`]): Images to `pixel_values`.
        unet (`UNet2DConditionModel`): The decoder; its `sample_size` is the size of the latents.
        vae (`AutoencoderKL`): Latents to pixels.
        scheduler (`SchedulerMixin`): Any scheduler of diffusers that fits the UNet.
        empty_prompt ([`SeedEmptyPrompt`], *optional*): The text encoder's output for `""`. For SEED-1 it is the
            unconditional branch of guidance, unless negative codes are given; for SEED-2 the text condition, which is
            always needed.
        image_normalizer (`StableUnCLIPImageNormalizer`, *optional*): Normalizer of image embeddings, for SEED-2 only.
        image_noising_scheduler (`SchedulerMixin`, *optional*): Scheduler of their noise, for SEED-2 only.
        language_model ([`SeedForCausalLM`], *optional*): Prompts to codes; saved with the pipeline.
        processor ([`SeedProcessor`], *optional*): That of the language model; saved with the pipeline.
        guidance_scale (`float`, defaults to 7.5): Default of calls, saved (the original: 7.5; SEED-2: 10).
        num_inference_steps (`int`, defaults to 50): Default of calls, saved (the original: 50; SEED-2: 20).

    Source: `models/pipeline_stable_unclip_img2img.py` and `models/seed_llama_tokenizer.py` of the original.

    Example:

    ```python
    >>> import torch
    >>> from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    >>> from PIL import Image
    >>> from seed_hf import SeedImageProcessor, SeedImageTokenizer, SeedImageTokenizerConfig, SeedPipeline
    >>> blocks = dict(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    >>> config = SeedImageTokenizerConfig(vision_config=dict(blocks, image_size=28), qformer_config=blocks,
    ...     decoder_config=blocks, reverse_qformer_config=dict(blocks, encoder_hidden_size=24), codebook_size=16,
    ...     num_query_tokens=4, num_generation_tokens=6, generation_dim=16)
    >>> unet = UNet2DConditionModel(sample_size=4, block_out_channels=(8,), norm_num_groups=4, cross_attention_dim=16,
    ...     down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), attention_head_dim=2)
    >>> vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    >>> pipeline = SeedPipeline(SeedImageTokenizer(config), SeedImageProcessor(size=28), unet, vae, DDIMScheduler())
    >>> pipeline.set_progress_bar_config(disable=True)
    >>> output = pipeline(Image.new("RGB", (60, 40)), num_inference_steps=2, guidance_scale=1.0)
    >>> output.images[0].size, output.codes.shape
    ((4, 4), torch.Size([1, 4]))

    ```
    """

    model_cpu_offload_seq = "language_model->image_tokenizer->unet->vae"
    # Sequential offload works through `forward`, which the first two are not called by; the others are tiny.
    _exclude_from_cpu_offload = ["language_model", "image_tokenizer", "empty_prompt", "image_normalizer"]
    _optional_components = [
        "empty_prompt",
        "image_normalizer",
        "image_noising_scheduler",
        "language_model",
        "processor",
    ]
    # the last is the second under the name of Stable Diffusion, which callbacks of diffusers ask for
    _callback_tensor_inputs = ["latents", "encoder_hidden_states", "class_labels", "prompt_embeds"]

    # The state of a call, under the names that diffusers' pipelines have for it. A call works on a shallow copy of the
    # pipeline: the models are the same objects, the scheduler is a copy. So no call changes the pipeline's scheduler,
    # and a callback that sets `_guidance_scale` changes its own call only. The pipeline itself shows the values of the
    # call that started last.
    _guidance_scale: float | None = None
    _num_timesteps: int | None = None
    _interrupt: bool = False
    _called_on: Any = None
    _device_of_call: torch.device | None = None

    def __init__(
        self,
        image_tokenizer: PreTrainedModel,
        image_processor: BaseImageProcessor,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        scheduler: SchedulerMixin,
        empty_prompt: SeedEmptyPrompt | None = None,
        image_normalizer: StableUnCLIPImageNormalizer | None = None,
        image_noising_scheduler: SchedulerMixin | None = None,
        language_model: PreTrainedModel | None = None,
        processor: ProcessorMixin | None = None,
        guidance_scale: float = 7.5,
        num_inference_steps: int = 50,
    ):
        super().__init__()
        check_components(image_tokenizer, unet, empty_prompt)
        self.register_modules(
            image_tokenizer=image_tokenizer,
            image_processor=image_processor,
            unet=unet,
            vae=vae,
            scheduler=scheduler,
            empty_prompt=empty_prompt,
            image_normalizer=image_normalizer,
            image_noising_scheduler=image_noising_scheduler,
            language_model=language_model,
            processor=processor,
        )
        self.register_to_config(guidance_scale=guidance_scale, num_inference_steps=num_inference_steps)
        self._output_processor = VaeImageProcessor()

    @property
    def vae_scale_factor(self) -> int:
        """Pixels for each side of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    # ------------------------------------------------------------------------------------------ the state of a call
    @property
    def guidance_scale(self) -> float:
        """Classifier-free guidance of the call; before the first call, its default."""
        return self.config.guidance_scale if self._guidance_scale is None else self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the UNet is guided."""
        return self.guidance_scale > 1

    @property
    def num_timesteps(self) -> int | None:
        """Calls of the scheduler, which may be more than `num_inference_steps`; None before the first call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether `_interrupt` was set to end the call: by its callback, or on the pipeline, which ends every call."""
        return self._interrupt or (self._called_on is not None and self._called_on.interrupt)

    @property
    def _execution_device(self) -> torch.device:
        """As in diffusers, which looks through all modules for it; once for each call."""
        return super()._execution_device if self._device_of_call is None else self._device_of_call

    def _begin_call(self, guidance_scale, num_inference_steps, timesteps=None, sigmas=None):
        """A copy of the pipeline for one call, with timesteps set on a scheduler of its own."""
        _check_scheduler(self.scheduler)
        self._interrupt = False
        call = copy.copy(self)
        call._called_on, call._device_of_call = self, self._execution_device
        call.scheduler = copy.deepcopy(self.scheduler)
        set_timesteps(call.scheduler, num_inference_steps, timesteps, sigmas, call._execution_device)
        for pipeline in (self, call):
            pipeline._guidance_scale = guidance_scale
            pipeline._num_timesteps = len(call.scheduler.timesteps)
        return call

    # ------------------------------------------------------------------------------------------ inputs -> embeddings
    @property
    def is_unclip(self) -> bool:
        """Whether one image embedding conditions the UNet (SEED-2), and not a sequence (SEED-1)."""
        return self.image_tokenizer.config.generation_head != "text"

    def encode_image(self, image: Any) -> torch.LongTensor:
        r"""
        Turns images into codes.

        Args:
            image: One image or a list, in any form that the image processor takes.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: An image that cannot be read.
        """
        pixel_values = self.image_processor(image, return_tensors="pt")["pixel_values"]
        device = self._start(self.image_tokenizer)
        return self.image_tokenizer.encode(pixel_values.to(device, self.image_tokenizer.dtype))

    def encode_prompt(self, prompt: str | list[str], generator: Any = None, **generation_kwargs) -> torch.LongTensor:
        r"""
        Lets the language model write codes for prompts.

        Args:
            prompt (`str` or `list[str]`): What the pictures should show; `processor.image_prompt` is put around it.
            generator (`torch.Generator` or a list with one for each prompt, *optional*): Makes sampled codes
                repeatable. Without sampling it is not used.
            generation_kwargs: For `language_model.generate`, such as `do_sample` and `guidance_scale`.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: No language model or no processor is attached, or `prompt` is no text.
        """
        for name in ("language_model", "processor"):
            if getattr(self, name) is None:
                raise ValueError(
                    f"`prompt` was given but `{name}` is None; allowed with `language_model` and `processor` attached."
                )
        prompts = check_texts(prompt, "prompt")
        generator = check_generator(generator)
        check_generator_count(generator, len(prompts), "prompt")
        texts = [self.processor.fill_prompt(self.processor.image_prompt, caption=text) for text in prompts]
        if not self._generation_setting("do_sample", generation_kwargs):
            return self._write_codes(texts, generation_kwargs)
        if not isinstance(generator, list):
            with seeded_sampling(generator, self._execution_device):
                return self._write_codes(texts, generation_kwargs)
        rows = []
        for number, (text, one) in enumerate(zip(texts, generator, strict=True)):  # each prompt as if it were alone
            with seeded_sampling(one, self._execution_device):
                rows.append(self._write_codes([text], _row_of(generation_kwargs, number, len(texts))))
        return torch.cat(rows)

    def _encode_prompts(self, prompt, num_images_per_prompt, generator, generation_kwargs) -> torch.LongTensor:
        """Codes of the prompts of a call, whose list of generators has one for each picture: the first one counts."""
        if isinstance(generator, list) and isinstance(prompt, str | list | tuple):
            count = 1 if isinstance(prompt, str) else len(prompt)
            check_generator_count(generator, count * num_images_per_prompt, "picture")
            generator = generator[::num_images_per_prompt]
        return self.encode_prompt(prompt, generator, **generation_kwargs)

    def _encode_negative_prompts(self, prompts, codes, num_images_per_prompt, generator, generation_kwargs):
        """Codes to steer away from: a row for each of `codes`, drawn by the generators of its pictures."""
        if len(prompts) not in (1, len(codes)):
            raise ValueError(f"`negative_prompt` has {len(prompts)} texts; allowed: 1 or {len(codes)}.")
        prompts = prompts * (len(codes) // len(prompts))
        return self._encode_prompts(prompts, num_images_per_prompt, generator, generation_kwargs)

    def _generation_setting(self, name: str, generation_kwargs: dict[str, Any]) -> Any:
        """What `generate` will make of a setting: the keyword, the given configuration's value, or the model's."""
        configs = (generation_kwargs.get("generation_config"), self.language_model.generation_config)
        values = (generation_kwargs.get(name), *(getattr(config, name, None) for config in configs))
        return next((value for value in values if value is not None), None)

    def _write_codes(self, texts: list[str], generation_kwargs: dict[str, Any]) -> torch.LongTensor:
        """One row of codes for each text, by one call of `generate`."""
        device = self._start(self.language_model)
        inputs = self.processor(text=texts, padding=True, return_tensors="pt").to(device)
        num_tokens = self.language_model.config.image_token_layout.num_query_tokens + 2  # from `<img>` to `</img>`
        with self.progress_bar(total=num_tokens) as progress_bar:
            ticks = TokenTicks(progress_bar, inputs["input_ids"].shape[1], num_tokens)
            criteria = StoppingCriteriaList([*(generation_kwargs.get("stopping_criteria") or []), ticks])
            settings = {"generation_mode": "image"} | generation_kwargs | {"stopping_criteria": criteria}
            generated = self.language_model.generate(**inputs, **settings)
        if generated.shape[0] != len(texts):
            allowed = f"{len(texts)}, one for each prompt"
            raise ValueError(f"`generation_kwargs` asks for {generated.shape[0]} sequences; allowed: {allowed}.")
        num_codes = self._generation_setting("num_codes", generation_kwargs)
        codes = self.processor.post_process_generation(
            generated, output="codes", prompt_length=inputs["input_ids"].shape[1], num_codes=num_codes
        )
        return torch.stack([row[-1] for row in codes])

    def decode_codes(self, codes: torch.LongTensor, name: str = "codes") -> torch.FloatTensor:
        r"""
        Turns codes into generation embeddings.

        Args:
            codes (`torch.LongTensor` of shape `(batch_size, num_codes)`, or nested lists; one image may come without
                the batch axis): Codes in `[0, codebook_size)`, all of an image or its first ones.
            name (`str`, defaults to `"codes"`): Name of the argument in errors.

        Returns:
            `torch.FloatTensor`: Generation embeddings, as `image_tokenizer.decode` returns them.

        Raises:
            ValueError: Codes out of range, of a wrong dtype or shape.
        """
        config = self.image_tokenizer.config
        codes = check_codes(codes, config.codebook_size, config.num_query_tokens, name, allow_prefix=True)
        if len(codes) == 0:
            raise ValueError(f"`{name}` has shape {tuple(codes.shape)}; allowed: at least one image.")
        device = self._start(self.image_tokenizer)
        return self.image_tokenizer.decode(codes.to(device))

    def _embed(self, codes, generation_embeds, negative_codes, guidance_scale):
        """Generation embeddings, those of the negative codes if guidance needs them, and checked codes."""
        config = self.image_tokenizer.config
        if generation_embeds is None:
            codes = check_codes(codes, config.codebook_size, config.num_query_tokens, allow_prefix=True)
            codes = codes.to(self._execution_device)
            generation_embeds = self.decode_codes(codes)
        else:
            row_shape = (config.num_generation_tokens, config.generation_dim)
            check_generation_embeds(generation_embeds, row_shape[1:] if self.is_unclip else row_shape)
        negative_embeds = None
        if negative_codes is not None:
            negative_embeds = self.decode_codes(negative_codes, "negative_codes")
            negative_embeds = expand_to(negative_embeds, len(generation_embeds), "negative_codes")
        return generation_embeds, negative_embeds if guidance_scale > 1 else None, codes

    def _start(self, model: torch.nn.Module) -> torch.device:
        """Under CPU offload, brings in a model that is not called by its `forward`, where a hook would do it."""
        hook = getattr(model, "_hf_hook", None)
        if hook is not None and hasattr(hook, "pre_forward"):
            hook.pre_forward(model)
        return self._execution_device

    # ------------------------------------------------------------------------------------------ embeddings -> latents

    def prepare_condition(self, embeds, negative_embeds, do_guidance, noise_level=0, generator=None):
        r"""
        Makes the UNet's condition from generation embeddings; with guidance, the unconditional half comes first.

        Args:
            embeds (`torch.FloatTensor` of shape `(num_images, ...)`): Generation embeddings.
            negative_embeds (`torch.FloatTensor` of the same shape, *optional*): Those of the negative codes.
            do_guidance (`bool`): Whether the unconditional half is needed.
            noise_level (`int`, defaults to 0): Noise on the image embedding, for SEED-2 only.
            generator (`torch.Generator` or a list of them, *optional*): Source of that noise.

        Returns:
            `tuple[torch.FloatTensor, torch.FloatTensor | None]`: `encoder_hidden_states` and `class_labels`.

        Raises:
            ValueError: SEED-1 guidance without negative codes and without `empty_prompt`.
        """
        condition, negative = embeds.to(self._execution_device, self.unet.dtype), negative_embeds
        if self.is_unclip:
            parts = (self.image_normalizer, self.image_noising_scheduler, noise_level, generator)
            condition = noise_image_embeds(condition, *parts).to(condition.dtype)
            if do_guidance and negative is not None:
                negative = noise_image_embeds(negative.to(condition.device), *parts)
            elif do_guidance:
                negative = torch.zeros_like(condition)
        elif do_guidance and negative is None:
            if self.empty_prompt is None:
                raise ValueError(
                    "`guidance_scale` is above 1 but the component `empty_prompt` is None; allowed: 1 or less, or "
                    "`negative_codes`."
                )
            negative = self.empty_prompt(len(condition))
        if do_guidance:
            condition = torch.cat([negative.to(condition.device, condition.dtype), condition])
        if self.is_unclip:
            return self.empty_prompt(len(condition)).to(condition.device, condition.dtype), condition
        return condition, None

    def prepare_latents(
        self,
        num_images: int,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.FloatTensor | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> torch.FloatTensor:
        r"""
        Draws the noise that sampling starts from. The scheduler's timesteps, on which its scale depends, must be set.

        Args:
            num_images (`int`): Number of pictures to draw.
            generator (`torch.Generator` or a list of `num_images`, *optional*): A list gives each picture its own.
            latents (`torch.FloatTensor` of shape `(num_images, channels, height, width)`, *optional*): Unit normal
                noise to use instead.
            height (`int`, *optional*): Height of the pictures in pixels; by default by the UNet's `sample_size`.
            width (`int`, *optional*): Width of the pictures in pixels, with the same default.

        Returns:
            `torch.FloatTensor` of shape `(num_images, channels, height, width)`, scaled for the scheduler.

        Raises:
            ValueError: `generator` of another length or `latents` of another shape.
        """
        check_generator_count(generator, num_images, "picture")
        size = self.unet.config.sample_size
        own = (size, size) if isinstance(size, int) else size
        rows, columns = (
            default if pixels is None else pixels // self.vae_scale_factor
            for pixels, default in zip((height, width), own, strict=True)
        )
        shape = (num_images, self.unet.config.in_channels, rows, columns)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"`latents` has shape {tuple(latents.shape)}; allowed: {shape}.")
        return latents.to(self._execution_device, self.unet.dtype) * self.scheduler.init_noise_sigma

    def decode_latents(self, latents: torch.FloatTensor) -> torch.FloatTensor:
        r"""
        Turns latents into pixels.

        Args:
            latents (`torch.FloatTensor` of shape `(num_images, channels, height, width)`): Latents of unit variance.

        Returns:
            `torch.FloatTensor` of shape `(num_images, 3, height, width)`: RGB, about [-1, 1].
        """
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return self.vae.decode((latents / config.scaling_factor + shift).to(self.vae.dtype), return_dict=False)[0]

    def _denoise(self, latents, condition, step_kwargs, callback, tensor_names) -> torch.FloatTensor:
        """All steps, on the copy of the pipeline that `_begin_call` makes."""
        tensors = {"latents": latents, "encoder_hidden_states": condition[0], "class_labels": condition[1]}
        with self.progress_bar(total=self.num_timesteps) as progress_bar:
            for step, timestep in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    break
                prediction = self._predict(*tensors.values(), timestep)
                stepped = self.scheduler.step(
                    prediction, timestep, tensors["latents"], **step_kwargs, return_dict=False
                )
                tensors["latents"] = stepped[0]
                if callback is not None:
                    tensors = run_callback(callback, self, step, timestep, tensors, tensor_names)
                progress_bar.update()
        return tensors["latents"]

    def _predict(self, latents, encoder_hidden_states, class_labels, timestep) -> torch.FloatTensor:
        """One prediction of the UNet, guided if the scale asks for it and the condition has two halves."""
        is_guided, condition = condition_rows(
            [encoder_hidden_states, class_labels], len(latents), self.do_classifier_free_guidance
        )
        model_input = torch.cat([latents, latents]) if is_guided else latents
        prediction = self.unet(
            self.scheduler.scale_model_input(model_input, timestep),
            timestep,
            encoder_hidden_states=condition[0],
            class_labels=condition[1],
            return_dict=False,
        )[0]
        if not is_guided:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)

    # ------------------------------------------------------------------------------------------ call

    @torch.no_grad()
    def __call__(
        self,
        image: Any = None,
        codes: torch.LongTensor | None = None,
        generation_embeds: torch.FloatTensor | None = None,
        prompt: str | list[str] | None = None,
        negative_codes: torch.LongTensor | None = None,
        negative_prompt: str | list[str] | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        num_images_per_prompt: int = 1,
        noise_level: int = 0,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.FloatTensor | None = None,
        height: int | None = None,
        width: int | None = None,
        generation_kwargs: dict[str, Any] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["SeedPipeline", int, int, dict], dict | None] | None = None,
        callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("latents",),
    ) -> SeedPipelineOutput | tuple:
        r"""
        Draws pictures. Give exactly one of `image`, `codes`, `generation_embeds` and `prompt`.

        Args:
            image (*optional*): One image or a list, in any form that the image processor takes.
            codes (`torch.LongTensor` of shape `(batch_size, num_codes)`, *optional*): Codes in `[0, codebook_size)`,
                all of an image or its first ones; nested lists, arrays and a single row are fine.
            generation_embeds (`torch.FloatTensor` of shape `(batch_size, num_generation_tokens, generation_dim)`, or
                `(batch_size, generation_dim)` for SEED-2, *optional*): What `image_tokenizer.decode` gives.
            prompt (`str` or `list[str]`, *optional*): For the language model, which writes the codes.
            negative_codes (`torch.LongTensor` of shape `(batch_size or 1, num_query_tokens)`, *optional*): What to
                steer away from, instead of the empty prompt (SEED-1) or zeros (SEED-2).
            negative_prompt (`str` or `list[str]`, *optional*): The same as a text, for which the language model writes
                the codes; a single one counts for all inputs. Without guidance it is not used.
            guidance_scale (`float`, *optional*): Classifier-free guidance; 1 or less runs the UNet without it.
                Defaults to `pipeline.config.guidance_scale`.
            num_inference_steps (`int`, *optional*): Defaults to `pipeline.config.num_inference_steps`.
            timesteps (`list[int]`, *optional*): Timesteps to use instead of `num_inference_steps`, in descending
                order, for schedulers that take them.
            sigmas (`list[float]`, *optional*): Noise levels to use instead, in descending order, likewise.
            num_images_per_prompt (`int`, defaults to 1): Pictures for each input; those of one input are neighbours.
            noise_level (`int`, defaults to 0): SEED-2: noise on the image embedding, as a timestep; 0 adds a little.
            eta (`float`, defaults to 0.0): For schedulers that take it (DDIM).
            generator (`torch.Generator` or a list with one for each picture, *optional*): Makes the call repeatable,
                the codes that the language model samples included.
            latents (`torch.FloatTensor` of shape `(num_pictures, channels, height, width)`, *optional*): Unit normal
                noise to start from.
            height (`int`, *optional*): Height of the pictures, a multiple of `vae_scale_factor`. The default, which
                the UNet was trained for, is best.
            width (`int`, *optional*): Width of the pictures, with the same default.
            generation_kwargs (`dict`, *optional*): For the language model's `generate`.
            output_type (`str`, defaults to `"pil"`): `"pil"`, `"np"`, `"pt"`, or `"latent"` for undecoded latents.
            return_dict (`bool`, defaults to `True`): `False` gives the tuple `(images, codes)`.
            callback_on_step_end (`Callable`, *optional*): Called as `callback(pipeline, step, timestep, tensors)`, or
                a `PipelineCallback` of diffusers; a dict that it returns replaces tensors. The pipeline that it gets
                is a copy for this call, with the same models: `_interrupt = True` ends the call, `_guidance_scale`
                changes its guidance. `_interrupt` of the pipeline itself ends all its calls.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `("latents",)`): Tensors that it gets: of
                `latents`, `encoder_hidden_states` (or `prompt_embeds`, the same), `class_labels`. A
                `PipelineCallback` names its own.

        Returns:
            [`SeedPipelineOutput`] or `tuple`.

        Raises:
            ValueError: A wrong input or setting; the message names it, its value and what is allowed.
        """
        # 1. Check inputs
        guidance_scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        num_inference_steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        if prompt == "" and image is not None:
            prompt = None  # servers send an empty prompt along with an image
        check_one_given(image=image, codes=codes, generation_embeds=generation_embeds, prompt=prompt)
        negative_prompt = check_negatives(negative_codes, negative_prompt)
        tensor_names = names_for_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        settings = (num_inference_steps, num_images_per_prompt, guidance_scale, output_type)
        check_settings(*settings, tensor_names, self._callback_tensor_inputs)
        check_parts(self.components, noise_level)
        check_size(height, width, self.vae_scale_factor)
        generator = check_generator(generator)
        call = self._begin_call(guidance_scale, num_inference_steps, timesteps, sigmas)

        # 2. Encode: image or prompt -> codes -> generation embeddings
        if image is not None:
            codes = self.encode_image(image)
        elif prompt is not None:
            codes = self._encode_prompts(prompt, num_images_per_prompt, generator, generation_kwargs or {})
        elif codes is not None:
            config = self.image_tokenizer.config
            codes = check_codes(codes, config.codebook_size, config.num_query_tokens, allow_prefix=True)
        if negative_prompt is not None and guidance_scale > 1:
            inputs = codes if generation_embeds is None else generation_embeds
            negative_codes = self._encode_negative_prompts(
                negative_prompt, inputs, num_images_per_prompt, generator, generation_kwargs or {}
            )
        embeds, negative_embeds, codes = call._embed(codes, generation_embeds, negative_codes, guidance_scale)
        embeds = embeds.repeat_interleave(num_images_per_prompt, dim=0)
        if negative_embeds is not None:
            negative_embeds = negative_embeds.repeat_interleave(num_images_per_prompt, dim=0)

        # 3. Starting noise, before the condition draws its own
        latents = call.prepare_latents(len(embeds), generator, latents, height, width)
        condition = call.prepare_condition(embeds, negative_embeds, guidance_scale > 1, noise_level, generator)

        # 4. Denoising loop
        seed_noise_sampler(call.scheduler, generator, len(embeds))
        accepted = inspect.signature(call.scheduler.step).parameters
        step_kwargs = {name: value for name, value in {"eta": eta, "generator": generator}.items() if name in accepted}
        images = call._denoise(latents, condition, step_kwargs, callback_on_step_end, tensor_names)

        # 5. Decode
        if output_type != "latent":
            images = self._output_processor.postprocess(self.decode_latents(images), output_type=output_type)
        self.maybe_free_model_hooks()
        return SeedPipelineOutput(images, codes) if return_dict else (images, codes)


def check_components(image_tokenizer: Any, unet: Any, empty_prompt: Any) -> None:
    """Raises `ValueError` where the sizes of the components do not fit together."""
    if image_tokenizer is None or unet is None:
        return  # only a part of the work is asked for
    config, width = image_tokenizer.config, unet.config.cross_attention_dim
    if config.generation_head == "text":
        if width != config.generation_dim:
            raise ValueError(
                f"`unet` has cross_attention_dim {width}; allowed: {config.generation_dim}, the image tokenizer's "
                "generation_dim."
            )
        wanted = (config.num_generation_tokens, config.generation_dim)
    else:
        wanted = (None if empty_prompt is None else empty_prompt.config.num_tokens, width)
    if empty_prompt is not None and (empty_prompt.config.num_tokens, empty_prompt.config.embedding_dim) != wanted:
        got = (empty_prompt.config.num_tokens, empty_prompt.config.embedding_dim)
        raise ValueError(f"`empty_prompt` has shape {got}; allowed: {wanted}.")


def check_generation_embeds(embeds: Any, row_shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless `embeds` is a float tensor of shape `(batch_size, *row_shape)`."""
    if not isinstance(embeds, torch.Tensor) or not embeds.is_floating_point():
        got = embeds.dtype if isinstance(embeds, torch.Tensor) else type(embeds).__name__
        raise ValueError(f"`generation_embeds` is {got}; allowed: a floating point torch.Tensor.")
    if embeds.ndim == 0 or embeds.shape[0] == 0 or tuple(embeds.shape[1:]) != row_shape:
        allowed = ", ".join(map(str, ("batch_size", *row_shape)))
        raise ValueError(f"`generation_embeds` has shape {tuple(embeds.shape)}; allowed: ({allowed}).")


def check_settings(
    num_inference_steps: Any,
    num_images_per_prompt: Any,
    guidance_scale: Any,
    output_type: Any,
    tensor_names: Any,
    allowed_tensor_names: list[str],
) -> None:
    """Raises `ValueError` for settings of a call that cannot work, before anything is computed."""
    counts = {"num_inference_steps": num_inference_steps, "num_images_per_prompt": num_images_per_prompt}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` is {value!r}; allowed: an integer above 0.")
    if not isinstance(guidance_scale, int | float) or not math.isfinite(guidance_scale):
        raise ValueError(
            f"`guidance_scale` is {guidance_scale!r}; allowed: a finite number; 1 or less means no guidance."
        )
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` is {output_type!r}; allowed: {OUTPUT_TYPES}.")
    unknown = [name for name in tensor_names if name not in allowed_tensor_names]
    if unknown:
        raise ValueError(f"`callback_on_step_end_tensor_inputs` has {unknown}; allowed: {allowed_tensor_names}.")


def check_size(height: Any, width: Any, multiple: int) -> None:
    """Raises `ValueError` unless both are None or positive multiples of what a latent covers."""
    for name, value in {"height": height, "width": width}.items():
        if value is not None and (not isinstance(value, int) or value < 1 or value % multiple):
            raise ValueError(f"`{name}` is {value!r}; allowed: a positive multiple of {multiple}.")


def check_negatives(negative_codes: Any, negative_prompt: Any) -> list[str] | None:
    """The negative prompts, None if all are empty; raises `ValueError` for no text, or one beside negative codes."""
    texts = None if negative_prompt is None else check_texts(negative_prompt, "negative_prompt")
    if not texts or not any(texts):
        return None  # as in Stable Diffusion: the empty prompt is what guidance steers away from anyway
    if negative_codes is not None:
        raise ValueError("`negative_codes` and `negative_prompt` were given; allowed: one of them.")
    return texts


def check_texts(texts: Any, name: str) -> list[str]:
    """One text or several as a list; raises `ValueError` for anything else."""
    several = [texts] if isinstance(texts, str) else texts
    if not isinstance(several, list | tuple) or not several or not all(isinstance(text, str) for text in several):
        raise ValueError(f"`{name}` is {texts!r}; allowed: a string or a list of strings.")
    return list(several)


def check_generator(generator: Any) -> Any:
    """The generator, or a list with one for each image; raises `ValueError` for anything else."""
    generator = list(generator) if isinstance(generator, tuple) else generator
    each = generator if isinstance(generator, list) else [generator]
    if generator is not None and not all(isinstance(one, torch.Generator) for one in each):
        raise ValueError(f"`generator` is {generator!r}; allowed: a torch.Generator or a list of them.")
    return generator


def check_generator_count(generator: Any, count: int, what: str) -> None:
    """Raises `ValueError` for a list of another length than `count`."""
    if isinstance(generator, list) and len(generator) != count:
        raise ValueError(f"`generator` has {len(generator)} entries; allowed: {count}, one for each {what}.")


def _check_scheduler(scheduler: Any) -> None:
    """Raises `ValueError` for a scheduler of other models, such as those of flow matching."""
    missing = [name for name in ("init_noise_sigma", "scale_model_input", "step") if not hasattr(scheduler, name)]
    if missing:
        raise ValueError(
            f"`scheduler` is {type(scheduler).__name__}, which has no {missing}; allowed: one of Stable Diffusion's."
        )


def set_timesteps(scheduler: Any, num_inference_steps: int, timesteps: Any, sigmas: Any, device: Any) -> None:
    """Sets a scheduler's timesteps, by their number or one by one; `ValueError` if it does not take them."""
    if timesteps is not None and sigmas is not None:
        raise ValueError("`timesteps` and `sigmas` were given; allowed: one of them.")
    given = {name: value for name, value in {"timesteps": timesteps, "sigmas": sigmas}.items() if value is not None}
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    if unknown := [name for name in given if name not in accepted]:
        class_name = type(scheduler).__name__
        raise ValueError(f"`{unknown[0]}` was given but {class_name} takes none; allowed: `num_inference_steps`.")
    scheduler.set_timesteps(**(given or {"num_inference_steps": num_inference_steps}), device=device)


def check_parts(components: dict[str, Any], noise_level: Any) -> None:
    """Raises `ValueError` for a missing component, and for SEED-2 for a wrong noise level."""
    for name in ("image_tokenizer", "image_processor", "unet", "vae", "scheduler"):
        if components[name] is None:
            raise ValueError(f"`{name}` is None; allowed for drawing: this component given.")
    if components["image_tokenizer"].config.generation_head != "text":
        check_unclip(components, noise_level)


def check_unclip(components: dict[str, Any], noise_level: Any) -> None:
    """Raises `ValueError` for a missing component or a noise level that the noising scheduler does not have."""
    for name in ("empty_prompt", "image_normalizer", "image_noising_scheduler"):
        if components[name] is None:
            raise ValueError(f"`{name}` is None; allowed with a SEED-2 image tokenizer: this component given.")
    num_levels = components["image_noising_scheduler"].config.num_train_timesteps
    if not isinstance(noise_level, int) or not 0 <= noise_level < num_levels:
        raise ValueError(f"`noise_level` is {noise_level!r}; allowed: an integer in [0, {num_levels}).")


class TokenTicks(StoppingCriteria):
    """Never stops `generate`; moves a progress bar by the tokens that each step adds to the sequences."""

    def __init__(self, progress_bar: Any, prompt_length: int, num_tokens: int):
        self.progress_bar, self.length, self.end = progress_bar, prompt_length, prompt_length + num_tokens

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs) -> torch.BoolTensor:
        length = min(input_ids.shape[1], self.end)  # on a GPU, `generate` may take back its last step
        self.progress_bar.update(length - self.length)
        self.length = length
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@contextmanager
def seeded_sampling(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """
    Makes code that takes no generator draw by one; the caller's random numbers are not touched.

    Args:
        generator (`torch.Generator`, *optional*): On any device. None leaves what is drawn to torch.
        device (`torch.device`): Device that draws. On `mps`, whose state torch does not fork, numbers stay seeded.
    """
    with SAMPLING:
        if generator is None:
            yield
            return
        module = torch.get_device_module(device)
        devices = [] if device.type in ("cpu", "mps") else range(module.device_count())
        with torch.random.fork_rng(devices, device_type=device.type):
            seed = draw_seed(generator)
            torch.default_generator.manual_seed(seed)
            if device.type != "cpu":
                getattr(module, "manual_seed_all", module.manual_seed)(seed)
            yield


def expand_to(tensor: torch.Tensor, batch_size: int, name: str) -> torch.Tensor:
    """Repeats a single row for the whole batch; `ValueError` unless there are 1 or `batch_size` rows."""
    if tensor.shape[0] not in (1, batch_size):
        raise ValueError(f"`{name}` has {tensor.shape[0]} rows; allowed: 1 or {batch_size}.")
    return tensor.expand(batch_size, *tensor.shape[1:])


def _row_of(generation_kwargs: dict[str, Any], number: int, count: int) -> dict[str, Any]:
    """The settings for one prompt of several: tensors with a row for each, such as negative prompts, give its row."""
    has_rows = {
        name for name, value in generation_kwargs.items() if isinstance(value, torch.Tensor) and value.ndim > 1
    }
    return {
        name: value[number : number + 1] if name in has_rows and len(value) == count else value
        for name, value in generation_kwargs.items()
    }


def noise_image_embeds(
    embeds: torch.FloatTensor, normalizer, noising_scheduler, noise_level: int = 0, generator=None
) -> torch.FloatTensor:
    r"""
    Makes stable unCLIP's condition: the noised image embedding and, behind it, the embedding of the noise level.

    Args:
        embeds (`torch.FloatTensor` of shape `(num_images, embedding_dim)`): Image embeddings.
        normalizer (`StableUnCLIPImageNormalizer`): Mean and deviation of image embeddings.
        noising_scheduler (`SchedulerMixin`): Adds the noise.
        noise_level (`int`, defaults to 0): Timestep of that scheduler; 0 also adds a little noise.
        generator (`torch.Generator` or a list with one for each image, *optional*): Makes the noise repeatable.

    Returns:
        `torch.FloatTensor` of shape `(num_images, 2 * embedding_dim)`.

    Source: `noise_image_embeddings` of stable unCLIP, Ho et al. 2022 (cascaded diffusion).
    """
    embeds = normalizer.scale(embeds.to(normalizer.mean.dtype))
    noise = randn_tensor(embeds.shape, generator=generator, device=embeds.device, dtype=embeds.dtype)
    levels = torch.full((embeds.shape[0],), noise_level, device=embeds.device, dtype=torch.long)
    embeds = normalizer.unscale(noising_scheduler.add_noise(embeds, noise, levels))
    level_embeds = get_timestep_embedding(levels, embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([embeds, level_embeds.to(embeds.dtype)], dim=1)


def names_for_callback(callback: Callable | None, names: list[str] | tuple[str, ...]) -> list[str] | tuple[str, ...]:
    """The tensors that a callback gets: those that a callback object of diffusers names, else those of the call."""
    is_diffusers = isinstance(callback, PipelineCallback | MultiPipelineCallbacks)
    return list(dict.fromkeys(callback.tensor_inputs)) if is_diffusers else names


def run_callback(
    callback: Callable, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any], names: Any
) -> dict[str, Any]:
    """
    Calls a callback and takes over what it returns.

    Args:
        callback (`Callable`): Callback of the user.
        pipeline ([`SeedPipeline`]): The copy for this call.
        step (`int`): Number of the step.
        timestep (`torch.Tensor`): Timestep of the step.
        tensors (`dict[str, torch.Tensor]`): All tensors that a callback may change, the latents first.
        names (`Sequence[str]`): Names of the tensors that this callback gets.

    Returns:
        `dict[str, torch.Tensor]`: The tensors, with those that were changed.

    Raises:
        ValueError: The callback returned a name that is unknown.
    """
    given = {name: tensors[TENSOR_ALIASES.get(name, name)] for name in names}
    returned = callback(pipeline, step, timestep, dict(given)) or {}
    allowed = [*tensors, *TENSOR_ALIASES]
    if unknown := [name for name in returned if name not in allowed]:
        raise ValueError(f"`callback_on_step_end` returned {unknown}; allowed: {allowed}.")
    changed = {name: tensor for name, tensor in returned.items() if name not in given or tensor is not given[name]}
    # an alias that was handed back as it came must not undo a change under the other name
    changed = {TENSOR_ALIASES.get(name, name): tensor for name, tensor in changed.items()}
    return tensors | {
        name: _all_rows(tensor, tensors[name], len(tensors["latents"])) for name, tensor in changed.items()
    }


def _all_rows(new: torch.Tensor | None, old: torch.Tensor | None, num_images: int) -> torch.Tensor | None:
    """diffusers' callbacks end guidance by `[-1:]`, the conditional half of one image; several have more."""
    if num_images == 1 or new is None or old is None or len(new) != 1 or not torch.equal(new, old[-1:]):
        return new
    return old[-num_images:]


def condition_rows(condition: list[torch.Tensor | None], num_images: int, is_guided: bool) -> tuple[bool, list[Any]]:
    """
    Says what the UNet gets in this step, since a callback may have ended guidance, by the scale or by its half.

    Args:
        condition (`list[torch.Tensor | None]`): `encoder_hidden_states` and `class_labels`.
        num_images (`int`): Number of images in the batch.
        is_guided (`bool`): Whether the guidance scale asks for both halves.

    Returns:
        `tuple[bool, list]`: Whether both halves are used, and their rows, or those of the conditional half.

    Raises:
        ValueError: A callback left another number of rows.
    """
    rows = {len(tensor) for tensor in condition if tensor is not None}
    if not rows <= {num_images, 2 * num_images}:
        raise ValueError(
            f"`callback_on_step_end` left conditions of {sorted(rows)} rows; allowed: {num_images}, or "
            f"{2 * num_images} with the unconditional half first."
        )
    is_guided = is_guided and rows == {2 * num_images}
    return is_guided, condition if is_guided else [None if part is None else part[-num_images:] for part in condition]


def seed_noise_sampler(scheduler: Any, generator: Any, num_images: int) -> None:
    """Seeds the noise of DPM++ SDE, which draws it from its own sampler and takes no generator."""
    if generator is None or getattr(scheduler, "noise_sampler_seed", 0) is not None:
        return
    generators = generator if isinstance(generator, list) else [generator] * num_images
    scheduler.noise_sampler_seed = [draw_seed(one) for one in generators]


def draw_seed(generator: torch.Generator) -> int:
    """Draws a seed from a generator."""
    return int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))


__all__ = ["SeedPipeline", "SeedPipelineOutput"]
