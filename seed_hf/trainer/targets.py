"""Targets of stage 2's generation embeddings: a frozen text encoder's features of the caption (SEED-1), or a frozen
CLIP's embedding of the image (SEED-2).
"""

import torch
from transformers import CLIPVisionModelWithProjection

from ..evaluation.text_encoders import TextTargetEncoder, load_text_encoder
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig


# Above it (at 5 M captions it would be 600 GB), captions are encoded when they are needed.
MAX_BYTES_IN_MEMORY = 2 * 2**30


class CaptionTargets:
    """Hidden states of captions: all computed once where they fit into memory, else batch by batch.

    Args:
        encoder ([`~seed_hf.evaluation.text_encoders.TextTargetEncoder`]): The frozen text encoder.
        captions (`list[str]`): All captions of the data set.
    """

    def __init__(self, encoder: TextTargetEncoder, captions: list[str]):
        self.encoder = encoder
        self.module = encoder.model
        captions = sorted(set(captions))
        fits = 4 * len(captions) * encoder.max_length * encoder.embedding_dim <= MAX_BYTES_IN_MEMORY
        self.known = dict(zip(captions, encoder(captions), strict=True)) if fits else None

    def __call__(self, batch: dict) -> torch.Tensor:
        """Targets of a batch, from its `captions` (`list[str]`): `(batch_size, num_tokens, dim)`, on the CPU."""
        if self.known is None:
            return self.encoder(batch["captions"])
        return torch.stack([self.known[caption] for caption in batch["captions"]])


class ImageTargets:
    """CLIP's embeddings of images, which Stable unCLIP draws from.

    Its images are normalised as SEED's are, so both see the same `pixel_values` (as in the original).

    Args:
        folder (`str`): Folder or Hub id of a CLIP with an image side.
    """

    def __init__(self, folder: str):
        self.module = CLIPVisionModelWithProjection.from_pretrained(folder).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: dict) -> torch.Tensor:
        """Targets of a batch, from its `pixel_values`: `(batch_size, dim)`."""
        pixel_values = batch["pixel_values"].to(self.module.device, self.module.dtype)
        return self.module(pixel_values).image_embeds.float()


def load_targets(target_model: str, config: SeedImageTokenizerConfig, captions: list[str]):
    """Loads the targets that a configuration's generation head asks for.

    Args:
        target_model (`str`): Folder or Hub id of the frozen encoder (a SEED image tokenizer gives its text feature);
            or `"minilm"`.
        config ([`SeedImageTokenizerConfig`]): `generation_head` says which kind.
        captions (`list[str]`): All captions of the data set.

    Raises:
        ValueError: The encoder's width is not the configuration's `generation_dim`.
    """
    if config.generation_head == "text":
        folder = None if target_model == "minilm" else target_model
        targets = CaptionTargets(load_text_encoder(folder, config.num_generation_tokens), captions)
        width = targets.encoder.embedding_dim
    else:
        targets = ImageTargets(target_model)
        width = targets.module.config.projection_dim
    if width != config.generation_dim:
        raise ValueError(f"`target_model` {target_model!r} gives width {width}; allowed: {config.generation_dim}.")
    return targets
