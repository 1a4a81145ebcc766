"""Flags: one spelling for all commands."""

import argparse
import importlib
import re
from collections.abc import Iterator

import pytest

from seed_hf.commands import COMMANDS, eval, main
from seed_hf.demo.run import parse_args
from seed_hf.evaluation import CAPTION_METRICS


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


def test_metrics_are_those_of_the_evaluation():
    assert eval.CAPTION_METRICS == CAPTION_METRICS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_debug(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "--debug" in printed and f"examples:\n  seed-hf {command}" in printed


@pytest.mark.parametrize("words", [["push", "a", "b"], ["convert", "seed-1", "a", "--output", "b"]])
def test_an_unknown_flag_shows_the_usage_of_its_command(words, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--nonsense"])
    printed = capsys.readouterr().err
    assert end.value.code == 2 and "unrecognized arguments: --nonsense" in printed
    assert printed.startswith(f"usage: seed-hf {words[0]}") and "--debug" in printed.split("error:")[0]


def test_a_name_that_is_nowhere_is_reported_in_one_line(tmp_path, capsys):
    for line in ("export-lm nowhere out", "eval retrieval nowhere --dataset nothing --output x.json"):
        assert main(line.split()) == 1
        name = line.split()[0]
        (printed,) = capsys.readouterr().err.splitlines()
        assert printed.startswith(f"seed-hf {name}: no folder 'nowhere' exists, and the Hub could not be reached")
    assert main(["export-lm", "a/b/c", str(tmp_path)]) == 1 and "owner/name" in capsys.readouterr().err


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="nowhere"):
        main("export-lm nowhere out --debug".split())
