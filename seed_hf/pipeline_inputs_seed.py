"""Checks of what [`SeedPipeline`] is given: a `ValueError` that names argument, value and what is allowed."""

from typing import Any

import torch


OUTPUT_TYPES = ("pil", "np", "pt", "latent")


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


def check_codes(codes: Any, num_query_tokens: int, codebook_size: int, name: str = "codes") -> torch.LongTensor:
    r"""
    Args:
        codes (`torch.LongTensor`, array or nested lists of shape `(batch_size, num_query_tokens)` or
            `(num_query_tokens,)`): Codes.
        num_query_tokens (`int`): Codes per image.
        codebook_size (`int`): Number of codes.
        name (`str`, defaults to `"codes"`): What errors call it.

    Returns:
        `torch.LongTensor` of shape `(batch_size, num_query_tokens)`.

    Raises:
        ValueError: Codes of another dtype or shape, or out of range.
    """
    try:
        codes = torch.as_tensor(codes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"`{name}` is no rectangular array of integers: {error}.") from error
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(f"`{name}` has dtype {codes.dtype}; allowed: an integer dtype.")
    shape = tuple(codes.shape)
    codes = codes[None] if codes.ndim == 1 else codes
    if codes.ndim != 2 or codes.shape[1] != num_query_tokens or codes.shape[0] == 0:
        allowed = f"(batch_size, {num_query_tokens}) or ({num_query_tokens},)"
        raise ValueError(f"`{name}` has shape {shape}; allowed: {allowed}.")
    if not (0 <= codes.min() and codes.max() < codebook_size):
        raise ValueError(f"`{name}` spans [{codes.min()}, {codes.max()}]; allowed: [0, {codebook_size}).")
    return codes.long()


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


def expand_to(tensor: torch.Tensor, batch_size: int, name: str) -> torch.Tensor:
    """Repeats a single row for the whole batch; `ValueError` unless there are 1 or `batch_size` rows."""
    if tensor.shape[0] not in (1, batch_size):
        raise ValueError(f"`{name}` has {tensor.shape[0]} rows; allowed: 1 or {batch_size}.")
    return tensor.expand(batch_size, *tensor.shape[1:])
