"""Codes as a medium: finished, mixed, varied and blended images, without training anything."""

from typing import Any

import torch

from .image_tokenizers.protocol import as_image_tokenizer, seed_model
from .models.image_tokens_seed import check_codes
from .models.pipeline_seed import check_generator, seeded_sampling


@torch.no_grad()
def continue_codes(
    pipeline: Any,
    codes: torch.LongTensor,
    keep: int = 16,
    prompt: str | list[str] = "",
    generator: torch.Generator | None = None,
    **generation,
) -> torch.LongTensor:
    """
    Keeps the first codes of images and lets the language model write the rest again. Since codes are causal, what is
    kept says the same as before.

    Args:
        pipeline ([`SeedPipeline`]): Has a language model and its processor.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`): Codes in `[0, codebook_size)`; of each image at
            least `keep`.
        keep (`int`, defaults to 16): Number of codes to keep, from 0 to `num_query_tokens`.
        prompt (`str` or `list[str]`, defaults to `""`): What the images should show, the same for all or one for each.
        generator (`torch.Generator`, *optional*): Makes sampled codes repeatable.
        generation: For `generate()`, such as `do_sample`, `temperature` and `guidance_scale`; greedy by default.
            Images are written to their end, whatever the model's `num_codes` is.

    Returns:
        `torch.LongTensor` of shape `(num_images, num_query_tokens)`: codes, the first `keep` as they were.

    Raises:
        ValueError: No language model, wrong codes, or `keep`, `num_codes` or a number of prompts that does not fit.

    Example:

    ```python
    >>> from seed_hf.edits import continue_codes

    >>> tail_rewritten = continue_codes(pipeline, codes, keep=16, prompt="red apple")  # doctest: +SKIP
    ```
    """
    codes = _check(pipeline, codes, allow_prefix=True)
    num_query_tokens = pipeline.image_tokenizer.config.num_query_tokens
    if not isinstance(keep, int) or not 0 <= keep <= codes.shape[1]:
        raise ValueError(
            f"`keep` is {keep!r}; allowed: an integer in [0, {codes.shape[1]}], the number of codes given."
        )
    if generation.get("num_codes") not in (None, num_query_tokens):
        raise ValueError(f"`num_codes` is {generation['num_codes']!r}; allowed: {num_query_tokens}, the whole image.")
    if keep == num_query_tokens:
        return codes.clone()
    model = pipeline.language_model
    settings = {"do_sample": False, **generation, "num_codes": num_query_tokens}
    inputs = _open_span(pipeline, _prompts(pipeline, prompt, len(codes)), codes[:, :keep])
    if (negative := settings.get("negative_prompt_ids")) is not None:
        # guidance compares the same beginning under both prompts
        span = inputs["input_ids"][:, -keep - 1 :].to(negative.device)
        settings["negative_prompt_ids"] = torch.cat([negative.expand(len(codes), -1), span], dim=1)
        if (mask := settings.get("negative_prompt_attention_mask")) is not None:
            mask = torch.cat([mask.expand(len(codes), -1), torch.ones_like(span)], dim=1)
            settings["negative_prompt_attention_mask"] = mask
    with seeded_sampling(check_generator(generator), model.device):
        ids = model.generate(**inputs, generation_mode="image", **settings)
    layout = model.config.image_token_layout
    written = ids[:, inputs["input_ids"].shape[1] :][:, : num_query_tokens - keep] - layout.first_image_token_id
    return torch.cat([codes[:, :keep], written.cpu()], dim=1)


@torch.no_grad()
def code_log_probs(pipeline: Any, codes: torch.LongTensor, prompt: str | list[str] = "") -> torch.FloatTensor:
    """
    Says how likely the language model finds codes.

    Args:
        pipeline ([`SeedPipeline`]): Has a language model and its processor.
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Codes in `[0, codebook_size)`.
        prompt (`str` or `list[str]`, defaults to `""`): What the images should show.

    Returns:
        `torch.FloatTensor` of shape `(num_images, num_query_tokens)`: natural logarithm of the probability of each
        code among all codes, given the prompt and the codes before it.

    Raises:
        ValueError: No language model, wrong codes, or a number of prompts that does not fit.
    """
    codes = _check(pipeline, codes)
    inputs = _open_span(pipeline, _prompts(pipeline, prompt, len(codes)), codes)
    layout = pipeline.language_model.config.image_token_layout
    logits = pipeline.language_model(**inputs).logits[:, -codes.shape[1] - 1 : -1]
    logits = logits[..., layout.first_image_token_id : layout.end_image_token_id].float()
    return logits.log_softmax(-1).gather(-1, codes.to(logits.device)[..., None])[..., 0].cpu()


def mix(first: torch.LongTensor, second: torch.LongTensor, at: int = 16) -> torch.LongTensor:
    """
    Takes the left codes of one image and the right codes of another.

    Args:
        first (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Gives the codes before `at`.
        second (`torch.LongTensor` of the same shape): Gives the codes from `at` on.
        at (`int`, defaults to 16): Number of codes of `first`, from 0 to `num_query_tokens`.

    Returns:
        `torch.LongTensor` of the same shape.

    Raises:
        ValueError: Different shapes, or `at` beyond the codes.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.edits import mix

    >>> mix(torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long), at=3)
    tensor([[0, 0, 0, 1]])

    ```
    """
    if first.shape != second.shape or first.ndim != 2:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"`first` and `second` have shapes {shapes}; allowed: one shape (num_images, num_codes).")
    if not isinstance(at, int) or not 0 <= at <= first.shape[1]:
        raise ValueError(f"`at` is {at!r}; allowed: an integer in [0, {first.shape[1]}].")
    return torch.cat([first[:, :at], second[:, at:]], dim=1)


@torch.no_grad()
def nearest(image_tokenizer: Any, codes: torch.LongTensor, k: int = 8) -> torch.LongTensor:
    """
    Finds the codes that stand for nearly the same, by the distance of their vectors.

    Args:
        image_tokenizer ([`SeedImageTokenizer`] or [`ImageTokenizer`]): Has the codebook.
        codes (`torch.LongTensor` of any shape): Codes in `[0, codebook_size)`.
        k (`int`, defaults to 8): Number of other codes for each.

    Returns:
        `torch.LongTensor` of shape `(*codes.shape, k)`, on the CPU: the nearest first, without the code itself; where
        each place has its own part of the codebook, from that part.

    Raises:
        ValueError: Wrong codes, or `k` that is not smaller than the number of codes for a place.
    """
    tokenizer = as_image_tokenizer(image_tokenizer)
    codes = check_codes(codes, tokenizer.codebook_size).cpu()
    num_parts = tokenizer.num_codes if tokenizer.codebook_per_query else 1
    size = tokenizer.codebook_size // num_parts
    if not isinstance(k, int) or not 1 <= k < size:
        raise ValueError(f"`k` is {k!r}; allowed: an integer in [1, {size - 1}].")
    vectors = tokenizer.get_code_vectors(torch.arange(tokenizer.codebook_size)).cpu()
    different, places = codes.unique(return_inverse=True)
    found = torch.empty(len(different), k, dtype=torch.long)
    for row, code in zip(found, different.tolist(), strict=True):
        start = code // size * size
        distances = torch.cdist(vectors[code : code + 1], vectors[start : start + size])[0]
        distances[code - start] = float("inf")
        row.copy_(distances.topk(k, largest=False).indices + start)
    return found[places]


def variations(
    image_tokenizer: Any, codes: torch.LongTensor, strength: float = 0.25, seed: int = 0, k: int = 8
) -> torch.LongTensor:
    """
    Replaces some codes by others that stand for nearly the same.

    Args:
        image_tokenizer ([`SeedImageTokenizer`] or [`ImageTokenizer`]): Has the codebook.
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Codes in `[0, codebook_size)`.
        strength (`float`, defaults to 0.25): Probability of each place to change, from 0 to 1.
        seed (`int`, defaults to 0): Makes the choice repeatable.
        k (`int`, defaults to 8): A code is replaced by one of the `k` nearest.

    Returns:
        `torch.LongTensor` of the same shape.

    Raises:
        ValueError: Wrong codes, `strength` or `k`.
    """
    tokenizer = as_image_tokenizer(image_tokenizer)
    codes = check_codes(codes, tokenizer.codebook_size, tokenizer.num_codes).cpu()
    if not isinstance(strength, int | float) or not 0 <= strength <= 1:
        raise ValueError(f"`strength` is {strength!r}; allowed: a number in [0, 1].")
    generator = torch.Generator().manual_seed(seed)
    is_changed = torch.rand(codes.shape, generator=generator) < strength
    similar = nearest(tokenizer, codes, k)
    choice = torch.randint(k, (*codes.shape, 1), generator=generator)
    return torch.where(is_changed, similar.gather(-1, choice)[..., 0], codes)


@torch.no_grad()
def interpolate(
    image_tokenizer: Any, first: torch.LongTensor, second: torch.LongTensor, steps: int = 8
) -> torch.FloatTensor:
    """
    Leads from one image to another in the space of generation embeddings.

    Args:
        image_tokenizer ([`SeedImageTokenizer`]): Decodes the codes.
        first (`torch.LongTensor` of shape `(num_query_tokens,)`): Codes of the image at the start.
        second (`torch.LongTensor` of shape `(num_query_tokens,)`): Codes of the image at the end.
        steps (`int`, defaults to 8): Number of images, both ends included; at least 2.

    Returns:
        `torch.FloatTensor` of shape `(steps, ...)`: for `pipeline(generation_embeds=...)`.

    Raises:
        ValueError: Wrong codes or `steps`, or an image tokenizer that is not SEED's.
    """
    image_tokenizer = seed_model(image_tokenizer, "generation embeddings")
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"`steps` is {steps!r}; allowed: an integer of at least 2.")
    config = image_tokenizer.config
    ends = [check_codes(codes, config.codebook_size, config.num_query_tokens) for codes in (first, second)]
    if any(len(codes) != 1 for codes in ends):
        raise ValueError("`first` and `second` hold several images; allowed: the codes of one image each.")
    start, end = (image_tokenizer.decode(codes.to(image_tokenizer.device)) for codes in ends)
    return torch.cat([torch.lerp(start, end, weight) for weight in torch.linspace(0, 1, steps).tolist()])


def _check(pipeline, codes, **settings) -> torch.LongTensor:
    for name in ("language_model", "processor"):
        if getattr(pipeline, name) is None:
            raise ValueError(f"`pipeline` has no `{name}`; allowed: a pipeline with a language model.")
    tokenizer = as_image_tokenizer(pipeline.image_tokenizer)
    return check_codes(codes, tokenizer.codebook_size, tokenizer.num_codes, **settings).cpu()


def _prompts(pipeline, prompt: str | list[str], count: int) -> list[str]:
    """The words around each prompt with which the model was trained."""
    prompts = [prompt] * count if isinstance(prompt, str) else list(prompt)
    if len(prompts) != count:
        raise ValueError(f"`prompt` has {len(prompts)} entries; allowed: one string, or {count}, one for each image.")
    processor = pipeline.processor
    return [processor.fill_prompt(processor.image_prompt, caption=text).strip() for text in prompts]


def _open_span(pipeline, texts: list[str], codes: torch.LongTensor) -> dict[str, torch.Tensor]:
    """Prompts that end in an image span of which only these codes are written."""
    inputs = pipeline.processor(text=texts, padding=True, return_tensors="pt")
    layout = pipeline.language_model.config.image_token_layout
    opening = torch.full((len(codes), 1), layout.boi_token_id)
    span = torch.cat([opening, layout.codes_to_token_ids(codes)], dim=1)
    ids = torch.cat([inputs["input_ids"], span], dim=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(span)], dim=1)
    device = pipeline.language_model.device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


__all__ = ["code_log_probs", "continue_codes", "interpolate", "mix", "nearest", "variations"]
