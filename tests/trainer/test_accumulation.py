"""However the global batch is cut into micro-batches, an update of each stage is that of the one big batch."""

import pytest
import torch
from accelerate.state import AcceleratorState
from one_update import assert_same_update, update_stage_1, update_stage_2, update_stage_3


@pytest.fixture(autouse=True)
def fresh_accelerator():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("train_vision", [False, True])
@pytest.mark.parametrize("gather", ["full", "detached"])
def test_cached_features_give_the_gradient_of_the_big_batch(tmp_path, gather, train_vision):
    expected, (loss,), _ = update_stage_1(tmp_path / "big", gather, train_vision, batch_size=8)
    got, losses, encoded = update_stage_1(tmp_path / "small", gather, train_vision, batch_size=2)
    assert losses == pytest.approx([loss] * 4, rel=1e-5)
    assert encoded == (8 if train_vision else 4)  # a frozen ViT sees each picture once
    assert_same_update(got, expected)


def test_plain_accumulation_is_another_contrastive_gradient(tmp_path):
    expected, *_ = update_stage_1(tmp_path / "big", "full", False, batch_size=8)
    got, *_ = update_stage_1(tmp_path / "small", "full", False, batch_size=2, cached=False)
    name = "vision_projection.weight"
    assert torch.nn.functional.cosine_similarity(got[name].flatten(), expected[name].flatten(), dim=0) < 0.98


def test_stage_2(tmp_path):
    expected, (loss,) = update_stage_2(tmp_path / "big", batch_size=8)
    got, losses = update_stage_2(tmp_path / "small", batch_size=2)
    assert sum(losses) / 4 == pytest.approx(loss, rel=1e-5) and len(set(losses)) == 4
    assert_same_update(got, expected)


@pytest.mark.parametrize("row_length", [0, 24])
def test_stage_3(tmp_path, row_length):
    expected, (loss,) = update_stage_3(tmp_path / "big", 8, row_length)
    got, losses = update_stage_3(tmp_path / "small", 2, row_length)
    # the mean over targets, of which the micro-batches have unequal numbers
    assert sum(losses) / 4 != pytest.approx(loss, rel=1e-5)
    assert_same_update(got, expected)
