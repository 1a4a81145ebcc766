"""`seed-hf caption`: what a language model says about images, by [`~seed_hf.inference.generate_texts`]."""

import argparse
import json
from typing import TYPE_CHECKING

from .images import PATHS_HELP, Failures, encode_files, find_images
from .loading import add_model_arguments, announce


if TYPE_CHECKING:
    import torch

    from ..models.modeling_seed import SeedForCausalLM
    from ..models.processing_seed import SeedProcessor


EXAMPLES = """examples:
  seed-hf caption photo.jpg
  seed-hf caption photos --json
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("paths", nargs="+", help=PATHS_HELP)
    add_text_arguments(parser)


def add_text_arguments(parser: argparse.ArgumentParser):
    """Adds what this command and `seed-hf ask` share."""
    parser.add_argument("--json", action="store_true", help="print one JSON line for each image")
    parser.add_argument("--max-new-tokens", type=int, default=20, help="number of tokens at most (default: 20)")
    add_model_arguments(parser, "a language model or a LoRA adapter, or a pipeline saved with one")


def run(args: argparse.Namespace) -> int:
    """Prints a caption for each image that can be read."""
    from ..loading import load_language_model  # brings torch, for which `--help` must not wait

    failures = Failures()
    files = find_images(args.paths, failures)
    model, processor = load_language_model(*announce(args))
    for batch, codes in encode_files(files, processor.encode_image, failures):
        captions = write_lines(model, processor, codes, processor.caption_prompt, args)
        for file, caption in zip(batch, captions, strict=True):
            row = {"file": str(file), "caption": caption}
            print(json.dumps(row, ensure_ascii=False) if args.json else f"{file}: {caption}", flush=True)
    return failures.finish()


def write_lines(
    model: "SeedForCausalLM", processor: "SeedProcessor", codes: "torch.Tensor", prompt: str, args: argparse.Namespace
) -> list[str]:
    """
    Writes the first line that a language model continues a prompt with, for each image.

    Args:
        model ([`SeedForCausalLM`]): The language model.
        processor ([`SeedProcessor`]): Its processor.
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Codes of the images.
        prompt (`str`): Words with one `<image>`.
        args (`argparse.Namespace`): Has `max_new_tokens`.

    Returns:
        `list[str]`: A line for each image, written greedily.
    """
    from ..inference import generate_texts  # brings torch

    texts = generate_texts(model, processor, codes, prompt, max_new_tokens=args.max_new_tokens)
    return [text.split("\n")[0].strip() for text in texts]


__all__ = ["add_arguments", "run"]
