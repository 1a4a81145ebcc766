"""Damaged training checkpoints: the run goes on from the newest whole one and ends as if nothing had happened."""

import contextlib
import random
import shutil
from pathlib import Path

import torch._dynamo  # noqa: F401  the first step of an optimizer imports it: so early that all forks have it
from accelerate.state import AcceleratorState
from mutations import damage_file
from tiny.training import KilledError, assert_close, assert_same_run, kill_at, run_toy

from fuzz.target import Target, outcome_of
from seed_hf.trainer.checkpoint import find_checkpoint


CHECKPOINTS = ("checkpoint-8", "checkpoint-4")
FILES = ("model.safetensors", "training_state.pt", "training_state.json")
RESUMED_SHARE = 0.2  # of the runs, which cost most of the time


class Checkpoints(Target):
    """A run that was killed after two checkpoints, with damage in one or both of them, or in its log."""

    share = 0.8

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.straight = self._train(folder / "straight")
        with contextlib.suppress(KilledError):
            self._train(folder / "killed", "--checkpoint_every", 4, on_batch=kill_at(9))

    def _train(self, folder: Path, *flags, on_batch=None):
        AcceleratorState._reset_state(reset_partial_state=True)
        return run_toy(folder, "--ema", *flags, on_batch=on_batch)

    def _damage(self, rng: random.Random) -> list[str]:
        """Returns the checkpoints that are damaged."""
        names = rng.choice([CHECKPOINTS[:1]] * 6 + [CHECKPOINTS[1:], CHECKPOINTS, ()])
        files = [self.input / name / rng.choice(FILES) for name in names]
        damaged = []
        for file in files or [self.input / "metrics.jsonl"]:
            before = file.read_bytes()
            damage_file(file, rng)
            if not file.exists() or file.read_bytes() != before:
                damaged.append(file.parent.name)
        return damaged

    def try_one(self, rng: random.Random) -> tuple[str, str, dict[str, int]]:
        shutil.rmtree(self.input, ignore_errors=True)
        shutil.copytree(self.folder / "killed", self.input)
        damaged = self._damage(rng)
        whole = [name for name in CHECKPOINTS if name not in damaged]
        outcome, found = outcome_of(lambda: find_checkpoint(self.input, "auto"))
        assert (outcome == "read") == bool(whole), (outcome, found, damaged)
        if whole:
            assert found.name == whole[0], (found, damaged)
        resumes = bool(whole) and rng.random() < RESUMED_SHARE
        if resumes and self.input.name in damaged:
            # the log has no hash, since people may write to it: a number in it can be another one
            run = self._train(self.input)
            assert_close(run.unwrapped_model.state_dict(), self.straight.unwrapped_model.state_dict())
        elif resumes:
            assert_same_run(self._train(self.input), self.straight)
        kind = " and ".join(sorted(damaged)) or "not changed"
        return kind.replace(self.input.name, "log"), "refused" if damaged else "read", {"resumed": int(resumes)}
