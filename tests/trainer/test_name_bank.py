"""Stage 1 against all names: what the loss counts as wrong, and what it learns from."""

import pytest
import torch
from torch.nn import functional as F

from seed_hf.trainer.name_bank import NameBank


class Names(torch.nn.Module):
    """Stands where a text tower would: the feature of a name is a row of a table."""

    def __init__(self, count):
        super().__init__()
        self.table = torch.nn.Parameter(torch.eye(count))
        self.temperature = torch.nn.Parameter(torch.tensor(0.1))
        self.config = type("Config", (), {"label_smoothing": 0.0})
        self.device = torch.device("cpu")


@pytest.fixture
def model(monkeypatch):
    table_now = "seed_hf.trainer.name_bank.text_features", lambda model, tokenizer, names: model.table.data.clone()
    monkeypatch.setattr(*table_now)
    return Names(4)


def test_names_outside_the_batch_are_negatives_as_they_were_some_steps_ago(model):
    bank = NameBank(model, None, ["cat", "dog", "cow", "pig"], every=2)
    images = F.normalize(torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]]), dim=1)
    numbers = torch.tensor([0, 1])
    loss = bank.loss(images, model.table[numbers], numbers)
    expected = F.cross_entropy(images @ torch.eye(4) / 0.1, numbers)
    expected = 0.5 * (expected + F.cross_entropy(images[:, :2].t() / 0.1, numbers))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    # those of the batch learn, the others wait
    assert model.table.grad[:2].abs().sum() > 0 and not model.table.grad[2:].any()
    with torch.no_grad():
        model.table[2] = 0
    assert bank.loss(images, model.table[numbers], numbers).item() == pytest.approx(loss.item(), rel=1e-5)
    assert bank.loss(images, model.table[numbers], numbers) < loss  # the third look sees the change


def test_similar_names_are_no_negatives(model):
    similar = torch.full((4, 4), 0.01).fill_diagonal_(0.5)
    similar[0, 2] = similar[2, 0] = 0.48
    names, numbers = ["cat", "dog", "kitten", "pig"], torch.tensor([0])
    near, far = (F.normalize(torch.tensor([[1.0, *rest]]), dim=1) for rest in ([0, 0.8, 0], [0.8, 0, 0]))
    losses = {}
    for share in (0.0, 0.4):
        bank = NameBank(model, None, names, 1, similar, share)
        losses[share] = [bank.loss(images, model.table[numbers], numbers).item() for images in (near, far)]
    assert losses[0.0][0] == pytest.approx(losses[0.0][1], rel=1e-5)
    assert losses[0.4][0] < losses[0.4][1]
