"""The models applied to lists, batch by batch: texts from codes, and features of texts. Needs no extra."""

from collections.abc import Sequence

import torch

from .models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .models.image_tokens_seed import check_codes
from .models.modeling_seed import SeedForCausalLM
from .models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .models.processing_seed import SeedProcessor


_TEXTS_AT_ONCE = 256


@torch.no_grad()
def generate_texts(
    model: SeedForCausalLM,
    processor: SeedProcessor,
    codes: torch.Tensor | Sequence[Sequence[int]],
    prompts: str | Sequence[str],
    batch_size: int | None = None,
    **generation,
) -> list[str]:
    """
    Continues prompts with an image in each.

    Args:
        model ([`SeedForCausalLM`]): The language model, or a PEFT model around it.
        processor ([`SeedProcessor`]): Its processor.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)` or lists): All or the first codes of the images.
        prompts (`str` or `Sequence[str]`): Words with one `<image>`, the same for all images or one for each.
        batch_size (`int`, *optional*): Number of images at once; by default all.
        generation: Settings of `generate()`; greedy by default.

    Returns:
        `list[str]`: what the model wrote for each image.

    Raises:
        ValueError: A prompt is longer than the model's context.
    """
    codes, texts = torch.as_tensor(codes), []
    batch_size = batch_size or max(1, len(codes))
    prompts = [prompts] * len(codes) if isinstance(prompts, str) else prompts
    for start in range(0, len(codes), batch_size):
        part = slice(start, start + batch_size)
        inputs = processor(text=prompts[part], codes=codes[part], padding=True, return_tensors="pt").to(model.device)
        check_context(model, inputs["input_ids"].shape[1], "prompts")
        ids = model.generate(**inputs, **{"do_sample": False, **generation})
        texts += processor.post_process_generation(ids, prompt_length=inputs["input_ids"].shape[1])
    return texts


def context_length(model: SeedForCausalLM) -> int | None:
    """
    Looks up the largest number of tokens that a language model reads and writes.

    Args:
        model ([`SeedForCausalLM`]): The language model, or a PEFT model around it.

    Returns:
        `int`: `max_position_embeddings`; `None` if its configuration has none.
    """
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_context(model: SeedForCausalLM, num_tokens: int, name: str) -> None:
    """
    Refuses a prompt that a language model has no places for; it would write, but nothing that makes sense.

    Args:
        model ([`SeedForCausalLM`]): The language model, or a PEFT model around it.
        num_tokens (`int`): Length of the prompt, with its image.
        name (`str`): Name of the argument that it comes from.

    Raises:
        ValueError: The prompt is longer than `max_position_embeddings`.
    """
    limit = context_length(model)
    if limit is not None and num_tokens > limit:
        raise ValueError(f"`{name}` has {num_tokens} tokens; allowed: {limit}, the context of the language model.")


@torch.no_grad()
def text_features(model: SeedImageTokenizer, tokenizer, texts: list[str], max_length: int = 32) -> torch.Tensor:
    """
    Computes features of captions.

    Args:
        model ([`SeedImageTokenizer`]): Image tokenizer with a text tower.
        tokenizer: Tokenizer of its Q-Former.
        texts (`list[str]`): Captions.
        max_length (`int`, defaults to 32): Tokens kept of each, as in the paper.

    Returns:
        `torch.FloatTensor` of shape `(len(texts), projection_dim)`: L2-normalised, on the device of the model.
    """
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # texts of a batch need little padding
    features = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = [texts[number] for number in order[start : start + _TEXTS_AT_ONCE]]
        batch = tokenizer(part, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        batch = batch.to(model.device)
        features.append(model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output)
    return torch.cat(features)[torch.tensor(order).argsort()]


def places_of_codes(config: SeedImageTokenizerConfig) -> list[range]:
    """
    Lists the codes that may stand at each place in an image.

    Args:
        config ([`SeedImageTokenizerConfig`]): With `codebook_per_query`, each place has a part of the codebook.

    Returns:
        `list[range]`: Codes of the first place, of the second, and so on.
    """
    size, places = config.codebook_size, config.num_query_tokens
    if not config.codebook_per_query:
        return [range(size)] * places
    return [range(start, start + size // places) for start in range(0, size, size // places)]


def check_places(codes, config: SeedImageTokenizerConfig) -> torch.LongTensor:
    """
    Checks that codes stand where they can stand, before pictures of them are drawn: others are never an image's.

    Args:
        codes (`torch.LongTensor` of shape `(num_images, num_codes)` or lists): All or the first codes of images.
        config ([`SeedImageTokenizerConfig`]): That of the image tokenizer.

    Returns:
        `torch.LongTensor`: The codes.

    Raises:
        ValueError: Codes of another shape or range, or one in a place that is not its own.
    """
    codes = check_codes(codes, config.codebook_size, config.num_query_tokens, allow_prefix=True)
    for place, (column, allowed) in enumerate(zip(codes.T, places_of_codes(config), strict=False)):
        for code in column[(column < allowed.start) | (column >= allowed.stop)].tolist()[:1]:
            raise ValueError(
                f"`codes` holds {code} at place {place}, counted from 0; allowed there: [{allowed.start}, "
                f"{allowed.stop})."
            )
    return codes


__all__ = ["check_context", "check_places", "context_length", "generate_texts", "places_of_codes", "text_features"]
