"""A small fixed share of `make fuzz`, and its driver. Damaged caption files are in test_data_mutations.py."""

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

import processes
import pytest
from accelerate.state import AcceleratorState
from fuzz.checkpoints import Checkpoints
from fuzz.codes import Codes
from fuzz.images import Images, make_files
from fuzz.workers import input_rng
from mutations import mutate


RUN = Path(__file__).parent / "fuzz" / "run.py"
IMAGE_FORMATS = sorted({name.partition(" ")[0] for name in make_files()})


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """Accelerate keeps the precision of the first run of a process for all later ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_damaged_images(tmp_path, image_format):
    """Forty damaged copies: an RGB image or `ValueError`, never anything else."""
    target, rng = Images(tmp_path, image_format + " "), random.Random(image_format)
    outcomes = Counter(target.try_one(rng)[1] for _ in range(40))
    assert outcomes["read"], "the damage must also leave images that can be read"


@pytest.mark.parametrize(("target", "num_inputs"), [(Checkpoints, 20), (Codes, 6)])
def test_damage_on_disk(tmp_path, target, num_inputs):
    target = target(tmp_path)
    outcomes = Counter(target.try_one(input_rng("test", 0, number))[1] for number in range(num_inputs))
    assert outcomes["refused"] and outcomes.total() == num_inputs


def fuzz(tmp_path, *flags):
    command = [sys.executable, RUN, "--output", tmp_path / "counts.json", "--failures", tmp_path / "failures", *flags]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = processes.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=600)
    return done, json.loads((tmp_path / "counts.json").read_text()), sorted((tmp_path / "failures").glob("*"))


def test_kills(tmp_path):
    """With this seed `encode` and `prepare_data` are killed once each, when they change a file."""
    flags = ("--targets", "fuzz.kills:Kills", "--inputs", 2, "--seed", 26, "--processes", 1)
    done, counts, failures = fuzz(tmp_path, *flags)
    assert done.returncode == 0, [(path / "report.txt").read_text() for path in failures] or done.stderr
    counts = counts["targets"]["fuzz.kills:Kills"]
    assert counts["tried"] == counts["read"] == counts["kills"] == 2


def test_the_driver_finds_every_fault_and_keeps_the_inputs(tmp_path):
    flags = ("--targets", "fuzz.broken:Broken", "--inputs", 8, "--seed", 3, "--processes", 1)
    done, counts, failures = fuzz(tmp_path, *flags)
    assert done.returncode == 1 and "seed 3" in done.stdout and "Failed: fuzz.broken:Broken" in done.stdout
    counts = counts["targets"]["fuzz.broken:Broken"]
    expected = {"tried": 8, "read": 2, "refused": 1, "wrong": 2, "crashed": 2, "hung": 1, "answers": 4}
    assert {name: counts[name] for name in expected} == expected
    numbers = {path.name.split("-")[2]: path for path in failures}
    assert sorted(numbers) == ["2", "3", "4", "5", "6"]
    for number, words in {"2": "ZeroDivisionError", "3": "Segmentation fault", "4": "broken.py", "5": "MB"}.items():
        assert words in (numbers[number] / "report.txt").read_text()
        assert (numbers[number] / "input").read_bytes() == input_rng("fuzz.broken:Broken", 3, int(number)).randbytes(8)


def test_mutations_repeat():
    data = bytes(range(256)) * 4
    assert mutate(data, random.Random(5)) == mutate(data, random.Random(5))
    assert len({mutate(data, random.Random(seed)) for seed in range(20)}) > 15
    assert mutate(b"", random.Random(0)) == b""
