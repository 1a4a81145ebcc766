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
"""The embedding of the empty prompt, which is kept with a picture decoder in place of a text encoder."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn


class SeedEmptyPrompt(ModelMixin, ConfigMixin):
    r"""
    Output of the decoder's text encoder for `""`, as a small component of [`SeedPipeline`].

    SEED-1 needs it as the unconditional branch of guidance, SEED-2 as the text condition of stable unCLIP. The
    original keeps a whole text encoder for it.

    Args:
        num_tokens (`int`, defaults to 77): Number of tokens of the text encoder.
        embedding_dim (`int`, defaults to 768): Width of the text encoder (1024 for SEED-2).

    Example:

    ```python
    >>> import torch
    >>> from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt
    >>> SeedEmptyPrompt.from_embeds(torch.randn(1, 16, 384))(batch_size=2).shape
    torch.Size([2, 16, 384])

    ```
    """

    @register_to_config
    def __init__(self, num_tokens: int = 77, embedding_dim: int = 768):
        super().__init__()
        self.embeds = nn.Parameter(torch.zeros(num_tokens, embedding_dim), requires_grad=False)

    @classmethod
    def from_embeds(cls, embeds: torch.FloatTensor) -> "SeedEmptyPrompt":
        r"""
        Makes the component from what a text encoder gave.

        Args:
            embeds (`torch.FloatTensor` of shape `(num_tokens, embedding_dim)` or `(1, num_tokens, embedding_dim)`):
                Last hidden state of `""`.

        Returns:
            [`SeedEmptyPrompt`]

        Raises:
            ValueError: `embeds` of another shape.
        """
        shape = tuple(embeds.shape)
        if embeds.ndim == 3 and shape[0] == 1:
            embeds = embeds[0]
        if embeds.ndim != 2:
            raise ValueError(f"`embeds` has shape {shape}; allowed: (num_tokens, embedding_dim), a first axis of 1.")
        model = cls(*embeds.shape)
        model.embeds = nn.Parameter(embeds.detach().clone(), requires_grad=False)
        return model

    def forward(self, batch_size: int = 1) -> torch.FloatTensor:
        r"""
        Args:
            batch_size (`int`, defaults to 1): Number of copies.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_tokens, embedding_dim)`.
        """
        return self.embeds.expand(batch_size, -1, -1)


__all__ = ["SeedEmptyPrompt"]
