"""Measures of retrieval and codebook use, against cases worked out by hand."""

import pytest
import torch

from seed_hf.evaluation.retrieval_metrics import codebook_use, frechet_distance, retrieval_recall


def test_retrieval_with_several_images_a_text():
    texts = torch.eye(3)
    # images 0 and 1 show text 0, but image 1 looks more like text 1, which image 2 shows
    images = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    scores = retrieval_recall(images, texts[:2].clone(), [0, 0, 1], ks=(1, 2))
    assert scores["i2t_r1"] == pytest.approx(200 / 3)
    assert scores["i2t_r2"] == 100
    assert scores["t2i_r1"] == 50
    assert scores["t2i_r2"] == 100


def test_blocks_do_not_change_the_result():
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(50, 8, generator=generator) for _ in range(2))
    owners = torch.randint(0, 50, (50,), generator=generator)
    assert retrieval_recall(images, texts, owners) == retrieval_recall(images, texts, owners, block_size=7)


def test_retrieval_with_several_texts_an_image():
    texts = torch.eye(4)
    # image 0 has texts 0 and 1 and is nearest to the second; image 1 has texts 2 and 3 and is nearest to text 0
    images = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.7, 0.1, 0.6, 0.2]])
    scores = retrieval_recall(images, texts, [[0, 1], [2, 3]], ks=(1, 2))
    assert scores["i2t_r1"] == 50 and scores["i2t_r2"] == 100
    # text 0 finds image 1 first, the others their own
    assert scores["t2i_r1"] == 75 and scores["t2i_r2"] == 100
    assert scores["r_mean"] == pytest.approx((50 + 100 + 75 + 100) / 4)


def test_several_texts_against_a_whole_similarity_matrix():
    """Twenty images with three texts each, against sorting the whole matrix."""
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(20, 6, generator=generator), torch.randn(60, 6, generator=generator)
    similarity = images @ texts.t()
    is_pair = torch.arange(20)[:, None] == torch.arange(60) // 3
    scores = retrieval_recall(images, texts, torch.arange(60).view(20, 3).tolist(), block_size=8)
    for name, matrix, pairs in (("i2t", similarity, is_pair), ("t2i", similarity.t(), is_pair.t())):
        ordered = pairs.gather(1, matrix.argsort(dim=1, descending=True))
        for k in (1, 5, 10):
            assert scores[f"{name}_r{k}"] == pytest.approx(100 * ordered[:, :k].any(1).float().mean().item())


@pytest.mark.parametrize("texts", [[[0], []], [[0], [3]], [0, -1]])
def test_retrieval_needs_a_text_that_exists(texts):
    with pytest.raises(ValueError, match="`image_to_text` .*allowed"):
        retrieval_recall(torch.eye(2), torch.eye(3)[:, :2], texts)


def test_retrieval_needs_one_owner_an_image():
    with pytest.raises(ValueError, match="has 2 entries; allowed: one per image, 3"):
        retrieval_recall(torch.eye(3), torch.eye(3), [0, 1])


def test_codebook_use():
    use = codebook_use(torch.arange(8).view(2, 4), 8)
    assert use == {"codes_used": 100.0, "perplexity": 8.0, "distinct_codes": 4.0}
    use = codebook_use(torch.zeros(3, 5, dtype=torch.long), 10)
    assert use == {"codes_used": 10.0, "perplexity": 1.0, "distinct_codes": 1.0}
    assert codebook_use(torch.tensor([[0, 2, 0, 1], [3, 3, 3, 3]]), 4)["distinct_codes"] == 2.0


def test_frechet_distance():
    """Of two normal distributions whose covariances commute it is known."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 3, generator=generator)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    wider = 3 * (features - features.mean(0)) + features.mean(0) + torch.tensor([1.0, 0.0, 2.0])
    expected = 1 + 4 + (2**2) * features.T.cov().trace().item()
    assert frechet_distance(features, wider) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="`first` and `second` have shapes"):
        frechet_distance(features, features[:1])
