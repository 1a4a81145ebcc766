"""`seed-hf`: the command line of the package. One module per sub-command, imported only when it is asked for."""

import argparse
import importlib
import sys

from .. import __version__
from ..missing_packages import describe_missing


# name -> one line of help. The module is `seed_hf/commands/<name>.py` ("-" becomes "_"), with `add_arguments(parser)`
# and `run(args)`, and does nothing that a public function of the package does not do.
COMMANDS = {
    "convert": "turn released or foreign weights into folders of this package, and back",
    "export-lm": "write a language model as a plain transformers folder that loads without this package",
    "encode": "turn the images of a data set into codes, resumable, in any number of processes",
    "eval": "measure retrieval, reconstruction, captions or VQA, and write the scores as JSON",
    "card": "write a model card from the configuration, the training log and evaluations",
    "push": "upload a folder to the Hub",
}


def main(argv: list[str] | None = None) -> int:
    r"""
    Runs one sub-command.

    Args:
        argv (`list[str]`, *optional*): Arguments without the program's name; `sys.argv` by default.

    Returns:
        `int`: Exit status: 0, or 1 after a wrong input or a missing package, with one message and no traceback.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except ImportError as error:
        if (message := describe_missing(error, argv[0])) is None:
            raise
        return _fail(argv[0], message)


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="seed-hf", description="SEED image tokens on the Hugging Face stack.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=help_text)
        # only the module of the command in question is imported: `seed-hf --help` must not wait for torch
        if argv and argv[0] == name:
            command = importlib.import_module(f".{name.replace('-', '_')}", __name__)
            command.add_arguments(subparser)
    args = parser.parse_args(argv)
    importlib.import_module("seed_hf.models")  # registers the Auto classes
    try:
        command.run(args)
    except (ValueError, OSError) as error:
        from ..hub.secrets import hide_credentials  # brings huggingface_hub, for which `--help` must not wait

        return _fail(args.command, hide_credentials(str(error)))
    return 0


def _fail(command: str, message: str) -> int:
    print(f"seed-hf {command}: {message}", file=sys.stderr)
    return 1


__all__ = ["COMMANDS", "main"]
