"""What scripts need to read their flags: the form of `--help`, and recipes. Imports nothing that takes long."""

import argparse
import copy
import os
from pathlib import Path

import yaml


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Line breaks of the description, defaults where there are any, and one of the two spellings of each flag."""

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = action.default is not None and action.default is not False
        return super()._get_help_string(action) if has_default else action.help

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)
        shown.option_strings = [
            name for name in action.option_strings if not name.startswith("--") or "-" not in name[2:]
        ]
        return super()._format_action_invocation(shown)


def read_recipe(path: str | os.PathLike) -> dict:
    """Reads a recipe.

    Args:
        path (`str` or `os.PathLike`): YAML file, a mapping from the names of flags (without dashes) to their values:
            `true` or `false` for a switch, a list for a flag with several values, nothing for the default. `based_on`
            names a recipe, relative to this one, whose values count where this one has none.

    Returns:
        `dict`: Value by flag.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"recipe={str(path)!r} cannot be read as YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe={str(path)!r} holds no mapping from flags to values.")
    base = recipe.pop("based_on", None)
    return {**(read_recipe(Path(path).parent / base) if base else {}), **recipe}


__all__ = ["HelpFormatter", "read_recipe"]
