"""What an export starts from: an image tokenizer of SEED and its image processor."""

import torch
from transformers.utils import logging

from ..hub.fetch import find_image_tokenizer
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


def load_parts(name: str) -> tuple[SeedImageTokenizer, SeedImageProcessor]:
    """
    Loads both on the CPU.

    Args:
        name (`str`): `"seed-mini"`, or folder or Hub id of an image tokenizer or a pipeline.

    Returns:
        `tuple[SeedImageTokenizer, SeedImageProcessor]`: The model is in float32: half precision changes some codes.

    Raises:
        ValueError: There is no image tokenizer of this name.
    """
    logging.disable_progress_bar()
    folder, processor_folder = find_image_tokenizer(name)
    model = SeedImageTokenizer.from_pretrained(folder, dtype=torch.float32).eval()
    return model, SeedImageProcessor.from_pretrained(processor_folder)


__all__ = ["load_parts"]
