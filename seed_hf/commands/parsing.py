"""How `seed-hf` reads its words: typer, in plain text, with each sub-command imported only when it is asked for."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup


# typer has no public name for what its parser raises, of which a wrong value is one case
UsageError = typer.BadParameter.__base__
PLAIN = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
Debug = Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")]


class _Plain:
    """What commands and groups share: all flags in the usage, no types of Python, examples as they were written."""

    def format_usage(self, ctx, formatter):
        """Wraps between flags only."""
        lines = [f"usage: {ctx.command_path}"]
        for piece in self.collect_usage_pieces(ctx):
            if len(lines[-1]) + len(piece) >= formatter.width and not lines[-1].isspace():
                lines.append(" " * len(f"usage: {ctx.command_path}"))
            lines[-1] += f" {piece}"
        formatter.write("\n".join(lines) + "\n")

    def collect_usage_pieces(self, ctx) -> list[str]:
        """Flags, then arguments; what may be left out in brackets."""
        options, arguments = [], []
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                arguments.append(_value(param) if param.required else f"[{_value(param)}]")
            elif not param.hidden:
                name = max(param.opts, key=len)  # typer keeps `-h` and `--help` in no order
                piece = name if param.is_flag else f"{name} {_value(param)}"
                options.append(piece if param.required else f"[{piece}]")
        return [*options, *arguments, *([self.subcommand_metavar] if hasattr(self, "subcommand_metavar") else [])]

    def format_options(self, ctx, formatter):
        """Arguments and flags with their help; a group adds its commands."""
        records = {"argument": [], "option": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                name = _value(param) if param.param_type_name == "argument" else record[0]
                records[param.param_type_name].append((name, record[1]))
        for title, rows in (("Arguments", records["argument"]), ("Options", records["option"])):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        if hasattr(self, "format_commands"):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx, formatter):
        """Examples, line by line."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}")


class Command(_Plain, TyperCommand):
    """A command whose flags take several values where their metavar ends in "...": `--ignore "*.bin" logs`."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        """Parses the words of the command."""
        return super().parse_args(ctx, self._spread(ctx, args))

    def _spread(self, ctx, args: list[str]) -> list[str]:
        """Repeats such a flag before each of its values, as the parser wants it."""
        options = {flag: param for param in self.params for flag in (*param.opts, *param.secondary_opts)}
        spread, flag, count = [], None, 0
        for position, word in enumerate(args):
            if word == "--":
                return [*spread, *args[position:]]
            if word.startswith("--"):
                if flag in options and not options[flag].is_flag and not count:
                    raise UsageError(f"{flag} needs a value, and {word} follows.", ctx=ctx)
                flag, equals, _ = word.partition("=")
                count = len(equals)
            elif flag in options and _value(options[flag]).endswith("..."):
                spread += [flag] * (count > 0)
                count += 1
            else:
                count += 1
            spread.append(word)
        return spread


class Group(_Plain, TyperGroup):
    """A command with sub-commands."""

    def format_commands(self, ctx, formatter):
        """Names with all of what they do."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.commands.items()])


class LazyGroup(Group):
    """The commands of a table, each loaded when it is asked for: `--help` must not wait for all."""

    table: Mapping[str, str]
    load: Callable[[str], Any]

    def list_commands(self, ctx) -> list[str]:
        """Names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx, cmd_name: str):
        """The command of a name, if there is one."""
        return self.load(cmd_name) if cmd_name in self.table else None

    def format_commands(self, ctx, formatter):
        """Names with what they do, which needs none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))


def _value(param) -> str:
    return param.metavar or param.name.upper()


def with_options(options: Callable) -> Callable[[Callable], Callable]:
    """
    Makes functions take the parameters of another one, too, as keywords; their own ones win.

    Args:
        options (`Callable`): Its signature counts; it is not called.

    Returns:
        `Callable`: Decorator of functions with a `**` parameter for them.
    """
    added = inspect.signature(options).parameters

    def decorate(function: Callable) -> Callable:
        own = inspect.signature(function).parameters.values()
        own = {parameter.name: parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD}
        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in {**own, **added, **own}.values()]

        def command(**values):
            return function(**values)

        command.__signature__ = inspect.Signature(parameters)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate


def make_command(name: str, text: str, function: Callable, examples: str):
    """
    Makes a command of a function with typed parameters.

    Args:
        name (`str`): Name of the command.
        text (`str`): What it does, for its `--help`.
        function (`Callable`): Returns the exit status, or `None` for 0.
        examples (`str`): Lines for the end of its `--help`.

    Returns:
        `TyperCommand`: The command.
    """

    def debug(debug: Debug = False):
        """It is [`~seed_hf.commands.main`] that looks for it."""

    def run(*, debug: bool, **values):
        importlib.import_module("seed_hf.models")  # registers the Auto classes, for which `--help` must not wait
        return function(**values)

    run.__signature__ = inspect.signature(function)
    app = typer.Typer(add_completion=False, **PLAIN)
    app.command(name, cls=Command, help=text, epilog=examples)(with_options(debug)(run))
    return typer.main.get_command(app)


def make_group(name: str, text: str, leaves: Mapping[str, tuple[str, Callable]], examples: str):
    """
    Makes a command with sub-commands.

    Args:
        name (`str`): Name of the command.
        text (`str`): What it does.
        leaves (`Mapping[str, tuple[str, Callable]]`): For each sub-command what it does, and its function.
        examples (`str`): Lines for the end of `--help`; a sub-command shows its own ones.

    Returns:
        `TyperGroup`: The command.
    """
    app = typer.Typer(cls=Group, name=name, help=text, epilog=examples, add_completion=False, **PLAIN)
    app.callback()(lambda: None)
    group = typer.main.get_command(app)
    for leaf, (leaf_text, function) in leaves.items():
        group.add_command(make_command(leaf, leaf_text, function, _examples_of(f"{name} {leaf}", examples)), leaf)
    return group


def _examples_of(command: str, examples: str) -> str:
    """Those of one sub-command; a line that goes on is indented further."""
    head, *entries = examples.split("\n  seed-hf ")
    return "\n  seed-hf ".join([head, *(entry.rstrip("\n") for entry in entries if entry.startswith(command))]) + "\n"
