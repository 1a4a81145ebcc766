"""Steps of stages 1 and 2, as a training run makes them, against those of the bare model, at small size.

    python benchmarks/training.py

Both sides train the same model on the same batch. The bare side calls forward, backward and a fused AdamW alone: it
measures, checks and seeds nothing.
"""

import copy
import itertools
import tempfile

import common
import torch
from accelerate.state import AcceleratorState

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
from seed_hf.trainer.arguments import RunArguments
from seed_hf.trainer.launch import make_accelerator
from seed_hf.trainer.optimizer import make_optimizer
from seed_hf.trainer.stages.codebook import freeze_for_stage_2
from seed_hf.trainer.stages.qformer import freeze_for_stage_1
from seed_hf.trainer.update import OptimizerUpdate


GOAL = 0.95
TEXT_LENGTH = 32


def build(quick: bool) -> SeedImageTokenizer:
    """A small image tokenizer with every part that training needs; with `quick`, a tiny one."""
    width, layers = (32, 2) if quick else (192, 4)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
    config = SeedImageTokenizerConfig(
        vision_config={**sizes, "num_hidden_layers": 2 if quick else 6, "image_size": 28 if quick else 112},
        qformer_config={**sizes, "num_hidden_layers": layers, "vocab_size": 1000},
        decoder_config={**sizes, "num_hidden_layers": 2},
        reverse_qformer_config={**sizes, "num_hidden_layers": 2},
        codebook_size=1024,
        use_text_tower=True,
        use_reconstruction_decoder=True,
    )
    return SeedImageTokenizer(config)


def make_batch(model: SeedImageTokenizer, stage: int, batch_size: int) -> dict[str, torch.Tensor]:
    """Arguments of the model for a stage."""
    config = model.config
    size = config.vision_config.image_size
    batch = {"pixel_values": torch.randn(batch_size, 3, size, size)}
    if stage == 1:
        return batch | {"input_ids": torch.randint(1, 1000, (batch_size, TEXT_LENGTH))}
    return batch | {"generation_targets": torch.randn(batch_size, config.num_generation_tokens, config.generation_dim)}


def make_steps(model: SeedImageTokenizer, args: RunArguments, batch: dict[str, torch.Tensor]):
    """A step of a run, and a bare one of a copy of its model."""
    bare_model = copy.deepcopy(model).train()
    bare_optimizer = make_optimizer(bare_model, args, torch.device("cpu"))
    accelerator = make_accelerator(args)
    prepared, optimizer = accelerator.prepare(model, make_optimizer(model, args, accelerator.device))
    update = OptimizerUpdate(args, accelerator, prepared, model, optimizer)
    steps = itertools.count()

    def ours():
        update(next(steps), [batch], lambda batch: (prepared(**batch).loss, {}))

    def bare():
        bare_model(**batch).loss.backward()
        bare_optimizer.step()
        bare_optimizer.zero_grad()

    return ours, bare


def measure(args) -> list[dict]:
    """One row per stage."""
    batch_size, rounds = (4, 3) if args.quick else (16, 9)
    rows = []
    for stage, freeze in ((1, freeze_for_stage_1), (2, freeze_for_stage_2)):
        model = build(args.quick)
        freeze(model)
        batch = make_batch(model, stage, batch_size)
        with tempfile.TemporaryDirectory() as folder:
            arguments = RunArguments(output_dir=folder, batch_size=batch_size, max_steps=1000, report_to="none")
            timed = common.compare(*make_steps(model, arguments, batch), rounds, warmup=2)
        AcceleratorState._reset_state(reset_partial_state=True)
        speed = 1 / timed["ratio"]
        rows.append(
            common.row(
                f"stage {stage}, batch {batch_size}",
                f"{batch_size / timed['ours_s']:.3g} images/s",
                f"{batch_size / timed['baseline_s']:.3g} images/s",
                speed,
                f">= {GOAL} of the bare modules",
                speed >= GOAL,
                better="higher",
                timed=timed,
            )
        )
    return rows


if __name__ == "__main__":
    common.run("training", "Training: a step of stages 1 and 2", measure)
