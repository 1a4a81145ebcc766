"""Flags: one spelling for all commands."""

import argparse
import importlib
import re
from collections.abc import Iterator

import pytest

from seed_hf.commands import COMMANDS
from seed_hf.demo.run import parse_args


def all_flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                yield from all_flags(choice)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_have_hyphens(command):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"seed_hf.commands.{command.replace('-', '_')}").add_arguments(parser)
    flags = set(all_flags(parser)) - {"-h"}
    assert len(flags) > 1 and [flag for flag in flags if not re.fullmatch(r"--[a-z]+(-[a-z]+)*", flag)] == []


def test_the_demo_takes_underscores_as_well(capsys):
    ours = parse_args(["--num-pictures", "3", "--output-dir=a_b", "--prompt", "snake_case"])
    assert parse_args(["--num_pictures", "3", "--output_dir=a_b", "--prompt", "snake_case"]) == ours
    assert (ours.num_pictures, ours.output_dir.name, ours.prompt) == (3, "a_b", ["snake_case"])
    with pytest.raises(SystemExit):
        parse_args(["--help"])
    assert re.findall(r"--\w+_\w+", capsys.readouterr().out) == []
