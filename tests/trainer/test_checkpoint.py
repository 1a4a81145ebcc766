"""Damaged checkpoints are found and passed over, leftovers of kills go, and nothing in a checkpoint runs as code."""

import argparse
import ast
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from tiny import ROOT
from tiny.training import (
    KilledError,
    ToyModel,
    assert_same_run,
    damages,
    hash_again,
    kill_at,
    losses,
    parse_args,
    run_toy,
    start_run,
)

from seed_hf.sealed_files import read_record, write_record
from seed_hf.trainer import checkpoint as checkpoint_module
from seed_hf.trainer.checkpoint import checkpoint_problem, find_checkpoint, list_checkpoints
from seed_hf.trainer.curves import read_metrics
from seed_hf.trainer.sharding import load_optimizer_state, unpickle


FILES = ["model.safetensors", "training_state.pt", "training_state.json"]


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the precision of the first run of a process for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and the folder of one that was killed after two checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    straight = run_toy(folder / "straight", "--ema")
    with pytest.raises(KilledError):
        run_toy(folder / "killed", "--ema", "--checkpoint_every", 4, on_batch=kill_at(9))
    return straight, folder / "killed"


@pytest.fixture
def killed(trained, tmp_path):
    return Path(shutil.copytree(trained[1], tmp_path / "run"))


def without_hashes(checkpoint):
    """As older versions wrote it."""
    record, _ = read_record(checkpoint / "training_state.json")
    del record["sha256"]
    (checkpoint / "training_state.json").write_text(json.dumps(record))


# Damage


@pytest.mark.parametrize("file", FILES)
def test_any_damage_is_found_and_the_older_checkpoint_used(killed, file, caplog):
    damaged = killed / "checkpoint-8" / file
    for name, content in damages(damaged):
        damaged.write_bytes(content)
        caplog.clear()
        assert find_checkpoint(killed, "auto").name == "checkpoint-4", name
        assert re.search(rf"checkpoint-8: .*{re.escape(file)}.*goes on from checkpoint-4", caplog.text), name
        with pytest.raises(ValueError, match=rf"resume=.*checkpoint-8' cannot be gone on from: .*{re.escape(file)}"):
            find_checkpoint(killed, str(damaged.parent))


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_gone(killed, file):
    (killed / "checkpoint-8" / file).unlink()
    assert file in checkpoint_problem(killed / "checkpoint-8")
    assert find_checkpoint(killed, "auto").name == "checkpoint-4"


def test_what_somebody_went_back_from_is_put_aside(killed):
    before = str(killed / "checkpoint-4")
    with pytest.raises(KilledError):
        run_toy(killed, "--ema", "--checkpoint_every", 1, "--resume", before, on_batch=kill_at(6))
    assert find_checkpoint(killed, "auto").name == "checkpoint-6"
    (aside,) = killed.glob("superseded-*")
    assert aside.name.startswith("superseded-checkpoint-8") and checkpoint_problem(aside) is None


def test_a_run_goes_on_from_the_newest_whole_checkpoint(trained, killed):
    weights = killed / "checkpoint-8" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    # the damaged checkpoint does not push the good ones out, and is replaced when the run comes to its step
    with pytest.raises(KilledError):
        run_toy(killed, "--ema", "--checkpoint_every", 1, "--keep_checkpoints", 1, on_batch=kill_at(6))
    assert [path.name for path in list_checkpoints(killed)] == ["checkpoint-6", "checkpoint-8"]
    assert_same_run(run_toy(killed, "--ema", "--checkpoint_every", 1), trained[0])
    assert checkpoint_problem(killed / "checkpoint-12") is None


def test_no_whole_checkpoint_is_an_error_that_names_the_files(killed):
    for name, file in (("checkpoint-4", "training_state.pt"), ("checkpoint-8", "model.safetensors")):
        (killed / name / file).write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint-8: model.safetensors is.*; checkpoint-4: training_state.pt is"):
        run_toy(killed, "--ema")


def test_checkpoints_of_older_versions(trained, killed, caplog):
    for checkpoint in list_checkpoints(killed):
        without_hashes(checkpoint)
    assert_same_run(run_toy(killed, "--ema", "--keep_checkpoints", 0), trained[0])
    assert caplog.text.count("without hashes") == 1
    shutil.rmtree(killed / "checkpoint-12")
    for file in FILES[:2]:
        path = killed / "checkpoint-8" / file
        content = path.read_bytes()
        path.write_bytes(content[:-30])
        assert f"{file} is damaged" in checkpoint_problem(path.parent)
        assert find_checkpoint(killed, "auto").name == "checkpoint-4"
        path.write_bytes(content)
    # torch's archives have checksums of their own
    flipped = bytearray(content)
    flipped[content.index(b"\x80\x02}")] ^= 1
    path.write_bytes(flipped)
    assert "training_state.pt is damaged" in checkpoint_problem(path.parent)


# Not a number


def test_a_checkpoint_with_nan_is_not_gone_on_from(killed, caplog):
    weights = killed / "checkpoint-8" / "model.safetensors"
    state = checkpoint_module.load_file(weights)
    state["head.0.weight"][0, 0] = float("nan")
    checkpoint_module.save_file(state, weights)
    hash_again(weights.parent)
    assert find_checkpoint(killed, "auto").name == "checkpoint-4"
    assert "checkpoint-8: model.safetensors holds NaN in ['head.0.weight']" in caplog.text


def test_weights_that_are_not_a_number_are_named_and_not_saved(killed):
    def poison(run, batch):
        if run.step == 10:
            with torch.no_grad():
                run.unwrapped_model.head[0].weight[0, 0] = float("nan")

    with pytest.raises(FloatingPointError) as caught:
        run_toy(killed, "--ema", on_batch=poison)
    message = str(caught.value)
    assert "head.0.weight" in message and "loss is nan at step 11" in message and "intact" not in message
    assert "newest checkpoint" in message and "checkpoint-8" in message
    run = start_run(parse_args(["--output_dir", str(killed), "--ema"]))
    with torch.no_grad():
        run.unwrapped_model.head[0].weight[0, 0] = float("nan")
    run.step = 9
    with pytest.raises(FloatingPointError, match=r"\['head.0.weight'\] are NaN at step 9; no checkpoint is written"):
        run.save()
    assert [path.name for path in list_checkpoints(killed)] == ["checkpoint-4", "checkpoint-8"]


# Leftovers


def test_what_a_kill_while_rotating_leaves_is_removed(trained, killed, monkeypatch):
    def stop_at_old_ones(folder, *args, rmtree=shutil.rmtree, **kwargs):
        if "old" in Path(folder).name and Path(folder).exists():
            raise KilledError
        rmtree(folder, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module.shutil, "rmtree", stop_at_old_ones)
        with pytest.raises(KilledError):
            run_toy(killed, "--ema", "--checkpoint_every", 1, "--keep_checkpoints", 2, on_batch=kill_at(11))
    left = {path.name for path in killed.glob(".incomplete-*")}
    assert left == {".incomplete-old-checkpoint-4"}
    (killed / ".incomplete-checkpoint-10").mkdir()
    (killed / ".incomplete-notes").mkdir()
    assert_same_run(run_toy(killed, "--ema"), trained[0])
    assert [path.name for path in killed.glob(".incomplete-*")] == [".incomplete-notes"]


@pytest.mark.parametrize(
    "line", [b'{"step": 2, "loss": \xff}', b'{"step": 2, "lo', b"5", b'{"loss": 1.0}', b"[" * 9000]
)
def test_a_damaged_log_does_not_keep_a_run_from_going_on(trained, killed, line, caplog):
    lines = (killed / "metrics.jsonl").read_bytes().splitlines()
    (killed / "metrics.jsonl").write_bytes(b"\n".join([*lines[:3], line, *lines[3:], b""]))
    with pytest.raises(ValueError, match=r"Line 4 of .*metrics.jsonl is not JSON"):
        read_metrics(killed / "metrics.jsonl")
    assert_same_run(run_toy(killed, "--ema"), trained[0])
    assert "their numbers were [4]" in caplog.text and (killed / "metrics.damaged").read_bytes() == line + b"\n"
    assert len(losses(killed)) == 12


# Code


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file


def test_no_code_of_a_checkpoint_runs(killed, tmp_path):
    target = tmp_path / "made by a pickle"
    evil = pickled({"optimizer": Evil(target)})
    state_file = killed / "checkpoint-8" / "training_state.pt"
    state = torch.load(state_file, weights_only=True)
    inner = torch.frombuffer(bytearray(evil.getvalue()), dtype=torch.uint8)
    torch.save({**state, "optimizer": {"deepspeed": [inner]}}, state_file)
    hash_again(state_file.parent)
    with pytest.raises(ValueError, match="saved with DeepSpeed, this run is without"):
        run_toy(killed, "--ema")
    evil.seek(0)
    with pytest.raises(ValueError, match=r"state of the checkpoint holds \w+\.mkdir; allowed: .* values, ToyModel"):
        unpickle(evil, [ToyModel])
    state_file.write_bytes(evil.getvalue())
    hash_again(state_file.parent)
    with pytest.raises(ValueError, match=r"training_state.pt holds \w+\.mkdir; allowed: tensors, plain values\."):
        run_toy(killed, "--ema")
    assert not target.exists()


class Scale:
    """Stands for the classes of DeepSpeed, which needs an accelerator."""

    def __init__(self, value):
        self.value = value


def test_states_of_deepspeed_are_read_with_its_own_classes_only():
    state = {"loss_scaler": Scale(2.0), "step": 3}
    read = unpickle(io.BytesIO(pickled(state).getvalue()), [Scale])
    assert read["loss_scaler"].value == 2.0 and read["step"] == 3
    with pytest.raises(ValueError, match=rf"holds {re.escape(Scale.__module__)}\.Scale"):
        unpickle(io.BytesIO(pickled(state).getvalue()))
    with pytest.raises(ValueError, match="holds what cannot be read"):
        unpickle(io.BytesIO(pickled(state).getvalue()[:-100]), [Scale])
    with_deepspeed = argparse.Namespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="saved without DeepSpeed, this run is with DeepSpeed"):
        load_optimizer_state(torch.optim.SGD([torch.zeros(1)]), {"state": {}}, with_deepspeed)


def loads_objects(call):
    """Whether a call may make any object that a file names."""
    name = ast.unparse(call.func)
    settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "torch.load":
        return settings.get("weights_only") != "True"
    if name in ("np.load", "numpy.load"):
        return settings.get("allow_pickle", "False") != "False"
    modules, functions = "pickle|dill|cloudpickle|marshal|joblib|shelve", "loads?|Unpickler|open"
    return re.fullmatch(rf"({modules})\.({functions})|yaml\.(unsafe_|full_)?load(_all)?", name)


def test_nothing_is_unpickled_without_a_list_of_classes():
    files = [path for folder in ("seed_hf", "training", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    calls = [(path, node) for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    calls = [(path, ast.unparse(node)) for path, node in calls if isinstance(node, ast.Call) and loads_objects(node)]
    assert len(files) > 100 and not calls
    assert loads_objects(ast.parse("torch.load(path, weights_only=False)").body[0].value)


def test_a_record_is_what_was_written(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, {"a": [1, float("inf")], "caption": "seed_hf_sha256:" + "0" * 64})
    assert read_record(path) == ({"a": [1, float("inf")], "caption": "seed_hf_sha256:" + "0" * 64}, True)
