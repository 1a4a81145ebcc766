"""`make mini-results`: every step is a command that its script takes, and is run once for the same weights."""

import importlib
import json
import os

import pytest


@pytest.fixture
def mini_results():
    return importlib.import_module("mini_results")


@pytest.mark.parametrize("flags", [[], ["--limit", "3"], ["--trained", "out/my mini"]])
def test_every_command_is_one_that_its_script_takes(mini_results, flags):
    args = mini_results.parse_args(flags)
    for step in mini_results.STEPS:
        _, script, *flags = mini_results.command_of(step, args)
        if script == "-m":
            assert flags[:2] == ["seed_hf.demo", "--output-dir"]
            continue
        path = mini_results.ROOT / script
        source = path.read_text(encoding="utf-8")
        assert all(f'"{flag}"' in source for flag in flags if flag.startswith("--")), script
        if path.parent.name == "mini" and "def parse_args" in source:
            parsed = vars(importlib.import_module(path.stem).parse_args(flags))
            assert not args.limit or parsed.get("limit") in (None, 3)


def test_logs_of_all_stages_are_kept(mini_results):
    stages = importlib.import_module("train_mini").STAGES
    assert list(mini_results.RUNS) == list(dict.fromkeys(stage.folder for stage in stages))


def test_runs_what_is_new_and_all_again_after_a_training(mini_results, tmp_path, monkeypatch, capsys):
    (tmp_path / "script.py").write_text("import sys; open('log', 'a').write(sys.argv[1] + ' ')")
    trained, out = tmp_path / "trained", tmp_path / "out"
    trained.mkdir()
    (trained / "model.safetensors").write_bytes(b"")
    step = mini_results.Step
    steps = [step("a", "script.py {trained}", needs_training=True), step("b", "script.py b", trial="{limit}")]
    monkeypatch.setattr(mini_results, "ROOT", tmp_path)
    monkeypatch.setattr(mini_results, "STEPS", steps)
    log = tmp_path / "log"
    mini_results.main(["--output_dir", str(out)])
    assert log.read_text() == "b "  # there is no training
    mini_results.main(["--output_dir", str(out), "--trained", str(trained)])
    assert log.read_text().split() == ["b", str(trained)]  # b is done
    assert "b: done before" in capsys.readouterr().out
    later = (out / "results.json").stat().st_mtime + 10
    os.utime(trained / "model.safetensors", (later, later))
    mini_results.main(["--output_dir", str(out), "--trained", str(trained), "--steps", "b"])
    assert log.read_text().split()[2:] == ["b"]
    assert list(json.loads((out / "results.json").read_text())) == ["b"]
    (before,) = tmp_path.glob("out-*")  # with what its steps had begun
    assert list(json.loads((before / "results.json").read_text())) == ["b", "a"]
    # a trial has a folder of its own
    mini_results.main(["--output_dir", str(out), "--limit", "3"])
    assert log.read_text().split()[3:] == ["b"] and (out / "trial" / "results.json").is_file()
