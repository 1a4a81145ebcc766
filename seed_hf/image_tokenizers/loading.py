"""Finds and loads image tokenizers by what the configuration of a folder says that they are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ..hub.fetch import find_folder, find_image_tokenizer
from ..hub.json_files import read_json
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .adapters import (
    ChameleonAdapter,
    Emu3Adapter,
    GlmImageAdapter,
    GridAdapter,
    JanusAdapter,
    VQModelAdapter,
    image_settings,
)
from .protocol import ImageTokenizer, SeedAdapter


# by what config.json names: the model type of transformers, alone or as a part, or the class of diffusers
ADAPTERS: dict[str, type[GridAdapter]] = {
    "janus_vqgan": JanusAdapter,
    "janus": JanusAdapter,
    "emu3_vqgan": Emu3Adapter,
    "emu3": Emu3Adapter,
    "chameleon_vqgan": ChameleonAdapter,
    "chameleon": ChameleonAdapter,
    "glm_image": GlmImageAdapter,
    "VQModel": VQModelAdapter,
}
# what the parts of pipelines of diffusers are
_PIPELINE_PARTS = ("VQModel", "GlmImageForConditionalGeneration")
_LEFT_OUT = ["unet/*", "vae/*", "text_encoder/*"]
SEED_TYPE = "seed_image_tokenizer"


@dataclass(frozen=True)
class ImageTokenizerFiles:
    """
    An image tokenizer on disk, and its sizes, which are known without its weights.

    Args:
        kind (`str`): `"seed_image_tokenizer"`, or a name in `ADAPTERS`.
        model (`Path`): Folder of the model.
        processor (`Path`): Folder of its image processor.
        codebook_size (`int`): Number of codes in the codebook.
        num_codes (`int`): Number of codes of an image.
        image_size (`int`): Side of an image in pixels.
        dtype (`str`): Type of the weights as saved.
        pipeline (`Path`, *optional*): Folder of the pipeline of SEED that it is in.
    """

    kind: str
    model: Path
    processor: Path
    codebook_size: int
    num_codes: int
    image_size: int
    dtype: str = "float32"
    pipeline: Path | None = None

    @property
    def folders(self) -> tuple[Path, Path]:
        """Folders of the model and of its image processor, whose content decides the codes."""
        return self.model, self.processor

    @property
    def has_one_size(self) -> bool:
        """Whether the side of an image cannot be chosen."""
        return self.kind == SEED_TYPE or ADAPTERS[self.kind].has_one_size


def find_image_tokenizer_files(
    name: str | os.PathLike, revision: str | None = None, image_size: int | None = None
) -> ImageTokenizerFiles:
    """
    Finds an image tokenizer of any kind, downloading it if need be.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of an image tokenizer of SEED, or of one that
            `ADAPTERS` lists, alone, as a part of its whole model, or in a pipeline.
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.
        image_size (`int`, *optional*): Side of the squares that images are made into, where the model has a choice.

    Returns:
        [`ImageTokenizerFiles`]: Where it is.

    Raises:
        ValueError: There is no image tokenizer, none of a known kind, or an image size that it cannot have.
    """
    folder = find_folder(name, revision=revision, left_out=_LEFT_OUT)
    model, kind = _find_model(folder)
    # SEED's own errors speak of what a folder lacks
    if kind is None or kind == SEED_TYPE:
        return _seed_files(folder, image_size)
    if kind not in ADAPTERS:
        raise ValueError(
            f"`image_tokenizer` {str(name)!r} is a {kind!r}; allowed: an image tokenizer of SEED, or one of "
            f"{sorted(ADAPTERS)}."
        )
    config = ADAPTERS[kind].read_config(model)
    sizes = ADAPTERS[kind].sizes(config, image_size)
    # in the pipelines of diffusers the image processor is beside the model
    beside = [model, folder / "image_processor", folder / "processor"]
    processor = next((place for place in beside if image_settings(place)), model)
    return ImageTokenizerFiles(
        kind, model, processor, sizes.codebook_size, sizes.num_codes, sizes.image_size, _dtype_name(config)
    )


def _find_model(folder: Path) -> tuple[Path, str | None]:
    """The folder of the model, and its kind, which is None where nothing says it."""
    if (folder / "model_index.json").is_file() and not (folder / "image_tokenizer").is_dir():
        for part, value in read_json(folder / "model_index.json").items():
            if isinstance(value, list) and value[-1] in _PIPELINE_PARTS and (folder / part).is_dir():
                folder = folder / part
                break
    if (folder / "image_tokenizer").is_dir() or not (folder / "config.json").is_file():
        return folder, None
    config = read_json(folder / "config.json")
    return folder, config.get("model_type") or config.get("_class_name")


def _seed_files(folder: Path, image_size: int | None) -> ImageTokenizerFiles:
    model, processor = find_image_tokenizer(folder)
    config = SeedImageTokenizerConfig.from_pretrained(model)
    own = config.vision_config.image_size
    if image_size not in (None, own):
        raise ValueError(f"`image_size` is {image_size}; allowed: {own}, the only one of this model.")
    pipeline = model.parent if model != processor and (model.parent / "model_index.json").is_file() else None
    return ImageTokenizerFiles(
        SEED_TYPE, model, processor, config.codebook_size, config.num_query_tokens, own, _dtype_name(config), pipeline
    )


def _dtype_name(config: Any) -> str:
    return str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")


def load_image_tokenizer(
    name: str | os.PathLike | ImageTokenizerFiles,
    revision: str | None = None,
    image_size: int | None = None,
    dtype: str = "float32",
) -> ImageTokenizer:
    """
    Loads an image tokenizer of SEED or of another library, from safetensors, without code of its repository.

    Args:
        name (`str`, `os.PathLike` or [`ImageTokenizerFiles`]): See [`find_image_tokenizer_files`].
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.
        image_size (`int`, *optional*): Side of the squares that images are made into, where the model has a choice.
        dtype (`str`, defaults to `"float32"`): Type of the weights; half precision changes some codes.

    Returns:
        [`ImageTokenizer`]: In evaluation mode, on the CPU.

    Raises:
        ValueError: See [`find_image_tokenizer_files`]; or weights are missing.

    Example:

    ```python
    >>> from seed_hf.image_tokenizers import encode_images, load_image_tokenizer
    >>> from seed_hf.mini import mini_image
    >>> tokenizer = load_image_tokenizer("seed-mini")
    >>> encode_images(tokenizer, [mini_image("owl")]).shape
    torch.Size([1, 32])

    ```
    """
    logging.disable_progress_bar()
    files = name if isinstance(name, ImageTokenizerFiles) else find_image_tokenizer_files(name, revision, image_size)
    if files.kind == SEED_TYPE:
        model = SeedImageTokenizer.from_pretrained(files.model, dtype=dtype).eval()
        processor = SeedImageProcessor.from_pretrained(files.processor)
        return SeedAdapter(model, processor, files.model, files.pipeline)
    adapter = ADAPTERS[files.kind]
    with torch.no_grad():
        model = adapter.load_model(files.model, dtype)
    return adapter(model, files.image_size, image_settings(files.processor), files.model)


__all__ = ["ADAPTERS", "SEED_TYPE", "ImageTokenizerFiles", "find_image_tokenizer_files", "load_image_tokenizer"]
