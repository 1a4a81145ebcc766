"""`seed-hf demo`: what `python -m seed_hf.demo` does."""

import argparse

from ..demo.flags import add_arguments as add_demo_arguments


EXAMPLES = """examples:
  seed-hf demo
  seed-hf demo --image cat.jpg --prompt "a red apple" --output-dir seen
"""


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    add_demo_arguments(parser)


def run(args: argparse.Namespace):
    """Runs the demo, which prints what it finds."""
    from ..demo.run import run_demo  # inside `run`, so that `--help` does not wait for torch

    run_demo(args)


__all__ = ["add_arguments", "run"]
