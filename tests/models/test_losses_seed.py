"""Objectives, and the gather over real processes."""

import sys

import processes
import pytest
import torch
from once import make_once

from seed_hf.models.losses_seed import contrastive_loss, gather_features, reconstruction_loss


TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from torch.nn import functional as F
from seed_hf.models.losses_seed import contrastive_loss

dist.init_process_group("gloo")
assert dist.get_world_size() == 2
rank, gradients = dist.get_rank(), {}
torch.manual_seed(0)
images, texts = torch.randn(6, 5, dtype=torch.double), torch.randn(6, 5, dtype=torch.double)
weight = torch.randn(5, 4, dtype=torch.double).requires_grad_()
temperature = torch.tensor(0.5, dtype=torch.double, requires_grad=True)
rows = slice(3 * rank, 3 * rank + 3)
for mode in ("full", "detached"):
    features = [F.normalize(side[rows] @ weight, dim=-1) for side in (images, texts)]
    loss = contrastive_loss(*features, temperature, gather=mode)
    gradients[mode] = torch.autograd.grad(loss, (weight, temperature))
    for grad in gradients[mode]:
        dist.all_reduce(grad)
        grad /= 2  # as DDP averages
if rank == 0:
    torch.save(gradients, sys.argv[1])
dist.destroy_process_group()
"""


def one_process_gradients(mode):
    torch.manual_seed(0)
    images, texts = torch.randn(6, 5, dtype=torch.double), torch.randn(6, 5, dtype=torch.double)
    weight = torch.randn(5, 4, dtype=torch.double).requires_grad_()
    temperature = torch.tensor(0.5, dtype=torch.double, requires_grad=True)
    features = [torch.nn.functional.normalize(side @ weight, dim=-1) for side in (images, texts)]
    contrastive_loss(*features, temperature, gather=mode).backward()
    return weight.grad, temperature.grad


def launch_two_processes(folder):
    script = folder / "two.py"
    script.write_text(TWO_PROCESSES)
    ended = processes.run_ranks([sys.executable, str(script), str(folder / "gradients.pt")])
    assert [code for code, _ in ended] == [0, 0], ended


@pytest.fixture(scope="module")
def two_process_gradients(tmp_path_factory):
    """In each mode, by one launch: starting the processes takes most of the time."""
    folder = make_once(tmp_path_factory, "two", launch_two_processes)
    return torch.load(folder / "gradients.pt")


@pytest.mark.parametrize("mode", ("full", "detached"))
def test_two_processes_equal_one(mode, two_process_gradients):
    for actual, expected in zip(two_process_gradients[mode], one_process_gradients(mode), strict=True):
        # the loss itself is float32
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


def test_detached_gather_departs_from_the_full_gradient():
    full, detached = one_process_gradients("full")[0], one_process_gradients("detached")[0]
    assert torch.nn.functional.cosine_similarity(full.flatten(), detached.flatten(), dim=0) < 0.999


def test_autocast_rounds_no_similarities():
    features = torch.nn.functional.normalize(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    expected = contrastive_loss(*features, torch.tensor(0.07))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive_loss(*features, torch.tensor(0.07)), expected)


def test_gather_in_one_process():
    features = torch.randn(3, 4, requires_grad=True)
    assert gather_features(features).requires_grad
    assert not gather_features(features, "detached").requires_grad


def test_label_smoothing_keeps_the_loss_above_zero():
    features = torch.eye(4)
    assert contrastive_loss(features, features, torch.tensor(0.05), label_smoothing=0.0) < 1e-6
    assert contrastive_loss(features, features, torch.tensor(0.05), label_smoothing=0.1) > 0.1


def test_reconstruction_loss_ignores_length_and_stops_the_gradient():
    target = torch.randn(2, 3, 4, requires_grad=True)
    rebuilt = (2 * target.detach()).requires_grad_()
    loss = reconstruction_loss(rebuilt, target)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert target.grad is None and rebuilt.grad is not None
