"""What stage 2 measures, and where its cached views are."""

import pytest
import torch

from seed_hf.trainer.stages.codebook import generation_scores
from seed_hf.trainer.stages.images import move_if_it_fits


def test_images_of_one_caption_have_one_target():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    generated = torch.tensor([[1.0, 0.1], [1.0, 0.2], [0.9, 0.0]])  # the second is nearest to another's target
    scores = generation_scores(generated, targets, ["a dog", "a cat", "a dog"])
    assert scores["generation_r1"] == pytest.approx(200 / 3)
    assert scores["generation_mse"] == pytest.approx((0.01 + 1.0 + 0.64 + 0.01) / 6)


class OnACard:
    """Stands in for values that are moved to a card that is not here."""

    nbytes = 50

    def to(self, device):
        return f"on {device}"


@pytest.mark.parametrize(("device", "free", "moves"), [("cuda", 100, True), ("cuda", 99, False), ("cpu", 100, False)])
def test_cached_values_move_to_a_gpu_that_has_room_for_them(monkeypatch, device, free, moves):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1000))
    values = OnACard()
    assert move_if_it_fits(values, torch.device(device)) == (f"on {device}" if moves else values)
