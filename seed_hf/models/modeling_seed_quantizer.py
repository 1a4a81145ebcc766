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
"""Vector quantizer of SEED: causal embeddings -> codes -> code vectors, with its loss and its codebook."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils import ModelOutput


# Stands where there is no code; it is out of range for everything that takes codes
NO_CODE = -1


@dataclass
class SeedQuantizerOutput(ModelOutput):
    r"""
    Args:
        loss (`torch.FloatTensor` of shape `()`): Commitment loss + 0.25 * codebook loss, unweighted.
        codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`): Nearest codes.
        projected (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, code_dim)`): Compared vectors.
        quantized (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, code_dim)`): Code vectors, with the
            gradient of `projected` (straight-through).
        decoded (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`): Code vectors brought
            back to the Q-Former's width.
    """

    loss: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    projected: torch.FloatTensor | None = None
    quantized: torch.FloatTensor | None = None
    decoded: torch.FloatTensor | None = None


class SeedQuantizer(nn.Module):
    r"""
    Down-projection, nearest codebook vector, up-projection.

    The squared Euclidean distance is computed in float32 whatever the autocast state: fresh code vectors are about
    1e-4, near the smallest normal float16.

    Source: `models/seed_qformer/vqvae` (`VectorQuantizer2`, `legacy=True`) of the original; paper section 3.2. The
    original puts the factor 0.25 on the codebook term, not on the commitment term. This is kept,
    since the published weights were trained so. `normalize_codes`, `center_causal_embeds`, `separate_queries`,
    `codebook_per_query`, moving averages, k-means start and restarts are ours and off by default.
    """

    beta = 0.25

    def __init__(self, config):
        super().__init__()
        self.normalize_codes = config.normalize_codes
        self.ema_decay = config.codebook_ema_decay
        self.dead_code_steps = config.dead_code_steps
        hidden_size, code_dim = config.qformer_config.hidden_size, config.code_dim
        # lists, in which the weights have the names of the original's
        encode_layers = [nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, code_dim)]
        self.encode_layers = nn.ModuleList(encode_layers)
        self.embedding = nn.Embedding(config.codebook_size, code_dim)
        decode_layers = [nn.Linear(code_dim, code_dim), nn.Tanh(), nn.Linear(code_dim, hidden_size)]
        self.decode_layers = nn.ModuleList(decode_layers)
        # CODEPATH: seed-mini; SEED's quantizer takes causal embeddings as they are
        if config.center_causal_embeds:
            self.causal_mean = nn.Buffer(torch.zeros(config.num_query_tokens, hidden_size))
        else:
            self.causal_mean = None
        # CODEPATH: seed-mini has a projection for each query, SEED one for all
        if config.separate_queries:
            self.query_scale = nn.Parameter(torch.ones(config.num_query_tokens, hidden_size))
            self.query_shift = nn.Parameter(torch.zeros(config.num_query_tokens, hidden_size))
        self.separate_queries = config.separate_queries
        self.num_query_tokens = config.num_query_tokens
        # CODEPATH: in seed-mini part i of the codebook belongs to query i; in SEED there is one part for all queries
        self.num_parts = config.num_query_tokens if config.codebook_per_query else 1
        if self.ema_decay > 0:
            self.embedding.weight.requires_grad_(False)
            self.ema_count = nn.Buffer(torch.ones(config.codebook_size))
            self.ema_sum = nn.Buffer(torch.zeros(config.codebook_size, code_dim))
            self.steps_unused = nn.Buffer(torch.zeros(config.codebook_size, dtype=torch.long))

    def project(self, causal_embeds: torch.Tensor) -> torch.Tensor:
        """Causal embeddings `(..., num_query_tokens, hidden_size)` -> vectors to compare with the codebook, `code_dim`
        wide."""
        if self.causal_mean is not None:
            causal_embeds = causal_embeds - self.causal_mean.to(causal_embeds.dtype)
        if self.separate_queries:
            causal_embeds = self.query_scale * causal_embeds + self.query_shift
        projected = causal_embeds
        for layer in self.encode_layers:
            projected = layer(projected)
        return F.normalize(projected.float(), dim=-1) if self.normalize_codes else projected

    def get_codebook(self) -> torch.Tensor:
        """The vectors codes stand for: `(codebook_size, code_dim)`, L2-normalised with `normalize_codes`."""
        weight = self.embedding.weight
        if weight.is_meta:
            # offloaded by accelerate, whose hooks bring it where the module is called
            weight = self.embedding(torch.arange(self.embedding.num_embeddings))
        return F.normalize(weight.float(), dim=-1).to(weight.dtype) if self.normalize_codes else weight

    def nearest(self, projected: torch.Tensor) -> torch.LongTensor:
        """
        Index of the nearest codebook vector, lowest index on ties: `(..., code_dim)` -> `(...)`.

        With `codebook_per_query` the second last dimension counts the queries, each of which has its own part.
        """
        with torch.no_grad(), torch.autocast(projected.device.type, enabled=False):
            parts = self.get_codebook().float().unflatten(0, (self.num_parts, -1))
            flat = projected.float().reshape(-1, self.num_parts, projected.shape[-1]).transpose(0, 1)
            # |z|^2 is the same for every code and is left out
            distances = torch.baddbmm(parts.pow(2).sum(2)[:, None], flat, parts.mT, beta=1.0, alpha=-2.0)
            first = parts.shape[1] * torch.arange(self.num_parts, device=flat.device)[:, None]
            return (distances.argmin(2) + first).t().reshape(projected.shape[:-1])

    def lookup(self, codes: torch.LongTensor) -> torch.Tensor:
        """Code vectors `(..., code_dim)` of codes `(...)`."""
        codebook = self.get_codebook()
        return F.embedding(codes.long().to(codebook.device), codebook)

    def decode(self, code_vectors: torch.Tensor) -> torch.Tensor:
        """Code vectors `(..., code_dim)` -> `(..., hidden_size)`."""
        for layer in self.decode_layers:
            code_vectors = layer(code_vectors)
        return code_vectors

    def mean_decoded(self) -> torch.Tensor:
        """What [`decode`] gives on average over the codes of each place: `(num_query_tokens, hidden_size)`."""
        decoded = self.decode(self.get_codebook()).unflatten(0, (self.num_parts, -1)).mean(1)
        return decoded.expand(self.num_query_tokens, -1)

    def forward(
        self, causal_embeds: torch.Tensor, codes_only: bool = False, moves_codebook: bool = True
    ) -> SeedQuantizerOutput:
        """
        Quantize `(batch_size, num_query_tokens, hidden_size)` causal embeddings; see [`SeedQuantizerOutput`].

        With `codes_only` the output has nothing but `codes`, and no codebook moves; NaN and infinity have no nearest
        code, and there the code is `NO_CODE`. Offloaded parameters of this module are present in a forward pass only,
        so even `codes_only` goes through here. Without `moves_codebook` no codebook moves, but all else is there.
        """
        projected = self.project(causal_embeds)
        codes = self.nearest(projected)
        if codes_only:
            is_finite = torch.isfinite(projected.float().sum(-1) + self.lookup(codes).float().sum(-1))
            return SeedQuantizerOutput(codes=torch.where(is_finite, codes, NO_CODE))
        with torch.autocast(projected.device.type, enabled=False):
            compared = projected.float()
            if self.training and self.ema_decay > 0 and moves_codebook:
                self._move_codebook(compared.detach().flatten(0, 1), codes.flatten())
            vectors = self.lookup(codes).float()
            loss = F.mse_loss(compared, vectors.detach()) + self.beta * F.mse_loss(vectors, compared.detach())
            quantized = compared + (vectors - compared).detach()
        # not the dtype of `projected`, which is float32 with `normalize_codes`
        decoded = self.decode(quantized.to(causal_embeds.dtype))
        return SeedQuantizerOutput(loss=loss, codes=codes, projected=projected, quantized=quantized, decoded=decoded)

    @torch.no_grad()
    def init_weights(self):
        """New values of all that belongs to the quantizer itself; the linear layers inside are left alone."""
        if self.causal_mean is not None:
            init.zeros_(self.causal_mean)
        if self.separate_queries:
            # random signs make 32 different projections of one vector; shifts as large as it keep their codes apart
            init.copy_(self.query_scale, torch.randint(0, 2, self.query_scale.shape).mul(2.0).sub(1.0))
            init.normal_(self.query_shift, std=1.0)
        if self.ema_decay > 0:
            init.ones_(self.ema_count)
            init.zeros_(self.ema_sum)
            init.zeros_(self.steps_unused)

    @torch.no_grad()
    def init_codebook(self, causal_embeds: torch.Tensor, num_iterations: int = 10, generator=None):
        r"""
        Starts the codebook at k-means centres of the encoder's output for some images (a remedy against collapse on
        small data), after measuring the means of `center_causal_embeds`.

        Args:
            causal_embeds (`torch.FloatTensor` of shape `(num_images, num_query_tokens, hidden_size)`).
            num_iterations (`int`, defaults to 10): Number of Lloyd iterations.
            generator (`torch.Generator`, *optional*): Source of the first centres.

        Raises:
            ValueError: Fewer causal embeddings than codes.
        """
        num_codes = self.embedding.num_embeddings
        count = causal_embeds.shape[:-1].numel()
        if count < num_codes:
            raise ValueError(f"`causal_embeds` has {count} rows; allowed: at least codebook_size = {num_codes}.")
        if self.causal_mean is not None:
            self.causal_mean.copy_(causal_embeds.float().mean(0))
        vectors = self.project(causal_embeds)
        candidates = vectors.reshape(-1, self.num_parts, vectors.shape[-1])
        chosen = torch.randperm(len(candidates), generator=generator)[: num_codes // self.num_parts]
        self.embedding.weight.copy_(candidates[chosen.to(candidates.device)].transpose(0, 1).flatten(0, 1))
        for _ in range(num_iterations):
            codes = self.nearest(vectors).flatten()
            self.embedding.weight.copy_(move_to_means(self.embedding.weight, vectors.flatten(0, -2), codes))
        if self.ema_decay > 0:
            self.ema_count.fill_(1.0)
            self.ema_sum.copy_(self.embedding.weight)

    @torch.no_grad()
    def _move_codebook(self, vectors: torch.Tensor, codes: torch.LongTensor):
        """One moving-average step over the vectors of all processes, then restarts of codes long unused."""
        counts = torch.bincount(codes, minlength=self.embedding.num_embeddings).to(vectors.dtype)
        sums = torch.zeros_like(self.ema_sum, dtype=vectors.dtype).index_add_(0, codes, vectors)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.ema_count.mul_(self.ema_decay).add_(counts, alpha=1 - self.ema_decay)
        self.ema_sum.mul_(self.ema_decay).add_(sums, alpha=1 - self.ema_decay)
        self.steps_unused.add_(1).masked_fill_(counts > 0, 0)
        if self.dead_code_steps > 0:
            self._restart_dead_codes(vectors)
        self.embedding.weight.copy_(self.ema_sum / self.ema_count.clamp(min=1e-5).unsqueeze(1))

    def _restart_dead_codes(self, vectors: torch.Tensor):
        """Move codes unused for `dead_code_steps` updates to random encoder outputs, the same in every process."""
        dead = self.steps_unused >= self.dead_code_steps
        candidates = vectors.reshape(-1, self.num_parts, vectors.shape[-1])
        rows = torch.randint(len(candidates), (len(dead),), device=vectors.device)
        part = torch.arange(len(dead), device=vectors.device) // (len(dead) // self.num_parts)
        picks = candidates[rows, part]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(picks, src=0)
        self.ema_sum.copy_(torch.where(dead.unsqueeze(1), picks, self.ema_sum))
        self.ema_count.masked_fill_(dead, 1.0)
        self.steps_unused.masked_fill_(dead, 0)


def move_to_means(centres: torch.Tensor, vectors: torch.Tensor, nearest: torch.LongTensor) -> torch.Tensor:
    """One step of k-means: each centre at the mean of the vectors that are `nearest` to it, if there are any."""
    counts = torch.bincount(nearest, minlength=len(centres)).unsqueeze(1)
    sums = torch.zeros_like(centres).index_add_(0, nearest, vectors.to(centres))
    return torch.where(counts > 0, sums / counts.clamp(min=1), centres)


def check_finite(codes: torch.LongTensor, dtype: torch.dtype) -> torch.LongTensor:
    """`codes` `(batch_size, num_query_tokens)`; `ValueError` naming the images that have a `NO_CODE`."""
    if torch.compiler.is_compiling():
        return codes  # a compiled graph cannot branch on values
    is_missing = (codes == NO_CODE).any(-1)
    if is_missing.any():
        raise ValueError(
            f"NaN or infinity in {is_missing.sum()} of {len(codes)} images of `pixel_values` (first: "
            f"{is_missing.nonzero()[0].item()}), in the weights, or in what they compute; allowed: finite values, and "
            f"a dtype with room for them (this model has {dtype})."
        )
    return codes


__all__ = ["SeedQuantizer", "SeedQuantizerOutput"]
