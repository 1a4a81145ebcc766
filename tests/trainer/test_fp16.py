"""Float16 with loss scaling, as on V100s; here by torch's scaler for CPUs, which Accelerate does not offer."""

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny.language import build_seed_model
from tiny.packing import make_samples
from tiny.training import KilledError, assert_same_run, in_float16, kill_at, parse_args, run_toy, start_run

from seed_hf.trainer import run as run_module
from seed_hf.trainer.arguments import RunArguments, parse_arguments
from seed_hf.trainer.curves import read_metrics
from seed_hf.trainer.launch import make_accelerator
from seed_hf.trainer.packing import collate_samples, model_inputs
from seed_hf.trainer.run import TrainingRun
from seed_hf.trainer.settings import LoraSettings
from seed_hf.trainer.stages.causal_lm import add_lora


@pytest.fixture
def scaled(monkeypatch):
    """Runs are in float16; call it to set the first scale."""

    def start_with(scale):
        def make(args):
            AcceleratorState._reset_state(reset_partial_state=True)
            return in_float16(make_accelerator(args), scale)

        monkeypatch.setattr(run_module, "make_accelerator", make)

    yield start_with
    AcceleratorState._reset_state(reset_partial_state=True)


def test_an_update_that_overflows_is_skipped_and_the_scale_halved(tmp_path, scaled):
    scaled(2.0**24)
    weights, dtypes = [], []

    def watch(run, batch):
        weights.append(run.parameters[0].detach().clone())
        dtypes.append(run.unwrapped_model.head[0](torch.zeros(1, 8)).dtype)

    run = run_toy(tmp_path, "--plain", on_batch=watch)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    skipped = [line["step"] for line in lines if "grad_norm" not in line]
    assert 0 < len(skipped) < 12 and skipped == list(range(1, len(skipped) + 1))
    assert run.accelerator.scaler.get_scale() == 2.0 ** (24 - len(skipped))
    changed = [not torch.equal(old, new) for old, new in zip(weights, weights[1:], strict=False)]
    assert changed == [step not in skipped for step in range(1, 12)]
    assert set(dtypes) == {torch.float16} and {parameter.dtype for parameter in run.parameters} == {torch.float32}


def test_a_killed_run_goes_on_with_its_scale(tmp_path, scaled):
    scaled(2.0**24)
    straight = run_toy(tmp_path / "straight")
    with pytest.raises(KilledError):
        run_toy(tmp_path / "killed", "--checkpoint_every", 4, on_batch=kill_at(5))
    scaled(2.0**30)  # that of the checkpoint counts
    resumed = run_toy(tmp_path / "killed")
    assert_same_run(resumed, straight)
    assert resumed.accelerator.scaler.get_scale() == straight.accelerator.scaler.get_scale()


def test_gradients_that_always_overflow_stop_the_run(tmp_path, scaled):
    scaled(4.0)
    run = start_run(parse_args(["--output_dir", str(tmp_path)]))
    run.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(FloatingPointError, match="loss scale fell below 1 at step 4"):
        run.fit(iter([{"inputs": torch.ones(4, 4)}] * 9), lambda batch: (run.model(batch["inputs"]).mean(), {}))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_lora_on_a_float16_model(tmp_path, scaled, monkeypatch):
    scaled(2.0**10)
    model, _ = build_seed_model("opt")
    model.language_model.half()
    flags = ["--output_dir", str(tmp_path), "--max_steps", "2", "--batch_size", "6", "--report_to", "none"]
    args = parse_arguments(RunArguments, [*flags, "--learning_rate", "1e-2"])
    run = TrainingRun(args, add_lora(model, LoraSettings(), str(tmp_path)))
    before = {name: value.detach().clone() for name, value in run.unwrapped_model.named_parameters()}

    def compute_loss(batch):
        inputs = model_inputs(batch, "sdpa", run.unwrapped_model.dtype)
        return run.model(**inputs, target_logits_only=True, use_cache=False).loss, {}

    run.fit(run.make_batches(make_samples(), collate_fn=lambda samples: collate_samples(samples, 0, 24)), compute_loss)
    assert {parameter.dtype for parameter in run.parameters} == {torch.float32}
    after = dict(run.unwrapped_model.named_parameters())
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any("lora_B" in name for name in changed) and any("image_embeddings" in name for name in changed)
    assert changed <= {name for name, value in after.items() if value.requires_grad}
    assert {value.dtype for name, value in after.items() if "base_layer" in name} == {torch.float16}
