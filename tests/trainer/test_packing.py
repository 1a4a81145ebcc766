"""Packed rows give the loss and gradient of the padded batch on every language model; samples stay apart."""

import importlib
import json

import pytest
import torch
from rounding import assert_equal_up_to_rounding
from tiny import BENCHMARKS
from tiny.language import ARCHITECTURES, build_seed_model
from tiny.packing import LENGTHS, make_samples

from seed_hf.trainer import packing as packing_module
from seed_hf.trainer.packing import check_packing, collate_samples, fit_into_rows, model_inputs


def run_model(model, row_length, attention="sdpa"):
    batch = collate_samples(make_samples(), 0, row_length)
    inputs = model_inputs(batch, attention, model.dtype)
    return model(**inputs, target_logits_only=True, use_cache=False)


def test_rows_hold_every_sample_once_and_are_full():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 66, (64,), generator=generator).tolist()
    rows = fit_into_rows(lengths, 256)
    assert sorted(index for row in rows for index in row) == list(range(64))
    assert all(sum(lengths[index] for index in row) <= 256 for row in rows)
    assert len(rows) <= 1 + -(-sum(lengths) // 256)
    assert fit_into_rows([300, 2], 256) == [[0], [1]]


def test_packed_batch_says_where_samples_begin():
    batch = collate_samples(make_samples(), pad_token_id=0, row_length=24)
    assert len(batch["input_ids"]) == 3 and batch["input_ids"].shape[1] <= 24
    assert (batch["sample_ids"] > 0).sum() == sum(LENGTHS)
    starts = (batch["position_ids"] == 0) & (batch["sample_ids"] > 0)
    assert starts.sum() == len(LENGTHS) and (batch["labels"][starts] == -100).all()
    assert (batch["labels"] != -100).sum() == sum(length - length // 2 for length in LENGTHS)
    assert batch["is_image"].sum() == sum(LENGTHS[::2])
    assert "position_ids" not in collate_samples(make_samples(), 0)


@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_loss_and_gradient_equal_the_padded_ones(architecture, embedding):
    model, _ = build_seed_model(architecture, embedding)
    results = []
    for row_length in (0, 24):
        model.zero_grad()
        output = run_model(model, row_length)
        assert len(output.logits) == sum(length - length // 2 for length in LENGTHS)  # none without a target
        output.loss.backward()
        results.append((output.loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (padded, padded_grads), (packed, packed_grads) = results
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-6)
    for name, gradient in padded_grads.items():
        torch.testing.assert_close(packed_grads[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("architecture", ["opt", "llama"])
def test_packing_with_eager_attention_and_autocast(architecture):
    model, _ = build_seed_model(architecture)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(run_model(model, 24, "eager").loss, run_model(model, 0).loss, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        packed = run_model(model, 24, "eager")
    assert packed.logits.dtype == torch.bfloat16
    torch.testing.assert_close(packed.loss, run_model(model, 0).loss, rtol=2e-2, atol=0)


def test_gradient_checkpointing_changes_nothing():
    model, _ = build_seed_model("opt")
    run_model(model.train(False), 24).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    # two layers of dropout 0.1 would draw other numbers: off, so that only the checkpointing differs
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    run_model(model.train(), 24).loss.backward()
    for name, parameter in model.named_parameters():
        assert_equal_up_to_rounding(parameter.grad, expected[name], name)


def test_a_model_that_looks_over_the_border_is_refused(monkeypatch):
    model, _ = build_seed_model("opt")
    samples = make_samples()[:2]
    check_packing(model, samples, 0, "sdpa")
    plain_causal = lambda ids: torch.ones(len(ids), 1, ids.shape[1], ids.shape[1]).tril().bool()  # noqa: E731
    monkeypatch.setattr(packing_module, "packed_attention_mask", plain_causal)
    with pytest.raises(ValueError, match="does not keep packed samples apart"):
        check_packing(model, samples, 0, "sdpa")


def test_attention_without_masks_is_refused():
    with pytest.raises(ValueError, match="'flash_attention_2' cannot be packed"):
        model_inputs(collate_samples(make_samples(), 0, 24), "flash_attention_2")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_the_benchmark_compares_equal_losses(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    common, packing = (importlib.import_module(name) for name in ("common", "packing"))
    common.run("packing", "Packing", packing.measure, ["--quick", "--output_dir", str(tmp_path)])
    rows = json.loads((tmp_path / "packing.json").read_text())["rows"]
    assert len(rows) == 3 and all(row["losses"][0] == pytest.approx(row["losses"][1], rel=1e-4) for row in rows)
    assert rows[0]["useful_share"]["packed"] > 2 * rows[0]["useful_share"]["baseline"]
