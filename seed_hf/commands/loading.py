"""`--model` and `--device`, which the commands that use a model share."""

import argparse
import sys


def add_model_arguments(parser: argparse.ArgumentParser, what: str):
    """
    Adds `--model` and `--device`.

    Args:
        parser (`argparse.ArgumentParser`): Parser of a sub-command.
        what (`str`): What the model has to be.
    """
    parser.add_argument("--model", default="seed-mini", help=f"folder or Hub id of {what} (default: seed-mini)")
    parser.add_argument("--device", help="such as cpu, cuda or mps (default: cuda where there is one, or else cpu)")


def announce(args: argparse.Namespace) -> tuple[str, str | None]:
    """
    Says in one line which model is used.

    Args:
        args (`argparse.Namespace`): Has `model` and `device`.

    Returns:
        `tuple[str, str | None]`: Both, for the functions of [`seed_hf.loading`].
    """
    about = ", which knows small drawings like emoji; --model names another" if args.model == "seed-mini" else ""
    print(f"using {args.model}{about}", file=sys.stderr)
    return args.model, args.device
