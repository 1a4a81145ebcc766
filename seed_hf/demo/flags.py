"""The demo's flags, apart from the demo so that `seed-hf demo --help` does not wait for torch."""

import argparse
from pathlib import Path


QUESTION = "What kind of thing is this?"


def add_arguments(parser: argparse.ArgumentParser):
    """
    Adds the flags of the demo.

    Args:
        parser (`argparse.ArgumentParser`): Parser of `python -m seed_hf.demo` or of `seed-hf demo`.
    """
    add = parser.add_argument
    add("--image", action="append", default=[], help="an image of your own; may be repeated")
    add("--prompt", action="append", default=[], help="what to draw; may be repeated")
    add("--question", default=QUESTION, help="asked about every image (default: %(default)r)")
    add("--output-dir", type=Path, default=Path("demo_output"), help="default: %(default)s")
    num_help = "how many to show, filled up with held-out drawings (default: 12)"
    add("--num-pictures", type=int, default=12, help=num_help)
    add("--num-inference-steps", type=int, help="steps of the decoder (default: the pipeline's)")
    add("--seed", type=int, default=0, help="seed of the noise that pictures are drawn from (default: 0)")
    add("--pipeline", default="seed-mini", help="folder in the layout of SeedPipeline (default: seed-mini)")
    add("--language-model", default="seed-mini", help="folder of the language model or adapter (default: seed-mini)")
    add("--pictures", default="seed-mini", help="folder with pictures.json and captions.txt (default: seed-mini's)")


__all__ = ["QUESTION", "add_arguments"]
