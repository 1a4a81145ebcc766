"""The models applied to lists, batch by batch: texts from codes, and features of texts. Needs no extra."""

from collections.abc import Sequence

import torch

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
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)` or lists): Codes of the images.
        prompts (`str` or `Sequence[str]`): Words with one `<image>`, the same for all images or one for each.
        batch_size (`int`, *optional*): Number of images at once; by default all.
        generation: Settings of `generate()`; greedy by default.

    Returns:
        `list[str]`: what the model wrote for each image.
    """
    codes, texts = torch.as_tensor(codes), []
    batch_size = batch_size or max(1, len(codes))
    prompts = [prompts] * len(codes) if isinstance(prompts, str) else prompts
    for start in range(0, len(codes), batch_size):
        part = slice(start, start + batch_size)
        inputs = processor(text=prompts[part], codes=codes[part], padding=True, return_tensors="pt").to(model.device)
        ids = model.generate(**inputs, **{"do_sample": False, **generation})
        texts += processor.post_process_generation(ids, prompt_length=inputs["input_ids"].shape[1])
    return texts


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
    features = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        batch = tokenizer(part, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        batch = batch.to(model.device)
        features.append(model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output)
    return torch.cat(features)


__all__ = ["generate_texts", "text_features"]
