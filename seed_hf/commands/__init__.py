"""`seed-hf`: the command line of the package. One module per sub-command, imported only when it is asked for."""

import importlib
import os
import re
import sys
from typing import Annotated

import typer

from .. import __version__
from ..missing_packages import describe_missing
from .parsing import PLAIN, Debug, LazyGroup, UsageError, make_command, make_group


# name -> one line of help. The module is `seed_hf/commands/<name>.py` ("-" becomes "_"), with `EXAMPLES` and a typed
# function `run`, or `LEAVES`: for each sub-command what it does, and its function. It does nothing that a public
# function of the package does not do, and imports the rest of the package inside: `--help` must not wait for torch.
COMMANDS = {
    "tokenize": "Turn images into codes, one JSON line for each image.",
    "reconstruct": "Draw images again from their codes alone.",
    "caption": "Say what images show.",
    "ask": "Answer a question about an image.",
    "draw": "Draw pictures of what words say.",
    "edit": "Change images by their codes: finish, mix, vary or blend them.",
    "chat": "Talk with a model in words and images, over several turns.",
    "info": "Say what a model or a data set of codes is: its kind, sizes, codes and licence.",
    "search": "Find images by words or by an image, or find duplicates, from codes alone.",
    "serve": "Answer requests over HTTP in the shapes of OpenAI's API: chats, pictures, codes and embeddings.",
    "app": "Show the model in a browser: reconstruct, mix, chat, draw, search.",
    "demo": "Show what seed-mini sees in drawings and draws for words, as one page.",
    "convert": "Turn released or foreign weights into folders of this package, and back.",
    "export-lm": "Write a language model as a plain transformers folder that loads without this package.",
    "export-encoder": "Write an image tokenizer for onnxruntime, OpenVINO, torch.export or the browser.",
    "encode": "Turn the images of a data set into codes, resumable, in any number of processes.",
    "eval": "Measure retrieval, reconstruction, captions or VQA, and write the scores as JSON.",
    "report": "Write the report card of an image tokenizer: how its codes are used, and what is broken.",
    "card": "Write a model card from the configuration, the training log and evaluations.",
    "push": "Upload a folder to the Hub.",
}


class _Commands(LazyGroup):
    table = COMMANDS

    def load(self, name: str):
        module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
        if hasattr(module, "LEAVES"):
            return make_group(name, COMMANDS[name], module.LEAVES, module.EXAMPLES)
        return make_command(name, COMMANDS[name], module.run, module.EXAMPLES)


def _show_version(value: bool):
    if value:
        print(f"seed-hf {__version__}")
        raise typer.Exit


def _start(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, help="Show the version.")] = False,
    debug: Debug = False,
):
    pass


def find_command():
    """Gives the whole command line, for whoever looks into it: `TyperGroup`."""
    settings = {"context_settings": {"help_option_names": ["-h", "--help"]}, **PLAIN}
    app = typer.Typer(cls=_Commands, help="SEED image tokens on the Hugging Face stack.", **settings)
    app.callback()(_start)
    return typer.main.get_command(app)


def main(argv: list[str] | None = None) -> int:
    """
    Runs one sub-command.

    Args:
        argv (`list[str]`, *optional*): Arguments without the program's name; `sys.argv` by default.

    Returns:
        `int`: Exit status: 0; 1 after a wrong input or a missing package, with one line and no traceback, or where
        some of the images could not be read; 2 after wrong flags.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except UsageError as error:
        return _report_usage(error)
    except BrokenPipeError:
        # whoever reads the output, such as `head`, has enough; Python would complain when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, ValueError, OSError) as error:
        name = next(word for word in argv if word in COMMANDS)
        message = describe_missing(error, name) if isinstance(error, ImportError) else _describe(error)
        if message is None or "--debug" in argv:
            raise
    from ..hub.secrets import hide_credentials  # brings huggingface_hub, for which `--help` must not wait

    message = _with_flags(" ".join(message.split()), find_command().get_command(None, name))
    print(f"seed-hf {name}: {hide_credentials(message)}", file=sys.stderr)
    return 1


def _describe(error: ValueError | OSError) -> str:
    """What is wrong with a place, in words."""
    place = str(getattr(error, "filename", None) or "")
    if place and isinstance(error, FileNotFoundError):
        return f"there is no {place!r}."
    if place and isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{place!r} cannot be a folder: it, or a part of its path, is a file."
    return str(error)


def _run(argv: list[str]) -> int:
    status = find_command().main(argv, prog_name="seed-hf", standalone_mode=False) or 0
    sys.stdout.flush()
    return status


def _with_flags(message: str, command) -> str:
    """Names flags as people write them: a library speaks of its arguments."""
    commands = [command, *getattr(command, "commands", {}).values()]
    flags = {param.name: param.opts[0] for command in commands for param in command.params if param.opts[0][0] == "-"}
    return re.sub(r"`(\w+)`", lambda match: f"`{flags.get(match[1], match[1])}`", message)


def _report_usage(error: UsageError) -> int:
    message = " ".join(error.format_message().split())
    if hasattr(error.__cause__, "errors"):
        # pydantic, by which newer versions of typer read values, speaks to programmers, and names no value
        detail = error.__cause__.errors()[0]
        reason = detail["msg"].removeprefix("Value error, ").partition(", unable")[0]
        message = f"invalid value {detail['input']!r} for {error.param.get_error_hint()}: {reason}."
    print(error.ctx.get_usage(), file=sys.stderr)
    print(f"{error.ctx.command_path}: error: {message[:1].lower()}{message[1:]}", file=sys.stderr)
    return 2


__all__ = ["COMMANDS", "find_command", "main"]
