"""What the original computes from images to codes to generation embeddings, rebuilt from plain torch operations.

The original's code cannot be shipped, so its sizes and its ways are kept here and its code is not: float32, attention
through the whole matrix of scores, a bias of the keys made of zeros at each call, the full matrix of distances to the
codebook, no inference mode. The weights are those of a [`SeedImageTokenizer`], so both sides give the same codes.
"""

import torch
from torch import nn
from torch.nn import functional as F

from seed_hf import SeedImageTokenizer


class OriginalEncoder:
    """The original's way through the weights of an image tokenizer.

    Args:
        model ([`SeedImageTokenizer`]): SEED-1, in evaluation mode.
    """

    def __init__(self, model: SeedImageTokenizer):
        self.model, self.config = model, model.config

    @torch.no_grad()
    def __call__(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images `(batch_size, 3, size, size)` -> codes `(batch_size, 32)`, generation embeddings."""
        codes = self.encode(pixel_values)
        return codes, self.decode(codes)

    @torch.no_grad()
    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Images -> codes."""
        former = self.model.causal_qformer
        states = qformer(former.qformer, former.query_tokens, self.see(pixel_values), is_causal=True)
        return self.quantize(states)

    def see(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Images -> features of the ViT, after its last norm."""
        vision, heads = self.model.vision_model, self.config.vision_config.num_attention_heads
        embeds = vision.embeddings
        patches = embeds.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        states = torch.cat([embeds.class_embedding.expand(len(patches), -1, -1), patches], dim=1)
        states = states + embeds.position_embedding
        for layer in vision.encoder.layers:
            states = block(layer, states, heads)
        return vision.post_layernorm(states)

    def quantize(self, states: torch.Tensor) -> torch.Tensor:
        """Causal embeddings -> codes, by all three terms of all distances."""
        quantizer = self.model.quantizer
        for layer in quantizer.encode_layers:
            states = layer(states)
        flat, codebook = states.flatten(0, 1), quantizer.embedding.weight
        distances = flat.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * flat @ codebook.t()
        return distances.argmin(1).view(states.shape[:-1])

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes -> generation embeddings."""
        quantizer, decoder, head = self.model.quantizer, self.model.generation_decoder, self.model.generation_head
        states = quantizer.embedding(codes)
        for layer in quantizer.decode_layers:
            states = layer(states)
        states = states + decoder.position_embedding
        for layer in decoder.encoder.layers:
            states = block(layer, states, self.config.decoder_config.num_attention_heads)
        reverse = head.reverse_qformer
        return head.projection(qformer(reverse.qformer, reverse.query_tokens, states))


def attend(query, key, value, num_heads: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Attention through the whole matrix of scores; all three `(batch_size, length, width)`."""
    query, key, value = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def block(layer: nn.Module, states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """A block of the ViT or of a decoder."""
    attention = layer.self_attn
    query_bias, _, value_bias = attention.qkv.bias.chunk(3)
    bias = torch.cat([query_bias, torch.zeros_like(value_bias), value_bias])
    parts = F.linear(layer.layer_norm1(states), attention.qkv.weight, bias).chunk(3, dim=-1)
    states = states + attention.projection(attend(*parts, num_heads))
    return states + layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layer_norm2(states))))


def qformer(model: nn.Module, queries: torch.Tensor, features: torch.Tensor, is_causal: bool = False) -> torch.Tensor:
    """Queries that read features; a causal one sees no later query."""
    states = model.layernorm(queries.expand(len(features), -1, -1))
    mask = torch.full((states.shape[1],) * 2, -10000.0).triu(1) if is_causal else None
    for layer in model.encoder.layer:
        states = bert_attention(layer.attention, states, states, mask)
        if layer.has_cross_attention:
            states = bert_attention(layer.crossattention, states, features)
        inner = F.gelu(layer.intermediate_query.dense(states))
        output = layer.output_query
        states = output.LayerNorm(output.dense(inner) + states)
    return states


def bert_attention(layer: nn.Module, states, read, mask=None) -> torch.Tensor:
    """Attention of BERT, its residual and the norm after it."""
    parts = layer.attention
    mixed = attend(parts.query(states), parts.key(read), parts.value(read), parts.num_attention_heads, mask)
    return layer.output.LayerNorm(layer.output.dense(mixed) + states)
