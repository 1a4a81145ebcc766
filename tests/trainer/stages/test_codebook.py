"""What stage 2 measures."""

import pytest
import torch

from seed_hf.trainer.stages.codebook import generation_scores


def test_images_of_one_caption_have_one_target():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    generated = torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.9, 0.0]])  # the second is nearest to another's target
    scores = generation_scores(generated, targets, ["a dog", "a cat", "a dog"])
    assert scores["generation_r1"] == pytest.approx(200 / 3)
    assert scores["generation_mse"] == pytest.approx((0.01 + 1.0 + 0.64 + 0.01) / 6)
