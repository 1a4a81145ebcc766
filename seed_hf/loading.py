"""Models by name, for whoever applies them: the commands, the app and the server."""

import os
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from . import image_tokenizers
from .hub.fetch import MINI_NAME, find_folder
from .hub.json_files import read_json
from .image_tokenizers import ADAPTERS, SEED_TYPE, ImageTokenizer, SeedAdapter, find_image_tokenizer_files
from .mini import mini_image_generation, mini_language_model
from .models.modeling_seed import SeedForCausalLM
from .models.processing_seed import SeedProcessor


NO_LANGUAGE_MODEL = "is a pipeline without a language model; allowed: a language model, or a pipeline saved with one."

ONLY_CODES = (
    "of which this package uses the codes only (`seed-hf tokenize`, `encode`, `search` and `report`); allowed here: a "
    "model of SEED."
)


def shown_name(name: str) -> str:
    """
    Says what a model is called on a page or by a server.

    Args:
        name (`str`): Folder or Hub id.

    Returns:
        `str`: The name of a folder alone, also of `"."`; or else the Hub id.
    """
    return os.path.basename(os.path.abspath(name)) if Path(name).exists() else name


def find_device(name: str | None) -> torch.device:
    """
    Chooses a device.

    Args:
        name (`str`, *optional*): Such as `"cpu"`; by default `"cuda"` where there is one, or else `"cpu"`.

    Returns:
        `torch.device`: A device that is there.

    Raises:
        ValueError: There is no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`device` is {name!r} ({reason}); allowed: cpu, or a device that is here.") from error


def load_image_tokenizer(name: str, device: str | None = None, image_size: int | None = None) -> ImageTokenizer:
    """
    Loads an image tokenizer without the decoder of pictures, and so without diffusers where it is SEED's.

    Args:
        name (`str`): See [`~seed_hf.image_tokenizers.load_image_tokenizer`].
        device (`str`, *optional*): See [`find_device`].
        image_size (`int`, *optional*): Side of the squares that images are made into, where the model has a choice.

    Returns:
        [`~seed_hf.image_tokenizers.ImageTokenizer`]: In float32, as pipelines load it: half precision changes some
        codes.

    Raises:
        ValueError: There is no image tokenizer of this name, or no such device.
    """
    return image_tokenizers.load_image_tokenizer(name, image_size=image_size).to(find_device(device))


def load_text_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """
    Loads the tokenizer of an image tokenizer's text side.

    Args:
        folder (`Path`): Folder of the image tokenizer.

    Returns:
        `PreTrainedTokenizerBase`: For [`~seed_hf.inference.text_features`].

    Raises:
        ValueError: The folder has none.
    """
    if not (folder / "tokenizer_config.json").is_file():
        raise ValueError(f"{str(folder)!r} has no text tokenizer, which words need; allowed: an image file as query.")
    return AutoTokenizer.from_pretrained(folder)


def load_language_model(name: str, device: str | None = None) -> tuple[SeedForCausalLM, SeedProcessor]:
    """
    Loads a language model that reads images: alone, or out of a pipeline that was saved with one.

    Args:
        name (`str`): `"seed-mini"`, or folder or Hub id of a language model, a LoRA adapter or a pipeline.
        device (`str`, *optional*): See [`find_device`].

    Returns:
        `tuple[SeedForCausalLM, SeedProcessor]`: The processor's `encode_image` turns images into its codes.

    Raises:
        ValueError: There is no such model, or a pipeline has no language model.
    """
    logging.disable_progress_bar()
    folder = find_folder(name, "language_model")
    if (folder / "model_index.json").is_file():
        pipeline = _pipeline_at(folder)
        if pipeline.language_model is None:
            raise ValueError(f"`model` {name!r} {NO_LANGUAGE_MODEL}")
        model, processor, image_tokenizer = pipeline.language_model, pipeline.processor, pipeline.image_tokenizer
    else:
        if name == MINI_NAME:
            model, processor = mini_language_model()
        else:
            _refuse_others(name, folder)
            model = SeedForCausalLM.from_pretrained(folder, image_tokenizer=True, dtype="auto")
            processor = SeedProcessor.from_pretrained(folder)
        image_tokenizer = model.image_tokenizer
    if image_tokenizer is None:
        image_tokenizer = _image_tokenizer_of(processor)
    chosen = find_device(device)
    processor.tokenizer.image_codec.image_tokenizer = image_tokenizer.eval().to(chosen)
    return model.eval().to(chosen), processor


def _refuse_others(name: str, folder: Path):
    """Refuses what is no language model of ours, for which libraries give advice on files of weights."""
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ValueError(f"`model` {name!r} has no config.json; allowed: a language model, an adapter or a pipeline.")
    config = read_json(folder / "config.json")
    kind = config.get("model_type") or config.get("_class_name") or "seed"
    if kind in ADAPTERS:
        raise ValueError(f"`model` {name!r} is a {kind!r} of another library, {ONLY_CODES}")
    if kind not in ("seed", "seed_image_tokenizer"):
        raise ValueError(
            f"`model` {name!r} is a plain {kind} model, such as `seed-hf export-lm` writes for other programs; "
            "allowed: the language model that it was exported from, or a LoRA adapter or a pipeline with one."
        )


def load_pipeline(name: str, device: str | None = None):
    """
    Loads what draws pictures of codes.

    Args:
        name (`str`): `"seed-mini"`, or folder or Hub id of a pipeline.
        device (`str`, *optional*): See [`find_device`].

    Returns:
        [`SeedPipeline`]: Its progress bar shows on a terminal only.

    Raises:
        ValueError: The folder holds no pipeline.
    """
    folder = find_folder(name)
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"`model` {name!r} has no model_index.json; allowed: a pipeline, which can draw.")
    return _ready(_pipeline_at(folder), device)


def load_drawing_pipeline(name: str, device: str | None = None) -> tuple:
    """
    Loads what draws pictures of words.

    Args:
        name (`str`): `"seed-mini"`, or folder or Hub id of a language model that names its pipeline, or of a pipeline
            that was saved with a language model.
        device (`str`, *optional*): See [`find_device`].

    Returns:
        `tuple[SeedPipeline, dict]`: The pipeline with its language model, and settings of `encode_prompt`.

    Raises:
        ValueError: A pipeline has no language model.
    """
    if name != MINI_NAME and (find_folder(name) / "model_index.json").is_file():
        pipeline = load_pipeline(name, device)
        if pipeline.language_model is None:
            raise ValueError(f"`model` {name!r} {NO_LANGUAGE_MODEL}")
        return pipeline, {}
    model, processor = load_language_model(name, device)
    is_mini = name == MINI_NAME
    repository, revision = _repository_of(processor)
    folder = find_folder(MINI_NAME if is_mini else repository, revision=revision)
    pipeline = _pipeline_at(folder, language_model=model, processor=processor)
    return _ready(pipeline, device), mini_image_generation(processor) if is_mini else {}


def _pipeline_at(folder: Path, **parts):
    if "image_tokenizer" not in read_json(folder / "model_index.json"):
        raise ValueError(f"`model` {str(folder)!r} is a pipeline of another library, {ONLY_CODES}")
    # language models alone do without diffusers, which takes seconds to import and has progress bars of its own
    from diffusers.utils import logging as diffusers_logging

    from .models.pipeline_seed import SeedPipeline

    logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    return SeedPipeline.from_pretrained(folder, **parts)


def _image_tokenizer_of(processor: SeedProcessor):
    """The image tokenizer that a language model names: SEED's own, or the adapter of another."""
    files = find_image_tokenizer_files(*_repository_of(processor))
    if files.kind != SEED_TYPE:
        # the size decides how many codes an image has
        size = dict(processor.image_processor.size)["height"]
        files = find_image_tokenizer_files(*_repository_of(processor), image_size=size)
    named = image_tokenizers.load_image_tokenizer(files)
    return named.model if isinstance(named, SeedAdapter) else named


def _repository_of(processor: SeedProcessor) -> tuple[str, str | None]:
    tokenizer = processor.tokenizer
    if tokenizer.image_tokenizer_id is None:
        raise ValueError(
            f"The language model {tokenizer.name_or_path!r} names no image tokenizer, and has none inside; allowed: "
            "one whose tokenizer_config.json has `image_tokenizer_id`, the folder or Hub id of what made its codes."
        )
    return tokenizer.image_tokenizer_id, tokenizer.image_tokenizer_revision


def _ready(pipeline, device: str | None):
    pipeline.set_progress_bar_config(disable=None, leave=False, desc="drawing")
    return pipeline.to(find_device(device))


__all__ = [
    "find_device",
    "load_drawing_pipeline",
    "load_image_tokenizer",
    "load_language_model",
    "load_pipeline",
    "load_text_tokenizer",
]
