"""`make train-mini`: its commands are ones that the scripts take, and its report shows what the stages left."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def train_mini(monkeypatch):
    return importlib.import_module("train_mini")


@pytest.mark.parametrize("share", [0.06, 1])
def test_every_command_is_one_that_its_script_takes(train_mini, tmp_path, share):
    args = train_mini.parse_args(["--output_dir", str(tmp_path / "my models"), "--share", str(share)])
    steps = {}
    for stage in train_mini.STAGES:
        _, script, *flags = train_mini.command_of(stage, args)
        parsed = importlib.import_module(Path(script).stem).parse_args(flags)
        assert parsed.output_dir == str(tmp_path / "my models" / stage.folder)
        steps[stage.recipe] = parsed.max_steps
        assert share == 1 or (0 < parsed.max_minutes <= 3 and parsed.warmup_steps < parsed.max_steps)
        assert share < 1 or parsed.max_minutes == 0
    full = {recipe: train_mini.read_recipe(train_mini.RECIPES / f"{recipe}.yaml")["max_steps"] for recipe in steps}
    assert steps == {recipe: max(10, round(share * count)) for recipe, count in full.items()}
    assemble, demo = train_mini.final_commands(args.output_dir)
    importlib.import_module("assemble").parse_args(assemble[2:])
    assert "my models/pipeline" in shlex.join(demo)


def test_beside_a_gpu_other_processes_make_the_views(train_mini, tmp_path, monkeypatch):
    monkeypatch.setattr(train_mini, "num_readers", lambda: 7)
    args = train_mini.parse_args(["--output_dir", str(tmp_path), "--share", "1"])
    readers = {}
    for stage in train_mini.STAGES:
        _, script, *flags = train_mini.command_of(stage, args)
        readers[stage.recipe] = importlib.import_module(Path(script).stem).parse_args(flags).num_workers
    assert {recipe for recipe, count in readers.items() if count == 7} == {"stage1", "stage2"}


def test_no_stage_reads_what_a_stage_that_it_does_not_need_writes(train_mini):
    stages = {stage.recipe: stage for stage in train_mini.STAGES}

    def before(name):
        return {folder for need in stages[name].needs for folder in (stages[need].folder, *before(need))}

    for name, stage in stages.items():
        # of the pipeline's folder the name alone is used
        assert set(re.findall(r"{out}/([\w-]+)", stage.flags)) <= before(name) | {"pipeline"}


def test_the_report_shows_numbers_curves_and_newest_pictures(train_mini, tmp_path):
    for folder in {stage.folder for stage in train_mini.STAGES}:
        (tmp_path / folder).mkdir()
        lines = [{"step": step, "loss": 1 / step} for step in (1, 2)] + [{"step": 2, "eval_r_mean": 50.0}]
        (tmp_path / folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        for step in (1, 10, 9):
            Image.new("RGB", (2, 2)).save(tmp_path / folder / f"retrieval-{step}.png")
    report = train_mini.write_report(tmp_path, {"stage1": 60.0, "demo": 30.0}).read_text()
    assert "in 1.5 minutes" in report and "## stage1: 2 steps" in report
    assert "| loss | 0.5 |" in report and "| eval_r_mean | 50 |" in report
    assert "![retrieval](stage1/retrieval-10.png)" in report and "retrieval-9" not in report
    assert (tmp_path / "stage1" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_of_all_stages_in_one_picture(train_mini, tmp_path):
    curves = importlib.import_module("plot_curves")
    with pytest.raises(ValueError, match="metrics.jsonl"):
        curves.main([str(tmp_path)])
    (tmp_path / "stage1").mkdir()
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "eval_r_mean": 5.0}]
    (tmp_path / "stage1" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    curves.main([str(tmp_path), "--output", str(tmp_path / "curves.png")])
    assert Image.open(tmp_path / "curves.png").width > 500


def test_shares_out_of_range_are_refused(train_mini, capsys):
    with pytest.raises(SystemExit):
        train_mini.parse_args(["--share", "0"])
    assert "--share is 0.0; allowed: above 0, at most 1" in capsys.readouterr().err
