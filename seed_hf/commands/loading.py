"""The models behind `--model` and `--device`, loaded for the commands that use them."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import torch

    from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


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
    """Says in one line which model is used."""
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
