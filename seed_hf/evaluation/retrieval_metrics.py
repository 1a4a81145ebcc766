"""Measures of retrieval, of codebook use and of drawn pictures."""

from collections.abc import Sequence

import torch


def retrieval_recall(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    image_to_text: Sequence[int] | Sequence[Sequence[int]] | torch.Tensor,
    ks: Sequence[int] = (1, 5, 10),
    block_size: int = 4096,
) -> dict[str, float]:
    r"""
    Recall at k in both directions, when an image may have several texts and a text several images.

    Similarities are computed in blocks, so that memory grows with the number of features and not with their product:
    a million images against a million texts fit.

    Args:
        image_features (`torch.FloatTensor` of shape `(num_images, dim)`): L2-normalised.
        text_features (`torch.FloatTensor` of shape `(num_texts, dim)`): L2-normalised.
        image_to_text (`Sequence[int]` or `Sequence[Sequence[int]]` of length `num_images`): Row of the text, or rows
            of the texts, that describe each image.
        ks (`Sequence[int]`, defaults to `(1, 5, 10)`): Depths.
        block_size (`int`, defaults to 4096): Images and texts compared at once.

    Returns:
        `dict[str, float]`: `i2t_r{k}` (share of images of which a text is in the top k) and `t2i_r{k}` (share of texts
        of which an image is in the top k), in percent, and `r_mean`.

    Raises:
        ValueError: If the lengths disagree, or an image has no text.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.evaluation.retrieval_metrics import retrieval_recall
    >>> retrieval_recall(torch.eye(3), torch.eye(3), [0, 1, 2], ks=(1,))
    {'i2t_r1': 100.0, 't2i_r1': 100.0, 'r_mean': 100.0}
    >>> retrieval_recall(torch.eye(2), torch.eye(2)[[0, 0, 1]], [[0, 1], [2]], ks=(1,))
    {'i2t_r1': 100.0, 't2i_r1': 100.0, 'r_mean': 100.0}

    ```
    """
    pairs = _matching_pairs(image_to_text, len(image_features), len(text_features))
    directions = {"i2t": (image_features, text_features, pairs), "t2i": (text_features, image_features, pairs.flip(0))}
    results = {}
    for name, (queries, gallery, (query_rows, gallery_rows)) in directions.items():
        depth = min(max(ks), len(gallery))
        matching = query_rows * len(gallery) + gallery_rows  # one number for each matching pair
        hits = []
        for rows in torch.arange(len(queries)).split(block_size):
            nearest = _nearest(queries[rows].float(), gallery, depth, block_size).cpu()
            hits.append(torch.isin(rows[:, None] * len(gallery) + nearest, matching))
        hits = torch.cat(hits)
        for k in ks:
            results[f"{name}_r{k}"] = 100 * hits[:, :k].any(1).double().mean().item()
    results["r_mean"] = sum(results.values()) / len(results)
    return results


def _matching_pairs(image_to_text, num_images: int, num_texts: int) -> torch.LongTensor:
    """Rows of images and of texts that belong together, `(2, num_pairs)`."""
    if len(image_to_text) != num_images:
        raise ValueError(f"`image_to_text` has {len(image_to_text)} entries; allowed: one per image, {num_images}.")
    if isinstance(image_to_text, torch.Tensor) or not any(isinstance(entry, Sequence) for entry in image_to_text):
        pairs = torch.stack([torch.arange(num_images), torch.as_tensor(image_to_text).cpu()])
    else:
        counts = torch.tensor([len(texts) for texts in image_to_text])
        if not counts.all():
            raise ValueError(
                f"`image_to_text` has no text for image {int((counts == 0).nonzero()[0])}; allowed: some."
            )
        texts = torch.tensor([text for texts in image_to_text for text in texts])
        pairs = torch.stack([torch.arange(num_images).repeat_interleave(counts), texts])
    if pairs[1].min() < 0 or pairs[1].max() >= num_texts:
        raise ValueError(f"`image_to_text` spans [{pairs[1].min()}, {pairs[1].max()}]; allowed: [0, {num_texts}).")
    return pairs


def _nearest(queries: torch.Tensor, gallery: torch.Tensor, depth: int, block_size: int) -> torch.LongTensor:
    """Rows of the gallery most similar to each query, best first, `(num_queries, depth)`."""
    scores, rows = (
        queries.new_empty(len(queries), 0),
        torch.empty(len(queries), 0, dtype=torch.long).to(queries.device),
    )
    for start in range(0, len(gallery), block_size):
        block = queries @ gallery[start : start + block_size].float().t()
        best = block.topk(min(depth, block.shape[1]))
        # the best so far against the best of this block
        scores, rows = torch.cat([scores, best.values], 1), torch.cat([rows, best.indices + start], 1)
        scores, order = scores.topk(min(depth, scores.shape[1]))
        rows = rows.gather(1, order)
    return rows


def codebook_use(codes: torch.LongTensor, codebook_size: int) -> dict[str, float]:
    r"""
    Measures how much of a codebook is in use.

    Args:
        codes (`torch.LongTensor` of shape `(..., num_query_tokens)`): Codes in `[0, codebook_size)`.
        codebook_size (`int`): Number of codes.

    Returns:
        `dict[str, float]`: `codes_used` (share of the codebook that occurs, in percent), `perplexity` (exponential of
        the entropy of use, in `[1, codebook_size]`) and `distinct_codes` (different codes of one image, mean over
        images, in `[1, num_query_tokens]`: near 1, all queries say the same).

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.evaluation.retrieval_metrics import codebook_use
    >>> codebook_use(torch.tensor([[0, 1], [1, 0]]), codebook_size=4)
    {'codes_used': 50.0, 'perplexity': 2.0, 'distinct_codes': 2.0}

    ```
    """
    ordered = codes.reshape(-1, codes.shape[-1]).sort(dim=-1).values
    distinct = 1 + (ordered.diff(dim=-1) != 0).sum(-1).double()
    counts = torch.bincount(codes.flatten().cpu(), minlength=codebook_size).double()
    share = counts / counts.sum()
    entropy = -(share * share.clamp(min=1e-30).log()).sum()
    return {
        "codes_used": 100 * (counts > 0).double().mean().item(),
        "perplexity": round(entropy.exp().item(), 6),
        "distinct_codes": distinct.mean().item(),
    }


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""
    Fréchet distance between two sets of features, each taken as a normal distribution.

    With features of Inception it is FID; with those of CLIP it follows people's judgement better (arXiv 2203.06026).
    It falls with the number of images, so compare only sets of one size.

    Args:
        first (`torch.FloatTensor` of shape `(num_images, dim)`): Features of one set.
        second (`torch.FloatTensor` of shape `(num_others, dim)`): Features of the other.

    Returns:
        `float`: 0 for equal distributions; in squared units of the features.

    Raises:
        ValueError: Fewer than two rows, or different widths.

    Source: arXiv 1706.08500, equation 6.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.evaluation.retrieval_metrics import frechet_distance
    >>> features = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(features, features + 2), 3)
    32.0

    ```
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"`first` and `second` have shapes {tuple(first.shape)} and {tuple(second.shape)}; allowed: two rows or "
            "more, of equal width."
        )
    first, second = first.double().cpu(), second.double().cpu()
    shift = (first.mean(0) - second.mean(0)).square().sum()
    first_cov, second_cov = first.T.cov(), second.T.cov()
    # the trace of the square root of a product of covariances, whose eigenvalues are real and not negative
    overlap = torch.linalg.eigvals(first_cov @ second_cov).real.clamp(min=0).sqrt().sum()
    return (shift + first_cov.trace() + second_cov.trace() - 2 * overlap).clamp(min=0).item()


__all__ = ["codebook_use", "frechet_distance", "retrieval_recall"]
