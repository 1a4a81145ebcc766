"""Flags: one spelling for all commands."""

import re
from collections.abc import Iterator

import pytest

from seed_hf.commands import COMMANDS, eval, find_command, main
from seed_hf.demo.run import parse_args
from seed_hf.evaluation import CAPTION_METRICS
from seed_hf.loading import shown_name


def all_flags(command) -> Iterator[str]:
    for param in command.params:
        yield from (name for name in (*param.opts, *param.secondary_opts) if name.startswith("-"))
    for leaf in getattr(command, "commands", {}).values():
        yield from all_flags(leaf)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_have_hyphens(command):
    flags = set(all_flags(find_command().get_command(None, command)))
    assert len(flags) > 1 and [flag for flag in flags if not re.fullmatch(r"--[a-z]+8?(-[a-z]+)*", flag)] == []


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
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"examples:\n  seed-hf {command}" in printed
    leaves = getattr(find_command().get_command(None, command), "commands", {})
    assert leaves or "--debug" in printed
    for leaf in leaves:
        assert main([command, leaf, "--help"]) == 0
        printed = capsys.readouterr().out
        assert f"examples:\n  seed-hf {command} {leaf} " in printed and "--debug" in printed
        assert not any(f"{command} {other} " in printed for other in leaves if other != leaf)


@pytest.mark.parametrize("words", [["push", "a", "b"], ["convert", "seed-1", "a", "--output", "b"]])
def test_an_unknown_flag_shows_the_usage_of_its_command(words, capsys):
    assert main([*words, "--nonsense"]) == 2
    printed = capsys.readouterr().err
    assert "no such option: --nonsense" in printed
    assert printed.startswith(f"usage: seed-hf {words[0]}") and "--debug" in printed.split("error:")[0]


def test_a_name_that_is_nowhere_is_reported_in_one_line(tmp_path, capsys):
    for line in ("export-lm nowhere out", "eval vqa nowhere --dataset a --output b", "encode nowhere a b"):
        assert main(line.split()) == 1
        name = line.split()[0]
        (printed,) = capsys.readouterr().err.splitlines()
        assert printed.startswith(f"seed-hf {name}: no folder 'nowhere' exists, and the Hub could not be reached")
    assert main(["export-lm", "a/b/c", str(tmp_path)]) == 1 and "owner/name" in capsys.readouterr().err


def test_a_place_that_is_no_folder_is_reported_before_the_work(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    for line in (
        f"reconstruct {tmp_path} --output {file}",
        f"draw owl --output {file}/x",
        f"demo --output-dir {file}",
    ):
        assert main(line.split()) == 1
        error = capsys.readouterr().err
        assert "cannot be a folder" in error and str(file) in error and "Errno" not in error
    assert main(["search", str(tmp_path / "nowhere.jsonl"), "owl"]) == 1
    assert "there is no" in capsys.readouterr().err


def test_a_folder_is_shown_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert [shown_name(name) for name in (".", str(tmp_path / "mine"), "owner/model")] == [
        "mine",
        "mine",
        "owner/model",
    ]


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="nowhere"):
        main("export-lm nowhere out --debug".split())


@pytest.mark.parametrize(
    "line, problem",
    [
        ("tokenize a.png --batch-size many", "invalid value 'many' for '--batch-size': "),
        ("tokenize a.png --output --batch-size 3", "--output needs a value, and --batch-size follows."),
        ("push a b --gated c", "'c'"),
        ("push a b --revision c --create-pr", "a pull request goes to the main branch"),
        ("eval caption a --dataset b --output c --metrics SPICE D", "'--metrics': D; allowed: BLEU-1, "),
        ("draw a", "missing option '--output'"),
        ("nothing", "no such command 'nothing'"),
        ("export-lm a b --max-shard-size huge", "'huge'; allowed: a number with a unit"),
    ],
)
def test_wrong_usage_is_one_line_under_the_usage(line, problem, capsys):
    assert main(line.split()) == 2
    *usage, last = capsys.readouterr().err.splitlines()
    assert usage[0].startswith("usage: seed-hf") and last.startswith("seed-hf") and problem in last


def test_flags_take_several_values_where_they_say_so():
    words = ["a", "--ignore", "*.bin", "logs", "--message", "m", "b", "--ignore", "c"]
    context = find_command().get_command(None, "push").make_context("push", words)
    assert (context.params["ignore"], context.params["message"]) == (["*.bin", "logs", "c"], "m")
    assert (context.params["folder"], context.params["repo_id"]) == ("a", "b")
    words = ["a", "b", "--message=", "--ignore", "c"]
    assert find_command().get_command(None, "push").make_context("push", words).params["message"] == ""
    convert = find_command().get_command(None, "convert").commands["seed-1"]
    context = convert.make_context("seed-1", ["--allow-missing", "x", "a.pth", "--output", "out", "--", "--b.pth"])
    assert (context.params["allow_missing"], context.params["paths"]) == (["x"], ["a.pth", "--b.pth"])


def test_prompts_may_stand_among_flags():
    context = find_command().get_command(None, "draw").make_context("draw", "a --seed 1 b --output c".split())
    assert (context.params["prompts"], context.params["seed"]) == (["a", "b"], 1)


@pytest.mark.parametrize("width", ["60", "200"])
def test_help_is_plain_on_any_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["tokenize", "--help"]) == 0
    lines = capsys.readouterr().out.partition("examples:")[0].splitlines()
    assert max(map(len, lines)) <= min(int(width), 80) and all(line.isascii() and line.isprintable() for line in lines)


def test_shells_complete_commands_and_flags(capsys, monkeypatch):
    assert completed("seed-hf rec", 1, capsys, monkeypatch) == ["reconstruct"]
    assert completed("seed-hf eval retr", 2, capsys, monkeypatch) == ["retrieval"]
    assert completed("seed-hf push --dry", 2, capsys, monkeypatch) == ["--dry-run"]


def completed(words: str, number: int, capsys, monkeypatch) -> list[str]:
    """What bash is told by the program, with the script of `--show-completion`."""
    monkeypatch.setenv("_SEED_HF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(number))
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    return capsys.readouterr().out.split()
