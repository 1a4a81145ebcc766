"""SEED's pictures: image -> image, codes -> image, and with a language model attached prompt -> image."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from .hub_mixin_seed import HubUploadMixin
from .modeling_seed_empty_prompt import SeedEmptyPrompt
from .pipeline_call_seed import (
    PipelineCallMixin,
    condition_rows,
    names_for_callback,
    run_callback,
    seed_noise_sampler,
)
from .pipeline_inputs_seed import (
    PipelineInputsMixin,
    check_components,
    check_generator,
    check_generator_count,
    check_one_given,
    check_settings,
    check_size,
)
from .pipeline_saving_seed import PortablePipelineMixin
from .pipeline_unclip_seed import check_unclip, noise_image_embeds


@dataclass
class SeedPipelineOutput(BaseOutput):
    r"""
    Args:
        images (`list[PIL.Image.Image]`, `np.ndarray` of shape `(num_images, height, width, 3)` in [0, 1], or
            `torch.FloatTensor` of shape `(num_images, 3, height, width)` in [0, 1] or of the latents' shape).
        codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`, *optional*): What was drawn, in
            `[0, codebook_size)`; None when generation embeddings were given.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor
    codes: torch.LongTensor | None = None


class SeedPipeline(HubUploadMixin, PortablePipelineMixin, PipelineInputsMixin, PipelineCallMixin, DiffusionPipeline):
    r"""
    Decodes SEED's codes with a stock diffusion model of diffusers.

    SEED-1 (`image_tokenizer.config.generation_head == "text"`): the UNet of Stable Diffusion attends to the generation
    embeddings. SEED-2: the UNet of stable unCLIP takes one image embedding as class labels.

    Args:
        image_tokenizer ([`SeedImageTokenizer`]): Images to codes, codes to generation embeddings.
        image_processor ([`SeedImageProcessor`]): Images to `pixel_values`.
        unet (`UNet2DConditionModel`): The decoder; its `sample_size` is the size of the latents.
        vae (`AutoencoderKL`): Latents to pixels.
        scheduler (`SchedulerMixin`): Any scheduler of diffusers that fits the UNet.
        empty_prompt ([`SeedEmptyPrompt`], *optional*): The text encoder's output for `""`. SEED-1: the unconditional
            branch of guidance, unless negative codes are given. SEED-2: the text condition, always needed.
        image_normalizer (`StableUnCLIPImageNormalizer`, *optional*): SEED-2 only.
        image_noising_scheduler (`SchedulerMixin`, *optional*): SEED-2 only.
        language_model ([`SeedForCausalLM`], *optional*): Prompts to codes. It is not saved with the pipeline.
        processor ([`SeedProcessor`], *optional*): Of the language model. It is not saved with the pipeline.
        guidance_scale (`float`, defaults to 7.5): Used by calls that give none; saved. The original: 7.5, SEED-2 10.
        num_inference_steps (`int`, defaults to 50): Likewise. The original: 50 with PLMS, SEED-2 20.

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
    _attached_components = ("language_model", "processor")
    # the last is the second under the name of Stable Diffusion, which callbacks of diffusers ask for
    _callback_tensor_inputs = ["latents", "encoder_hidden_states", "class_labels", "prompt_embeds"]

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

    # ------------------------------------------------------------------------------------------ embeddings -> latents

    def prepare_condition(self, embeds, negative_embeds, do_guidance, noise_level=0, generator=None):
        r"""
        Generation embeddings -> what the UNet takes; with guidance the unconditional half comes first.

        Args:
            embeds (`torch.FloatTensor` of shape `(num_images, ...)`): Generation embeddings.
            negative_embeds (`torch.FloatTensor` of the same shape, *optional*): Those of the negative codes.
            do_guidance (`bool`): Whether the unconditional half is needed.
            noise_level (`int`, defaults to 0): SEED-2: noise on the image embedding.
            generator (`torch.Generator` or a list of them, *optional*): For that noise.

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
        The noise that sampling starts from. The scheduler's timesteps, on which its scale depends, must be set.

        Args:
            num_images (`int`): Pictures to draw.
            generator (`torch.Generator` or a list of `num_images`, *optional*): A list gives each picture its own.
            latents (`torch.FloatTensor` of shape `(num_images, channels, height, width)`, *optional*): Unit normal
                noise to use instead.
            height (`int`, *optional*): Of the pictures, in pixels; that of the UNet's `sample_size` by default.
            width (`int`, *optional*): Likewise.

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
        Latents -> pixels.

        Args:
            latents (`torch.FloatTensor` of shape `(num_images, channels, height, width)`): Of unit variance.

        Returns:
            `torch.FloatTensor` of shape `(num_images, 3, height, width)`: RGB, about [-1, 1].
        """
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        return self.vae.decode((latents / config.scaling_factor + shift).to(self.vae.dtype), return_dict=False)[0]

    def _denoise(self, latents, condition, step_kwargs, callback, tensor_names) -> torch.FloatTensor:
        """All steps, on the copy of the pipeline that [`PipelineCallMixin`] makes for a call."""
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
        """One look of the UNet, guided if the scale asks for it and the condition has two halves."""
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
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
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
            codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`, *optional*): Codes in
                `[0, codebook_size)`; nested lists, arrays and a single row are fine.
            generation_embeds (`torch.FloatTensor` of shape `(batch_size, num_generation_tokens, generation_dim)`, or
                `(batch_size, generation_dim)` for SEED-2, *optional*): What `image_tokenizer.decode` gives.
            prompt (`str` or `list[str]`, *optional*): For the language model, which writes the codes.
            negative_codes (`torch.LongTensor` of shape `(batch_size or 1, num_query_tokens)`, *optional*): What to
                steer away from, instead of the empty prompt (SEED-1) or zeros (SEED-2).
            guidance_scale (`float`, *optional*): Classifier-free guidance; 1 or less runs the UNet without it.
                Defaults to `pipeline.config.guidance_scale`.
            num_inference_steps (`int`, *optional*): Defaults to `pipeline.config.num_inference_steps`.
            num_images_per_prompt (`int`, defaults to 1): Pictures for each input; those of one input are neighbours.
            noise_level (`int`, defaults to 0): SEED-2: noise on the image embedding, as a timestep; 0 adds a little.
            eta (`float`, defaults to 0.0): For schedulers that take it (DDIM).
            generator (`torch.Generator` or a list with one for each picture, *optional*): Makes the call repeatable,
                the codes that the language model samples included.
            latents (`torch.FloatTensor` of shape `(num_pictures, channels, height, width)`, *optional*): Unit normal
                noise to start from.
            height (`int`, *optional*): Of the pictures, a multiple of `vae_scale_factor`. The default, the size that
                the UNet was trained for, is best.
            width (`int`, *optional*): Likewise.
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
        check_one_given(image=image, codes=codes, generation_embeds=generation_embeds, prompt=prompt)
        tensor_names = names_for_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        settings = (num_inference_steps, num_images_per_prompt, guidance_scale, output_type)
        check_settings(*settings, tensor_names, self._callback_tensor_inputs)
        check_size(height, width, self.vae_scale_factor)
        generator = check_generator(generator)
        if self.is_unclip:
            check_unclip(self.components, noise_level)
        call = self._begin_call(guidance_scale, num_inference_steps)

        # 2. Encode: image or prompt -> codes -> generation embeddings
        if image is not None:
            codes = self.encode_image(image)
        elif prompt is not None:
            codes = self._encode_prompts(prompt, num_images_per_prompt, generator, generation_kwargs or {})
        embeds, negative_embeds, codes = self._embed(codes, generation_embeds, negative_codes, guidance_scale)
        embeds = embeds.repeat_interleave(num_images_per_prompt, dim=0)
        if negative_embeds is not None:
            negative_embeds = negative_embeds.repeat_interleave(num_images_per_prompt, dim=0)

        # 3. Starting noise, before the condition draws its own
        latents = call.prepare_latents(len(embeds), generator, latents, height, width)
        condition = self.prepare_condition(embeds, negative_embeds, guidance_scale > 1, noise_level, generator)

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


__all__ = ["SeedPipeline", "SeedPipelineOutput"]
