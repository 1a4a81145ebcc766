"""`seed-hf export-lm`: [`~export_seed.export_language_model`] on the command line."""

import argparse

import torch

from ..export_seed import export_language_model


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.add_argument("model", help="folder or Hub id of a language model, or of a LoRA adapter, which is merged")
    parser.add_argument("output", help="folder to write, made if missing")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="of the weights"
    )
    parser.add_argument("--max-shard-size", default="5GB", help="largest weights file (default: 5GB)")
    parser.add_argument("--revision", help="of the repository")


def run(args: argparse.Namespace):
    """Exports, and says what was written."""
    plain = export_language_model(
        args.model,
        args.output,
        dtype=getattr(torch, args.dtype),
        max_shard_size=args.max_shard_size,
        revision=args.revision,
    )
    print(f"{args.output}: {type(plain).__name__} with {plain.config.vocab_size} tokens")


__all__ = ["add_arguments", "run"]
