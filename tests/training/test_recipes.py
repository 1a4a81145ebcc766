"""Recipes: each value is a flag of its script, differs from the default and names its source. Launch settings."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from tiny import TRAINING

from seed_hf.commands import find_command
from seed_hf.trainer.arguments import RunArguments, accumulation_steps, parse_arguments, read_recipe
from seed_hf.trainer.launch import find_hardware_problems, make_accelerator


RECIPES = sorted(TRAINING.glob("recipes/*/*.yaml"))
SCRIPTS = {"stage1": "train_qformer", "stage2": "train_codebook", "stage3": "train_causal_lm"}
SCRIPTS |= {"vae": "train_vae", "decoder": "train_decoder"}
REQUIRED = {"train_decoder": ["--vae", "vae"], "train_codebook": ["--init_model", "x"]}
REQUIRED["train_causal_lm"] = ["--image_tokenizer", "x"]


def script_of(recipe):
    name = next(script for prefix, script in SCRIPTS.items() if recipe.stem.startswith(prefix))
    return importlib.import_module(name), ["--output_dir", "out", "--dataset", "data", *REQUIRED.get(name, [])]


def test_there_is_a_recipe_for_each_stage_and_size():
    found = {f"{path.parent.name}/{path.stem}" for path in RECIPES}
    assert {f"{size}/stage{number}" for size in ("mini", "seed-1", "seed-2") for number in (1, 2)} < found
    assert {"mini/stage3", "seed-1/stage3a", "seed-1/stage3b", "seed-2/stage3"} < found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe_holds_what_differs_each_with_its_source(path, monkeypatch):
    script, needed = script_of(path)
    args = script.parse_args([*needed, "--recipe", str(path)])
    own = [line for line in path.read_text().splitlines() if re.match(r"\w", line)]
    base = next((line.split(":")[1].strip() for line in own if line.startswith("based_on:")), None)
    before = script.parse_args([*needed, *(["--recipe", str(path.parent / base)] if base else [])])
    for line in own:
        name = line.split(":")[0]
        if name == "based_on":
            continue
        always_named = ("dataset", "learning_rate")
        assert name in always_named or getattr(args, name) != getattr(before, name), f"{line}: that is the default"
        assert re.search(r"# \S", line), f"{line}: no source"


def commands_of_the_readme():
    """Script and flags of every command in its code blocks; what `...` stands for is an output folder at least."""
    for block in re.findall(r"```bash\n(.*?)```", (TRAINING / "README.md").read_text(), re.DOTALL):
        block = block.replace("\\\n", " ")
        for name, quoted, plain in re.findall(r'\b([A-Z]+)=(?:"(.*?)"|([^\s;]+))', block):
            block = block.replace(f"${name}", quoted or plain)
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            start = next((i for i, word in enumerate(words) if re.fullmatch(r"training/\w+\.py|seed-hf", word)), None)
            if start is not None:
                flags = [word for word in words[start + 1 :] if word != "..."]
                yield words[start], flags + ["--output_dir", "out"] * ("..." in words)


def test_commands_of_the_readme_are_ones_that_scripts_take(monkeypatch):
    monkeypatch.chdir(TRAINING.parent)
    started = []
    for program, flags in commands_of_the_readme():
        if program == "seed-hf":
            find_command().get_command(None, flags[0]).make_context(flags[0], flags[1:])
        else:
            args = importlib.import_module(Path(program).stem).parse_args(flags)
            recipe = getattr(args, "recipe", None)
            assert recipe is None or Path(recipe).is_file()
        started.append(Path(program).stem)
    assert set(SCRIPTS.values()) - {"train_vae", "train_decoder"} < set(started) and started.count("prepare_data") == 6


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    widths: list[int] = field(default_factory=lambda: [1])
    flip: bool = field(default=False, metadata={"help": "Flip, 50 %% of the time."})
    kind: Literal["a", "b"] = "a"
    max_steps: int = 9


def parse(flags):
    return parse_arguments(Arguments, f"--output_dir x {flags}".split())


def test_recipe_values_are_parsed_as_flags_and_the_command_line_wins(tmp_path):
    (tmp_path / "base.yaml").write_text("max_steps: 5\nlearning_rate: 1e-3\nwidths: [4, 8]\nseed: 1")
    (tmp_path / "own.yaml").write_text("based_on: base.yaml\nseed: 2\nflip: true")
    args = parse(f"--recipe {tmp_path / 'own.yaml'} --max_steps 7")
    assert (args.max_steps, args.learning_rate, args.widths, args.seed, args.flip) == (7, 1e-3, [4, 8], 2, True)


@pytest.mark.parametrize(
    ("text", "named"),
    [("sped: 1", "'sped', which is no flag"), ("- 1", "no mapping"), ("a: [", "as YAML"), ("recipe: x", "'recipe'")],
)
def test_bad_recipes_are_refused(tmp_path, text, named):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=named):
        parse(f"--recipe {tmp_path / 'bad.yaml'}")
    with pytest.raises(ValueError, match="absent.yaml"):
        read_recipe(tmp_path / "absent.yaml")


def test_a_recipe_turns_switches_off_and_leaves_its_checks_to_the_parser(tmp_path, capsys):
    (tmp_path / "base.yaml").write_text("flip: true\nmax-minutes: 2")
    (tmp_path / "own.yaml").write_text("based_on: base.yaml\nflip: false")
    args = parse(f"--recipe {tmp_path / 'own.yaml'}")
    assert (args.flip, args.max_minutes, args.max_steps) == (False, 2, 9)
    for text in ("kind: c", "max_steps: many"):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(SystemExit):
            parse(f"--recipe {tmp_path / 'own.yaml'}")
    assert "invalid choice: 'c'" in capsys.readouterr().err


def test_the_word_no_of_a_recipe_is_a_value(tmp_path):
    (tmp_path / "own.yaml").write_text("mixed_precision: no\nresume: no\nflip: no")
    args = parse(f"--recipe {tmp_path / 'own.yaml'}")
    assert (args.mixed_precision, args.resume, args.flip) == ("no", "no", False)


def test_flags_are_spelt_both_ways_and_never_shortened(capsys):
    assert parse("--max-steps 3 --max_minutes 1").max_steps == 3
    for flags in ("--max_st 3", "--rec x.yaml"):
        with pytest.raises(SystemExit):
            parse(flags)
    assert "unrecognized arguments: --rec" in capsys.readouterr().err


def test_help_shows_defaults_and_the_line_breaks_of_the_description(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(Arguments, ["--help"], "One line.\n\n    python a.py \\\n        --b")
    shown = capsys.readouterr().out
    assert "    python a.py \\\n        --b" in shown and "--max-steps" not in shown and "None" not in shown
    assert re.search(r"--max_steps MAX_STEPS\s+Total number of steps\. \(default: 9\)", shown)
    assert "Flip, 50 % of the time." in shown and "{a,b}" in shown


def test_help_of_no_script_loads_torch():
    """All in one process, so that what they all need is loaded once."""
    code = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, path
    else:
        raise AssertionError(f"{path} --help went on")
    assert "torch" not in sys.modules, path
"""
    scripts = [str(path) for path in sorted(TRAINING.rglob("*.py"))]
    assert len(scripts) > 10
    subprocess.run([sys.executable, "-c", code, *scripts], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("processes", "expected"), [(64, 1), (8, 8), (1, 64), (2, 32)])
def test_accumulation_makes_up_for_processes(processes, expected):
    args = parse("--batch_size 64 --global_batch_size 4096")
    assert accumulation_steps(args, processes) == expected


@pytest.mark.skipif(torch.accelerator.is_available(), reason="with an accelerator DeepSpeed is allowed")
def test_deepspeed_without_accelerators_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")  # what `accelerate launch` sets
    with pytest.raises(ValueError, match="`config_file` asks for DeepSpeed"):
        make_accelerator(parse(""))


def test_a_global_batch_that_can_not_be_cut_is_refused():
    args = parse("--batch_size 48 --global_batch_size 4096")
    with pytest.raises(ValueError, match="next smaller batch_size that fits is 32"):
        accumulation_steps(args, 8)
    with pytest.raises(ValueError, match="no batch_size fits"):
        accumulation_steps(args, 3)
    with pytest.raises(ValueError, match="one of them"):
        accumulation_steps(replace(args, gradient_accumulation_steps=2), 8)


V100, A100 = (7, 0), (8, 0)
CU126, CU130 = ["sm_70", "sm_80", "sm_90"], ["sm_75", "sm_80", "sm_90", "sm_100"]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ((V100, CU126, "bf16", "sdpa", False), "--mixed_precision fp16"),
        ((V100, CU126, "fp16", "flash_attention_2", False), "--attn_implementation sdpa"),
        ((V100, CU126, "fp16", "sdpa", True), "dynamo_backend: 'NO'"),
        ((V100, CU130, "fp16", "sdpa", False), "cu126"),
        (((10, 3), ["sm_90"], "bf16", "sdpa", False), "no kernels for compute capability 10.3"),
        ((None, [], "fp16", "sdpa", False), "Allowed: 'no', 'bf16'"),
        ((None, [], "no", "flash_attention_2", False), "'sdpa', 'eager'"),
    ],
)
def test_preflight_says_what_to_set(settings, advice):
    (problem,) = find_hardware_problems(*settings)
    assert advice in problem


@pytest.mark.parametrize(
    "settings",
    [
        (V100, CU126, "fp16", "sdpa", False),
        (A100, CU130, "bf16", "flash_attention_2", True),
        ((8, 6), ["sm_80"], "bf16", None, True),
        ((12, 0), ["compute_90"], "bf16", None, False),
        (None, [], "bf16", "eager", True),
    ],
)
def test_preflight_lets_through_what_works(settings):
    assert find_hardware_problems(*settings) == []


@pytest.mark.parametrize("path", sorted(TRAINING.glob("accelerate/*.yaml")), ids=lambda path: path.stem)
def test_launch_settings_are_what_accelerate_reads(path):
    settings = load_config_from_file(str(path))
    assert settings.num_processes == {"eight_nodes": 64, "eight": 8, "cpu_2proc": 2}.get(
        re.match("eight_nodes|eight|cpu_2proc|", path.stem)[0], 8 if path.stem in ("fsdp2", "deepspeed_zero2") else 1
    )
    if "v100" in path.stem:
        assert settings.mixed_precision == "fp16" and settings.dynamo_config in (None, {})


def test_slurm_script_gives_each_node_its_rank(tmp_path):
    """With stand-ins for what a cluster has: two nodes, and a launcher that says what it is told."""
    stand_ins = {
        "scontrol": "echo node-7; echo node-8",
        "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": 'printf "%s\\n" "$*"',
    }
    for name, script in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node-[7-8]"}
    environment["SLURM_JOB_END_TIME"] = "1800000000"
    command = ["bash", str(TRAINING / "accelerate" / "slurm.sh"), "train.py", "--dataset", "a set"]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    settings = load_config_from_file(str(TRAINING / "accelerate" / "eight_nodes_v100.yaml"))
    assert settings.rdzv_backend == "static"  # which takes ranks as they are given
    for rank, line in enumerate(lines):
        launch, flags = line.split(" train.py ")
        assert launch.startswith("launch --config_file training/accelerate/eight_nodes_v100.yaml ")
        assert launch.endswith(f"--num_machines 2 --num_processes 16 --machine_rank {rank} --main_process_ip node-7")
        assert flags == "--dataset a set --stop_at 1799999400"
    assert len(lines) == 2
