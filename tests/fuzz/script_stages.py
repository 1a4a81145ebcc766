"""The training scripts of the three stages of SEED, killed as the shorter jobs are; their imports take longest."""

import sys
from pathlib import Path

from tiny.scripts import causal_lm_flags, codebook_flags, qformer_flags, run_script, save_language_model
from tiny.training_data import save_bert, write_emoji, write_image_tokenizer_config

from fuzz.kills import Kills
from fuzz.stages import STAGES, TRAINING, Stage, assert_same_end


class Script(Stage):
    """A training script on a handful of emoji drawings."""

    def make(self):
        write_emoji(self.folder)
        save_bert(self.folder / "bert")
        write_image_tokenizer_config(self.folder / "config.json")

    @property
    def data(self) -> dict:
        return {
            "dataset": str(self.folder / "*.parquet"),
            "bert": str(self.folder / "bert"),
            "config": str(self.folder / "config.json"),
        }

    def start(self, script: str, output: Path, *flags) -> None:
        sys.path.insert(0, str(TRAINING))
        run_script(script, output, *flags)

    def run(self, output):
        flags = ("--max_steps", 4, "--checkpoint_every", 1, "--keep_checkpoints", 2)
        self.start(self.name, output, *self.flags(), *flags)

    def flags(self) -> tuple:
        raise NotImplementedError

    def compare(self, output):
        assert_same_end(output, self.straight)


class TrainQFormer(Script):
    """Stage 1."""

    name = "train_qformer"

    def flags(self):
        return qformer_flags(self.data)


class _AfterStage1(Script):
    """A stage that starts from an image tokenizer."""

    def make(self):
        super().make()
        self.start("train_qformer", self.folder / "stage1", *qformer_flags(self.data), "--max_steps", 1)


class TrainCodebook(_AfterStage1):
    """Stage 2."""

    name = "train_codebook"

    def flags(self):
        return codebook_flags(self.data, self.folder / "stage1")


class TrainCausalLM(_AfterStage1):
    """Stage 3."""

    name = "train_causal_lm"

    def make(self):
        super().make()
        save_language_model(self.folder / "language_model")

    def flags(self):
        return causal_lm_flags(self.data, self.folder / "stage1", self.folder / "language_model")


class AllKills(Kills):
    """Kills in every stage."""

    stages = (*STAGES, TrainQFormer, TrainCodebook, TrainCausalLM)
