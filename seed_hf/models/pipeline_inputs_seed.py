"""What [`SeedPipeline`] is given: checks that name argument, value and what is allowed, and the way to embeddings."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .image_tokens_seed import check_codes
from .pipeline_call_seed import draw_seed


OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# `generate` draws from the process-wide random numbers, so that two threads must not sample at once
SAMPLING = threading.Lock()


def check_components(image_tokenizer: Any, unet: Any, empty_prompt: Any) -> None:
    """Raises `ValueError` where the sizes of the components do not fit together."""
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


def check_one_given(**inputs: Any) -> None:
    """Raises `ValueError` unless exactly one of the named values is not None."""
    given = [name for name, value in inputs.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"Inputs given: {given or None}; allowed: exactly one of {list(inputs)}.")


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
    """Raises `ValueError` for settings of a call that can not work, before anything is computed."""
    counts = {"num_inference_steps": num_inference_steps, "num_images_per_prompt": num_images_per_prompt}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` is {value!r}; allowed: an integer above 0.")
    if not isinstance(guidance_scale, int | float):
        raise ValueError(f"`guidance_scale` is {guidance_scale!r}; allowed: a number; 1 or less means no guidance.")
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


@contextmanager
def seeded_sampling(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """
    Lets a generator rule what is drawn inside, by code that takes none; the caller's random numbers go on untouched.

    Args:
        generator (`torch.Generator`, *optional*): On any device. None leaves what is drawn to torch.
        device (`torch.device`): Where it is drawn. On `mps`, whose state torch does not fork, numbers go on seeded.
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


class PipelineInputsMixin:
    """Images, prompts and codes to generation embeddings; a part of [`SeedPipeline`]."""

    @property
    def is_unclip(self) -> bool:
        """Whether one image embedding conditions the UNet (SEED-2), and not a sequence (SEED-1)."""
        return self.image_tokenizer.config.generation_head != "text"

    def encode_image(self, image: Any) -> torch.LongTensor:
        r"""
        Images -> codes.

        Args:
            image: One image or a list, in any form that the image processor takes.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: An image that can not be read.
        """
        pixel_values = self.image_processor(image, return_tensors="pt")["pixel_values"]
        device = self._start(self.image_tokenizer)
        return self.image_tokenizer.encode(pixel_values.to(device, self.image_tokenizer.dtype))

    def encode_prompt(self, prompt: str | list[str], generator: Any = None, **generation_kwargs) -> torch.LongTensor:
        r"""
        Prompts -> codes, written by the language model.

        Args:
            prompt (`str` or `list[str]`): What the pictures should show; goes into `processor.image_prompt`.
            generator (`torch.Generator` or a list with one for each prompt, *optional*): Makes sampled codes
                repeatable. Without sampling it is not used.
            generation_kwargs: For `language_model.generate`, such as `do_sample` and `guidance_scale`.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: No language model or no processor is attached, or `prompt` is no text.
        """
        for name in self._attached_components:
            if getattr(self, name) is None:
                raise ValueError(
                    f"`prompt` was given but `{name}` is None; allowed with `language_model` and `processor` attached."
                )
        prompts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(prompts, list | tuple) or not prompts or not all(isinstance(text, str) for text in prompts):
            raise ValueError(f"`prompt` is {prompt!r}; allowed: a string or a list of strings.")
        generator = check_generator(generator)
        check_generator_count(generator, len(prompts), "prompt")
        captions = map(self.processor.tokenizer.escape_control_tokens, prompts)
        texts = [self.processor.image_prompt.format(caption=caption) for caption in captions]
        if not self._samples(generation_kwargs):
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

    def _samples(self, generation_kwargs: dict[str, Any]) -> bool:
        """Whether the language model draws tokens at random."""
        settings = generation_kwargs.get("generation_config") or self.language_model.generation_config
        return bool(generation_kwargs.get("do_sample", settings.do_sample))

    def _write_codes(self, texts: list[str], generation_kwargs: dict[str, Any]) -> torch.LongTensor:
        """One row of codes for each text, by one call of `generate`."""
        device = self._start(self.language_model)
        inputs = self.processor(text=texts, padding=True, return_tensors="pt").to(device)
        generated = self.language_model.generate(**inputs, generation_mode="image", **generation_kwargs)
        if generated.shape[0] != len(texts):
            allowed = f"{len(texts)}, one for each prompt"
            raise ValueError(f"`generation_kwargs` asks for {generated.shape[0]} sequences; allowed: {allowed}.")
        codes = self.processor.post_process_generation(
            generated, output="codes", prompt_length=inputs["input_ids"].shape[1]
        )
        return torch.stack([row[-1] for row in codes])

    def decode_codes(self, codes: torch.LongTensor, name: str = "codes") -> torch.FloatTensor:
        r"""
        Codes -> generation embeddings.

        Args:
            codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`, or nested lists; one image may come
                without the batch axis): Codes in `[0, codebook_size)`.
            name (`str`, defaults to `"codes"`): What error messages call it.

        Returns:
            `torch.FloatTensor`: as `image_tokenizer.decode` gives it.

        Raises:
            ValueError: Codes out of range, of a wrong dtype or shape.
        """
        config = self.image_tokenizer.config
        codes = check_codes(codes, config.codebook_size, config.num_query_tokens, name)
        if len(codes) == 0:
            raise ValueError(f"`{name}` has shape {tuple(codes.shape)}; allowed: at least one image.")
        device = self._start(self.image_tokenizer)
        return self.image_tokenizer.decode(codes.to(device))

    def _embed(self, codes, generation_embeds, negative_codes, guidance_scale):
        """Generation embeddings, those of the negative codes if guidance needs them, and checked codes."""
        config = self.image_tokenizer.config
        if generation_embeds is None:
            codes = check_codes(codes, config.codebook_size, config.num_query_tokens).to(self._execution_device)
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
        """Under CPU offload, brings in a model that is not called by its `forward`, where the hook would do it."""
        hook = getattr(model, "_hf_hook", None)
        if hook is not None and hasattr(hook, "pre_forward"):
            hook.pre_forward(model)
        return self._execution_device


def _row_of(generation_kwargs: dict[str, Any], number: int, count: int) -> dict[str, Any]:
    """The settings for one prompt of several: tensors with a row for each, such as negative prompts, give its row."""
    has_rows = {
        name for name, value in generation_kwargs.items() if isinstance(value, torch.Tensor) and value.ndim > 1
    }
    return {
        name: value[number : number + 1] if name in has_rows and len(value) == count else value
        for name, value in generation_kwargs.items()
    }
