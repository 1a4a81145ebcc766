"""`seed-hf`: the command line of the package. One module per sub-command, imported only when it is asked for."""

import argparse
import importlib
import os
import sys

from .. import __version__
from ..missing_packages import describe_missing


# name -> one line of help. The module is `seed_hf/commands/<name>.py` ("-" becomes "_"), with `add_arguments(parser)`
# and `run(args)`, and does nothing that a public function of the package does not do. It imports the rest of the
# package inside `run`: `--help` must not wait for torch.
COMMANDS = {
    "tokenize": "turn images into codes, one JSON line for each image",
    "reconstruct": "draw images again from their codes alone",
    "caption": "say what images show",
    "ask": "answer a question about an image",
    "draw": "draw pictures of what words say",
    "chat": "talk with a model in words and images, over several turns",
    "info": "say what a model or a data set of codes is: its kind, sizes, codes and licence",
    "search": "find images by words or by an image, or find duplicates, from codes alone",
    "serve": "answer requests over HTTP in the shapes of OpenAI's API: chats, pictures, codes and embeddings",
    "demo": "show what seed-mini sees in drawings and draws for words, as one page",
    "convert": "turn released or foreign weights into folders of this package, and back",
    "export-lm": "write a language model as a plain transformers folder that loads without this package",
    "encode": "turn the images of a data set into codes, resumable, in any number of processes",
    "eval": "measure retrieval, reconstruction, captions or VQA, and write the scores as JSON",
    "card": "write a model card from the configuration, the training log and evaluations",
    "push": "upload a folder to the Hub",
}


class _Parser(argparse.ArgumentParser):
    """Takes `--debug` after every sub-command, and answers an unknown flag with that sub-command's usage."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        debug_help = "show the whole traceback of an error"
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=debug_help)

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown


def main(argv: list[str] | None = None) -> int:
    r"""
    Runs one sub-command.

    Args:
        argv (`list[str]`, *optional*): Arguments without the program's name; `sys.argv` by default.

    Returns:
        `int`: Exit status: 0, or 1 after a wrong input or a missing package, with one line and no traceback, or where
        some of the images could not be read.
    """
    args = _parse(sys.argv[1:] if argv is None else argv)
    debug = vars(args).pop("debug", False)
    try:
        return _run(args)
    except BrokenPipeError:
        # whoever reads the output, such as `head`, has enough; Python would complain when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, ValueError, OSError) as error:
        message = describe_missing(error, args.command) if isinstance(error, ImportError) else str(error)
        if debug or message is None:
            raise
    from ..hub.secrets import hide_credentials  # brings huggingface_hub, for which `--help` must not wait

    print(f"seed-hf {args.command}: {hide_credentials(' '.join(message.split()))}", file=sys.stderr)
    return 1


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="seed-hf", description="SEED image tokens on the Hugging Face stack.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=help_text)
        # only the module of the command in question is imported
        if name in argv[:2]:
            _module(name).add_arguments(subparser)
    return parser.parse_args(argv)


def _run(args: argparse.Namespace) -> int:
    importlib.import_module("seed_hf.models")  # registers the Auto classes
    status = _module(args.command).run(args) or 0
    sys.stdout.flush()
    return status


def _module(name: str):
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)


__all__ = ["COMMANDS", "main"]
