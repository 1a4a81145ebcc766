"""`seed-hf export-lm`: [`~seed_hf.convert.export.export_language_model`] on the command line."""

import argparse


EXAMPLES = """examples:
  seed-hf export-lm seed-mini plain
  seed-hf export-lm out/stage3 plain --dtype bfloat16
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    help_text = "'seed-mini', or folder or Hub id of a language model or a LoRA adapter, which is merged"
    parser.add_argument("model", help=help_text)
    parser.add_argument("output", help="folder to write, made if missing")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="type of the weights (default: float32)",
    )
    parser.add_argument("--max-shard-size", default="5GB", help="size of the largest weights file (default: 5GB)")
    parser.add_argument(
        "--grammar",
        action="store_true",
        help="also write grammar/: what an image looks like, as GBNF, regular expression and llguidance grammar",
    )
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")


def run(args: argparse.Namespace):
    """Exports, and says what was written."""
    # inside `run`, so that `--help` does not wait for torch
    import torch

    from ..convert.export import export_language_model
    from ..hub.fetch import check_model_exists, resolve_mini

    check_model_exists(args.model, args.revision)
    plain = export_language_model(
        resolve_mini(args.model, "language_model"),
        args.output,
        dtype=getattr(torch, args.dtype),
        max_shard_size=args.max_shard_size,
        revision=args.revision,
        grammar=args.grammar,
    )
    print(f"{args.output}: {type(plain).__name__} with {plain.config.vocab_size} tokens")


__all__ = ["add_arguments", "run"]
