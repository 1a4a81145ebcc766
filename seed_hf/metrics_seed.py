"""Measures of retrieval and of codebook use."""

from collections.abc import Sequence

import torch


def retrieval_recall(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    image_to_text: Sequence[int] | torch.Tensor,
    ks: Sequence[int] = (1, 5, 10),
    block_size: int = 4096,
) -> dict[str, float]:
    r"""
    Recall at k in both directions, when a text may belong to several images.

    Args:
        image_features (`torch.FloatTensor` of shape `(num_images, dim)`): L2-normalised.
        text_features (`torch.FloatTensor` of shape `(num_texts, dim)`): L2-normalised.
        image_to_text (`Sequence[int]` of length `num_images`): Row of the text that describes each image.
        ks (`Sequence[int]`, defaults to `(1, 5, 10)`): Depths.
        block_size (`int`, defaults to 4096): Queries compared at once, so that memory stays bounded.

    Returns:
        `dict[str, float]`: `i2t_r{k}` (share of images whose text is in the top k) and `t2i_r{k}` (share of texts of
        which an image is in the top k), in percent, and `r_mean`.

    Raises:
        ValueError: If the lengths disagree.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.metrics_seed import retrieval_recall
    >>> retrieval_recall(torch.eye(3), torch.eye(3), [0, 1, 2], ks=(1,))
    {'i2t_r1': 100.0, 't2i_r1': 100.0, 'r_mean': 100.0}

    ```
    """
    owner = torch.as_tensor(image_to_text)
    if len(owner) != len(image_features):
        raise ValueError(f"`image_to_text` has {len(owner)} entries; allowed: one per image, {len(image_features)}.")
    results = {}
    directions = {
        "i2t": (image_features, text_features, lambda query, found: found == owner[query, None]),
        "t2i": (text_features, image_features, lambda query, found: owner[found] == query[:, None]),
    }
    for name, (queries, gallery, is_hit) in directions.items():
        depth = min(max(ks), len(gallery))
        hits = []
        for rows in torch.arange(len(queries)).split(block_size):
            found = (queries[rows].float() @ gallery.float().t()).topk(depth).indices.cpu()
            hits.append(is_hit(rows, found))
        hits = torch.cat(hits)
        for k in ks:
            results[f"{name}_r{k}"] = 100 * hits[:, :k].any(1).float().mean().item()
    results["r_mean"] = sum(results.values()) / len(results)
    return results


def codebook_use(codes: torch.LongTensor, codebook_size: int) -> dict[str, float]:
    r"""
    How much of a codebook is alive.

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
    >>> from seed_hf.metrics_seed import codebook_use
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


__all__ = ["codebook_use", "retrieval_recall"]
