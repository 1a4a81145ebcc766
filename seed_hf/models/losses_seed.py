# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Training objectives of SEED as pure functions."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch.nn import functional as F


def gather_features(features: torch.Tensor, mode: str = "full") -> torch.Tensor:
    r"""
    Gathers the features of all processes, in rank order.

    Args:
        features (`torch.FloatTensor` of shape `(batch_size, dim)`): This process' features; equal shapes everywhere.
        mode (`str`, defaults to `"full"`): `"full"` keeps gradients through the gather, `"detached"` has none at
            all, not even into this process' own rows (the original's `concat_all_gather`).

    Returns:
        `torch.FloatTensor` of shape `(num_processes * batch_size, dim)`.

    Raises:
        ValueError: Another `mode`.
    """
    if mode not in ("full", "detached"):
        raise ValueError(f"`mode` is {mode!r}; allowed: 'full', 'detached'.")
    distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if mode == "full":
        return torch.cat(dist_functional.all_gather(features)) if distributed else features
    features = features.detach()
    if not distributed:
        return features
    gathered = [torch.empty_like(features) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, features.contiguous())
    return torch.cat(gathered)


def contrastive_loss(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    temperature: torch.Tensor,
    label_smoothing: float = 0.1,
    gather: str = "full",
) -> torch.Tensor:
    r"""
    Stage 1: image-text contrastive loss, mean of both directions, negatives from all processes.

    Args:
        image_features (`torch.FloatTensor` of shape `(batch_size, dim)`): L2-normalised.
        text_features (`torch.FloatTensor` of shape `(batch_size, dim)`): L2-normalised; row i belongs to image i.
        temperature (`torch.FloatTensor` of shape `()`): Similarities are divided by it.
        label_smoothing (`float`, defaults to 0.1): Share of the target spread over all rows.
        gather (`str`, defaults to `"full"`): See [`gather_features`]. `"full"` under DDP gives exactly the gradient
            of one process with the whole batch (do not multiply by the number of processes).

    Returns:
        `torch.FloatTensor` of shape `()`: this process' rows against all columns; float32, under autocast too.

    Source: `blip2_qformer_casual.py` of the original; paper section 3.1.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.models.losses_seed import contrastive_loss
    >>> features = torch.eye(4)
    >>> round(contrastive_loss(features, features, torch.tensor(0.07), label_smoothing=0.0).item(), 3)
    0.0

    ```
    """
    image_features, text_features = image_features.float(), text_features.float()
    with torch.autocast(image_features.device.type, enabled=False):  # it would round the similarities to 16 bits
        similarity_i2t = image_features @ gather_features(text_features, gather).t() / temperature
        similarity_t2i = text_features @ gather_features(image_features, gather).t() / temperature
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    batch_size = image_features.shape[0]
    targets = torch.arange(batch_size, device=image_features.device) + rank * batch_size
    return 0.5 * (
        F.cross_entropy(similarity_i2t, targets, label_smoothing=label_smoothing)
        + F.cross_entropy(similarity_t2i, targets, label_smoothing=label_smoothing)
    )


def reconstruction_loss(reconstructed: torch.Tensor, causal_embeds: torch.Tensor) -> torch.Tensor:
    r"""
    Stage 2: mean over tokens of 1 - cosine(reconstructed, causal embedding); no gradient into the target.

    Args:
        reconstructed (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`).
        causal_embeds (`torch.FloatTensor` of the same shape).

    Returns:
        `torch.FloatTensor` of shape `()`, in [0, 2].

    Source: `blip2_qformer_codebook_all_image.py` of the original; paper section 3.2.
    """
    return (1 - F.cosine_similarity(reconstructed.float(), causal_embeds.detach().float(), dim=-1)).mean()


__all__ = ["contrastive_loss", "gather_features", "reconstruction_loss"]
