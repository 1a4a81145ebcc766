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
"""Causal Q-Former and Reverse Q-Former: transformers' `Blip2QFormerModel` with SEED's queries and masks."""

import torch
from torch import nn
from transformers import Blip2QFormerModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings


def causal_mask(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    r"""
    Additive causal mask of shape `(1, 1, length, length)`: 0 where query i may see query j <= i, else `dtype` min.

    A boolean or 0/1 mask would not do: `Blip2QFormerModel` *adds* a 4-D mask under eager attention, so such a mask
    silently leaks the future.
    """
    return torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device).triu(1)[None, None]


class SeedCausalQFormer(nn.Module):
    r"""
    Learned queries read the image features; query i sees queries <= i (with `causal_queries=False`, a baseline, all
    of them). With `use_text_tower` the same self-attention also encodes captions (own feed-forward layers,
    bidirectional).

    Source: `Qformer_causual.py` and `blip2_qformer_casual.py` of the original; paper section 3.1. There causality
    switches on only for exactly 32 queries; here for any number.
    """

    def __init__(self, config):
        super().__init__()
        hidden_size = config.qformer_config.hidden_size
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, hidden_size))
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        # CODEPATH: SEED-1 stage 1 and seed-mini have a text tower; converted SEED tokenizers do not
        self.text_embeddings = Blip2TextEmbeddings(config.qformer_config) if config.use_text_tower else None
        self.is_causal = config.causal_queries

    def forward(self, image_embeds: torch.Tensor, **kwargs) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """`(batch_size, num_patches + 1, vision width)` -> outputs `(batch_size, num_query_tokens, width)`."""
        queries = self.query_tokens.expand(image_embeds.shape[0], -1, -1)
        mask = causal_mask(queries.shape[1], queries.dtype, queries.device)
        if not self.is_causal:
            mask = torch.zeros_like(mask)
        outputs = self.qformer(
            query_embeds=queries,
            attention_mask=mask.expand(queries.shape[0], -1, -1, -1),
            encoder_hidden_states=image_embeds,
            return_dict=True,
            **kwargs,
        )
        if outputs.attentions is not None:
            # transformers 5.23 lists the cross-attentions among the self-attentions too
            cross = {id(attention) for attention in outputs.cross_attentions or ()}
            outputs.attentions = tuple(attention for attention in outputs.attentions if id(attention) not in cross)
        return outputs

    def encode_text(
        self, input_ids: torch.LongTensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Token ids `(batch_size, length)` -> outputs `(batch_size, length, width)`."""
        if self.text_embeddings is None:
            raise ValueError("`input_ids` needs the text tower; allowed only with config.use_text_tower=True.")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        embeds = self.text_embeddings(input_ids=input_ids)
        return self.qformer(
            query_embeds=embeds, query_length=0, attention_mask=attention_mask, return_dict=True, **kwargs
        )

    @torch.no_grad()
    def copy_text_layers_to_query(self):
        """Start each query feed-forward as a copy of the text one (the original does, before training)."""
        for layer in self.qformer.encoder.layer:
            layer.intermediate_query.load_state_dict(layer.intermediate.state_dict())
            layer.output_query.load_state_dict(layer.output.state_dict())


class SeedReverseQFormer(nn.Module):
    r"""
    Learned queries, bidirectional, read the decoded codes.

    Source: `Reverse_Qformer` of the original; paper section 3.2 ("reverse Q-Former"): 77 queries and 4 layers in
    SEED-1, one query in SEED-2.
    """

    def __init__(self, config):
        super().__init__()
        self.query_tokens = nn.Parameter(
            torch.zeros(1, config.num_generation_tokens, config.reverse_qformer_config.hidden_size)
        )
        self.qformer = Blip2QFormerModel._from_config(config.reverse_qformer_config)

    def forward(self, decoded: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_query_tokens, width)` -> `(batch_size, num_generation_tokens, width)`."""
        queries = self.query_tokens.expand(decoded.shape[0], -1, -1)
        return self.qformer(query_embeds=queries, encoder_hidden_states=decoded).last_hidden_state


__all__ = ["SeedCausalQFormer", "SeedReverseQFormer", "causal_mask"]
