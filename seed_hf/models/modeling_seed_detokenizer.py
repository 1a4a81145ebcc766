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
"""From code vectors back: decoder blocks and the heads that give generation embeddings."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Blip2VisionConfig
from transformers import initialization as init
from transformers.models.blip_2.modeling_blip_2 import Blip2Encoder, Blip2PreTrainedModel

from .modeling_seed_qformer import SeedReverseQFormer


class SeedCodeDecoder(Blip2PreTrainedModel):
    r"""
    Learned positions added once, then pre-norm transformer blocks (bidirectional, no final norm).

    Args:
        config (`Blip2VisionConfig`): `decoder_config` of the image tokenizer.
        num_positions (`int`): Number of codes of an image.

    Source: `blocks`, `blocks_text`, `blocks_image` of the original, which are timm ViT blocks; transformers'
    `Blip2Encoder` computes the same.
    """

    config: Blip2VisionConfig
    config_class = Blip2VisionConfig

    def __init__(self, config: Blip2VisionConfig, num_positions: int):
        super().__init__(config)
        self.position_embedding = nn.Parameter(torch.zeros(1, num_positions, config.hidden_size))
        self.encoder = Blip2Encoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if module is self:
            init.trunc_normal_(self.position_embedding, std=self.config.initializer_range)

    def forward(self, decoded: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_query_tokens, width)` -> the same shape."""
        return self.encoder(decoded + self.position_embedding).last_hidden_state


class SeedTextHead(nn.Module):
    """SEED-1: Reverse Q-Former and a projection: `num_generation_tokens` generation embeddings."""

    def __init__(self, config):
        super().__init__()
        self.reverse_qformer = SeedReverseQFormer(config)
        self.projection = nn.Linear(config.reverse_qformer_config.hidden_size, config.generation_dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_query_tokens, width)` -> `(batch_size, num_generation_tokens, generation_dim)`."""
        return self.projection(self.reverse_qformer(hidden_states))


class SeedImageHead(SeedTextHead):
    """SEED-2: Reverse Q-Former with one query and a projection: one image embedding."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_query_tokens, width)` -> `(batch_size, generation_dim)`."""
        return super().forward(hidden_states).squeeze(1)


class SeedMlpHead(nn.Module):
    """SEED-2's default: each token is narrowed by an MLP (no biases), all are flattened token-major and projected."""

    def __init__(self, config):
        super().__init__()
        sizes = [config.decoder_config.hidden_size, *config.mlp_head_sizes]
        layers = []
        for size_in, size_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(size_in, size_out, bias=False), nn.ReLU()]
        self.down = nn.ModuleList(layers[:-1])  # the names of the original's weights count the activations too
        self.projection = nn.Linear(config.num_query_tokens * sizes[-1], config.generation_dim)

    def narrow(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_query_tokens, width)` -> `(batch_size, num_query_tokens, config.mlp_head_sizes[-1])`."""
        for layer in self.down:
            hidden_states = layer(hidden_states)
        return hidden_states

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_query_tokens, width)` -> `(batch_size, generation_dim)`."""
        return self.projection(self.narrow(hidden_states).flatten(1))


class SeedPrototypes(nn.Module):
    """Turns generation embeddings towards known ones: to a mean of these in which near ones count, at the same length.

    What the codes of an unseen image decode to lies between known embeddings, where a small picture decoder draws
    nothing clear. Ours, not in the paper: the retrieval of a Hopfield network, arXiv 2008.02217.
    """

    def __init__(self, config):
        super().__init__()
        self.sharpness = config.prototype_sharpness
        shape = (config.num_prototypes, config.num_generation_tokens, config.generation_dim)
        self.embeds = nn.Buffer(torch.zeros(shape))

    def forward(self, generation_embeds: torch.Tensor) -> torch.Tensor:
        """Generation embeddings of any of the heads -> the same shape."""
        embeds, known = generation_embeds.float().flatten(1), self.embeds.float().flatten(1)
        nearness = F.normalize(embeds, dim=-1) @ F.normalize(known, dim=-1).t()
        means = torch.softmax(self.sharpness * nearness, dim=-1) @ known
        turned = F.normalize(means, dim=-1) * embeds.norm(dim=-1, keepdim=True)
        return turned.view_as(generation_embeds).to(generation_embeds.dtype)


HEAD_CLASSES = {"text": SeedTextHead, "qformer": SeedImageHead, "mlp": SeedMlpHead}

__all__ = ["HEAD_CLASSES", "SeedCodeDecoder", "SeedImageHead", "SeedMlpHead", "SeedPrototypes", "SeedTextHead"]
