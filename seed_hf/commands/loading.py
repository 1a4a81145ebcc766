"""The models behind `--model` and `--device`, loaded for the commands that use them."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import torch

    from ..models.modeling_seed import SeedForCausalLM
    from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
    from ..models.pipeline_seed import SeedPipeline
    from ..models.processing_seed import SeedProcessor


NO_LANGUAGE_MODEL = "is a pipeline without a language model; allowed: a language model, or a pipeline saved with one."


def add_model_arguments(parser: argparse.ArgumentParser, what: str):
    """
    Adds `--model` and `--device`.

    Args:
        parser (`argparse.ArgumentParser`): Parser of a sub-command.
        what (`str`): What the model has to be.
    """
    parser.add_argument("--model", default="seed-mini", help=f"folder or Hub id of {what} (default: seed-mini)")
    parser.add_argument("--device", help="such as cpu, cuda or mps (default: cuda where there is one, or else cpu)")


def find_model(args: argparse.Namespace, part: str = "pipeline") -> Path:
    """
    Finds the folder of `--model`, and says on standard error which model is used.

    Args:
        args (`argparse.Namespace`): Has `model`.
        part (`str`, defaults to `"pipeline"`): Part of seed-mini, see [`~seed_hf.hub.fetch.resolve_mini`].

    Returns:
        `Path`: The folder.
    """
    from ..hub.fetch import find_folder

    announce(args.model)
    return find_folder(args.model, part)


def announce(model: str):
    """Says in one line which model is used; the bars of loading weights would only hide it."""
    from transformers.utils import logging  # brings torch

    logging.disable_progress_bar()
    about = ", which knows small drawings like emoji; --model names another" if model == "seed-mini" else ""
    print(f"using {model}{about}", file=sys.stderr)


def find_device(name: str | None) -> "torch.device":
    """
    Chooses the device.

    Args:
        name (`str`, *optional*): Value of `--device`.

    Returns:
        `torch.device`: A device that is there.

    Raises:
        ValueError: There is no such device.
    """
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"`--device` is {name!r} ({reason}); allowed: cpu, or a device that is here.") from error


def load_image_tokenizer(
    args: argparse.Namespace,
) -> tuple["SeedImageTokenizer", Callable[[list], "torch.Tensor"], Path]:
    """
    Loads an image tokenizer without the decoder of pictures, and so without diffusers.

    Args:
        args (`argparse.Namespace`): Has `model` and `device`.

    Returns:
        `tuple`: The model, what turns a list of images into codes as `SeedPipeline.encode_image` does, and the
        folder.
    """
    import torch

    from ..hub.fetch import find_image_tokenizer
    from ..models.image_processing_seed import SeedImageProcessor
    from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer

    announce(args.model)
    folder, processor_folder = find_image_tokenizer(args.model)
    processor = SeedImageProcessor.from_pretrained(processor_folder)
    # half precision changes some codes; the pipeline loads in float32, too
    model = SeedImageTokenizer.from_pretrained(folder, dtype=torch.float32).eval().to(find_device(args.device))

    @torch.no_grad()
    def encode(images: list) -> torch.Tensor:
        return model.encode(processor(images, return_tensors="pt")["pixel_values"].to(model.device)).cpu()

    return model, encode, folder


def load_language_model(args: argparse.Namespace) -> tuple["SeedForCausalLM", "SeedProcessor"]:
    """
    Loads a language model that reads images: alone, or out of a pipeline that was saved with one.

    Args:
        args (`argparse.Namespace`): Has `model` and `device`.

    Returns:
        `tuple[SeedForCausalLM, SeedProcessor]`: The processor's `encode_image` turns images into its codes.

    Raises:
        ValueError: A pipeline has no language model.
    """
    from ..hub.fetch import MINI_NAME, find_image_tokenizer
    from ..mini import mini_language_model
    from ..models.modeling_seed import SeedForCausalLM
    from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
    from ..models.processing_seed import SeedProcessor

    folder = find_model(args, "language_model")
    if (folder / "model_index.json").is_file():
        pipeline = _load_pipeline(folder)
        if pipeline.language_model is None:
            raise ValueError(f"`--model` {args.model!r} {NO_LANGUAGE_MODEL}")
        model, processor, image_tokenizer = pipeline.language_model, pipeline.processor, pipeline.image_tokenizer
    else:
        if args.model == MINI_NAME:
            model, processor = mini_language_model()
        else:
            model = SeedForCausalLM.from_pretrained(folder, image_tokenizer=True, dtype="auto")
            processor = SeedProcessor.from_pretrained(folder)
        image_tokenizer = model.image_tokenizer
    if image_tokenizer is None:
        named, _ = find_image_tokenizer(*_repository_of(processor))
        image_tokenizer = SeedImageTokenizer.from_pretrained(named, dtype="float32")
    device = find_device(args.device)
    processor.tokenizer.image_codec.image_tokenizer = image_tokenizer.eval().to(device)
    return model.eval().to(device), processor


def _load_pipeline(folder: Path, **parts) -> "SeedPipeline":
    from diffusers.utils import logging  # its bars are its own

    from ..models.pipeline_seed import SeedPipeline

    logging.disable_progress_bar()
    return SeedPipeline.from_pretrained(folder, **parts)


def _repository_of(processor: "SeedProcessor") -> tuple[str, str | None]:
    tokenizer = processor.tokenizer
    return tokenizer.image_tokenizer_id, tokenizer.image_tokenizer_revision


def load_pipeline(args: argparse.Namespace) -> "SeedPipeline":
    """
    Loads what draws pictures of codes.

    Args:
        args (`argparse.Namespace`): Has `model` and `device`.

    Returns:
        [`SeedPipeline`]: Its progress bar shows on a terminal only.

    Raises:
        ValueError: The folder holds no pipeline.
    """
    folder = find_model(args)
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"`--model` {args.model!r} has no model_index.json; allowed: a pipeline, which can draw.")
    return _ready(_load_pipeline(folder), args)


def load_drawing_pipeline(args: argparse.Namespace) -> tuple["SeedPipeline", dict]:
    """
    Loads what draws pictures of words.

    Args:
        args (`argparse.Namespace`): Has `model` and `device`.

    Returns:
        `tuple[SeedPipeline, dict]`: The pipeline with its language model, and settings of `encode_prompt`.

    Raises:
        ValueError: A pipeline has no language model.
    """
    from ..hub.fetch import MINI_NAME, find_folder
    from ..mini import mini_image_generation

    if args.model != MINI_NAME and (find_folder(args.model) / "model_index.json").is_file():
        pipeline = load_pipeline(args)
        if pipeline.language_model is None:
            raise ValueError(f"`--model` {args.model!r} {NO_LANGUAGE_MODEL}")
        return pipeline, {}
    model, processor = load_language_model(args)
    is_mini = args.model == MINI_NAME
    repository, revision = _repository_of(processor)
    folder = find_folder(MINI_NAME if is_mini else repository, revision=revision)
    pipeline = _load_pipeline(folder, language_model=model, processor=processor)
    return _ready(pipeline, args), mini_image_generation(processor) if is_mini else {}


def _ready(pipeline: "SeedPipeline", args: argparse.Namespace) -> "SeedPipeline":
    pipeline.set_progress_bar_config(disable=None, leave=False, desc="drawing")
    return pipeline.to(find_device(args.device))
