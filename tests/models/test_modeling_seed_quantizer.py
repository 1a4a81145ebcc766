"""Quantizer: nearest codes, straight-through gradient, remedies against collapse."""

import pytest
import torch
from rounding import assert_same_codes
from tiny.image_tokenizer import tiny_image_tokenizer

from seed_hf import SeedImageTokenizer
from seed_hf.evaluation.retrieval_metrics import codebook_use


def quantizer(**config):
    return tiny_image_tokenizer(**config).quantizer


def embeds(num=64, seed=0):
    return torch.randn(num, 8, 48, generator=torch.Generator().manual_seed(seed))


def test_codes_to_vectors_equals_the_forward_pass():
    module = quantizer()
    output = module(embeds())
    torch.testing.assert_close(module.lookup(output.codes), output.quantized)
    torch.testing.assert_close(module.decode(module.lookup(output.codes)), output.decoded)


def test_nearest_is_brute_force_nearest():
    module = quantizer()
    projected = module.project(embeds())
    distances = (projected[..., None, :] - module.embedding.weight).pow(2).sum(-1)
    assert_same_codes(module.nearest(projected), distances.argmin(-1), distances)


def test_every_code_is_reachable():
    module = quantizer()
    assert torch.equal(module.nearest(module.embedding.weight), torch.arange(64))


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_distance_is_float32_under_autocast(dtype):
    """Fresh code vectors of a large codebook would be denormal in float16."""
    module = quantizer()
    with torch.no_grad():
        module.embedding.weight.mul_(1e-4)
    projected = module.embedding.weight.clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module.nearest(projected), torch.arange(64))
    assert module.nearest(projected.to(dtype)).shape == (64,)


def test_gradient_passes_straight_through():
    module = quantizer()
    inputs = embeds(4).requires_grad_()
    output = module(inputs)
    projected = output.projected
    (grad,) = torch.autograd.grad(output.quantized.sum(), projected)
    assert torch.equal(grad, torch.ones_like(grad))


def test_loss_has_the_originals_swapped_factor():
    module = quantizer()
    output = module(embeds())
    vectors, projected = module.lookup(output.codes), output.projected
    distance = (vectors - projected).pow(2).mean()
    torch.testing.assert_close(output.loss, 1.25 * distance)
    (to_codebook,) = torch.autograd.grad(output.loss, module.embedding.weight, retain_graph=True)
    expected = torch.autograd.grad(0.25 * (vectors - projected.detach()).pow(2).mean(), module.embedding.weight)[0]
    torch.testing.assert_close(to_codebook, expected)


def test_normalised_codes_have_unit_length():
    module = quantizer(normalize_codes=True)
    output = module(embeds())
    for vectors in (output.projected, module.lookup(output.codes)):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(64, 8))


def test_kmeans_start_uses_more_codes():
    module = quantizer()
    causal_embeds = embeds(512)
    vectors = module.project(causal_embeds)
    before = module.nearest(vectors).unique().numel()
    module.init_codebook(causal_embeds, generator=torch.Generator().manual_seed(0))
    assert module.nearest(vectors).unique().numel() > before
    few = embeds(512)[:1]
    with pytest.raises(ValueError, match=f"has {few.shape[1]} rows; allowed: at least codebook_size = 64"):
        module.init_codebook(few)


def test_centred_embeddings_give_codes_that_differ_between_queries():
    """What all images share at a query must not reach the codebook."""
    generator = torch.Generator().manual_seed(0)
    module = quantizer(center_causal_embeds=True)
    of_query = 20 * torch.randn(1, 8, module.causal_mean.shape[1], generator=generator)
    causal_embeds = torch.randn(64, 8, module.causal_mean.shape[1], generator=generator) + of_query
    module.init_codebook(causal_embeds, generator=generator)
    torch.testing.assert_close(module.causal_mean, causal_embeds.mean(0))
    layers = torch.nn.Sequential(*module.encode_layers)
    torch.testing.assert_close(module.project(causal_embeds), layers(causal_embeds - causal_embeds.mean(0)))


def test_separate_queries_give_different_codes_for_equal_embeddings(tmp_path):
    model = tiny_image_tokenizer(separate_queries=True)
    causal_embeds = torch.randn(64, 1, 48, generator=torch.Generator().manual_seed(0)).expand(-1, 8, -1)
    same = tiny_image_tokenizer().quantizer(causal_embeds).codes
    different = model.quantizer(causal_embeds).codes
    assert codebook_use(same, 64)["distinct_codes"] == 1.0
    assert codebook_use(different, 64)["distinct_codes"] > 4.0
    model.save_pretrained(tmp_path)
    distances = torch.cdist(model.quantizer.project(causal_embeds), model.quantizer.get_codebook().expand(64, -1, -1))
    assert_same_codes(
        SeedImageTokenizer.from_pretrained(tmp_path).quantizer(causal_embeds).codes, different, distances
    )


def test_codebook_per_query_keeps_each_query_in_its_own_part(tmp_path):
    """Eight parts of eight codes; the nearest within the part, from k-means through restarts of dead codes."""
    settings = {"codebook_per_query": True, "separate_queries": True, "codebook_ema_decay": 0.5, "dead_code_steps": 2}
    model = tiny_image_tokenizer(**settings)
    module, parts = model.quantizer, torch.arange(8)
    causal_embeds = torch.randn(256, 8, 48, generator=torch.Generator().manual_seed(0))
    module.init_codebook(causal_embeds)
    module.train()
    for _ in range(6):
        output = module(causal_embeds)
        assert torch.equal(output.codes // 8, parts.expand(256, 8))
    model.eval()
    output = model.quantizer(causal_embeds)
    distances = torch.cdist(output.projected.transpose(0, 1), module.get_codebook().unflatten(0, (8, 8)))
    distances = distances.transpose(0, 1)
    assert_same_codes(output.codes % 8, distances.argmin(2), distances)
    model.save_pretrained(tmp_path)
    again = SeedImageTokenizer.from_pretrained(tmp_path).quantizer(causal_embeds).codes
    assert torch.equal(again // 8, parts.expand(256, 8))
    assert_same_codes(again % 8, output.codes % 8, distances)
    with pytest.raises(ValueError, match="`codebook_size` is 60; allowed: a multiple of num_query_tokens, 8"):
        tiny_image_tokenizer(codebook_per_query=True, codebook_size=60)


def test_moving_average_moves_towards_the_data_and_needs_no_gradient():
    module = quantizer(codebook_ema_decay=0.5)
    module.init_codebook(embeds(512))
    module.train()
    other = embeds(512, seed=3) + 0.5
    first = module(other).loss.item()
    for _ in range(20):
        output = module(other)
    assert output.loss.item() < first
    assert not module.embedding.weight.requires_grad
    module.eval()
    before = module.embedding.weight.clone()
    module(embeds())
    assert torch.equal(before, module.embedding.weight)


def test_dead_codes_restart():
    module = quantizer(codebook_ema_decay=0.5, dead_code_steps=3)
    with torch.no_grad():
        module.embedding.weight[32:] = 1000.0
        module.ema_sum.copy_(module.embedding.weight)
    module.train()
    for _ in range(8):
        module(embeds())
    assert module.embedding.weight.abs().max() < 100
