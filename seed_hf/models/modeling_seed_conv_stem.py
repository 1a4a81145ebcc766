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
"""A pretrained CNN in place of the ViT's patch embedding, for small models that have no pretrained ViT."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionEmbeddings


# EfficientNet-Lite0 (Liu 2020; Tan and Le 2019, table 1, without squeeze-and-excitation):
# repeats, kernel size, stride of the first repeat, expansion, channels
LITE0_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FIRST_CHANNELS, LAST_CHANNELS, REDUCTION = 32, 1280, 32
# the last stage whose map of features has twice the side of the last one's
FINE_STAGE = 4
# width and depth of each size; the first and the last stage, and the layers around all, keep theirs
SIZES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}


def stages_of(size: str) -> list[tuple[int, int, int, int, int]]:
    """`LITE0_BLOCKS` for another size, channels rounded to multiples of eight."""
    width, depth = SIZES[size]
    ends = (0, len(LITE0_BLOCKS) - 1)
    return [
        (repeats if index in ends else math.ceil(repeats * depth), *middle, int(channels * width + 4) // 8 * 8)
        for index, (repeats, *middle, channels) in enumerate(LITE0_BLOCKS)
    ]


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding, where a stride of two pads one more at the right and bottom."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1, groups: int = 1):
        super().__init__(channels_in, channels_out, kernel_size, stride, groups=groups)
        total = kernel_size - stride
        self.pads = (total // 2, total - total // 2) * 2

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch_size, channels, height, width)` -> the same with `height / stride`, `width / stride`."""
        return super().forward(F.pad(hidden_states, self.pads))


class InvertedResidual(nn.Module):
    """Expand, depth-wise convolution, project; batch norms are folded into the convolutions."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, stride: int, expansion: int):
        super().__init__()
        width = channels_in * expansion
        self.expand = SameConv(channels_in, width, 1) if expansion > 1 else None
        self.depthwise = SameConv(width, width, kernel_size, stride, groups=width)
        self.project = SameConv(width, channels_out, 1)
        self.is_residual = stride == 1 and channels_in == channels_out

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch_size, channels_in, height, width)` -> `(batch_size, channels_out, ...)`."""
        inner = hidden_states if self.expand is None else F.relu6(self.expand(hidden_states))
        inner = self.project(F.relu6(self.depthwise(inner)))
        return hidden_states + inner if self.is_residual else inner


class SeedConvStem(nn.Module):
    r"""
    EfficientNet-Lite without its classifier, and a linear layer to the ViT's width: a drop-in for the ViT's patch
    embedding with patches of 32 pixels ("hybrid architecture" of Dosovitskiy et al., arXiv 2010.11929, section 3.1).

    Args:
        hidden_size (`int`): Width of the ViT.
        size (`str`, defaults to `"lite0"`): Which EfficientNet: `"lite0"`, `"lite1"` or `"lite2"`.
        takes_inner (`bool`, defaults to `False`): Whether its features are those of two inner layers, the finer of
            which stand beside each other, instead of the last layer, which knows ImageNet's classes above all.
    """

    def __init__(self, hidden_size: int, size: str = "lite0", takes_inner: bool = False):
        super().__init__()
        self.first = SameConv(3, FIRST_CHANNELS, 3, 2)
        blocks, channels, ends = [], FIRST_CHANNELS, []
        for repeats, kernel_size, stride, expansion, width in stages_of(size):
            for repeat in range(repeats):
                blocks.append(InvertedResidual(channels, width, kernel_size, 1 if repeat else stride, expansion))
                channels = width
            ends.append((len(blocks), channels))
        self.blocks = nn.ModuleList(blocks)
        # CODEPATH: the last layer, or two inner ones
        self.last = None if takes_inner else SameConv(channels, LAST_CHANNELS, 1)
        fine_end, fine_channels = ends[FINE_STAGE]
        # what stage 1 may train of it comes after this block
        self.frozen_end = fine_end if takes_inner else len(blocks)
        self.num_coarse = channels if takes_inner else LAST_CHANNELS
        self.num_features = channels + 4 * fine_channels if takes_inner else LAST_CHANNELS
        self.projection = nn.Conv2d(self.num_features, hidden_size, 1)

    @property
    def weight(self) -> torch.Tensor:
        """Tells `Blip2VisionEmbeddings` the dtype."""
        return self.first.weight

    def trained_parts(self) -> list[nn.Module]:
        """What stage 1 trains of it, where it trains the ViT: the layers after what [`get_frozen_features`] gives."""
        return [self.projection, *self.blocks[self.frozen_end :]]

    def get_frozen_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        r"""
        What no stage trains, so that training may cache it.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): Normalised RGB.

        Returns:
            `torch.FloatTensor`: the finer inner layer, `(batch_size, channels, height / 16, width / 16)`; without
            `takes_inner` the last layer, `(batch_size, num_features, height / 32, width / 32)`.
        """
        hidden_states = F.relu6(self.first(pixel_values.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks[: self.frozen_end]:
            hidden_states = block(hidden_states)
        return hidden_states if self.last is None else F.relu6(self.last(hidden_states))

    def continue_from(self, frozen_features: torch.Tensor) -> torch.Tensor:
        """What [`get_frozen_features`] gives -> `(batch_size, num_features, height / 32, width / 32)`."""
        # CODEPATH: the last layer, or two inner ones
        if self.last is not None:
            return frozen_features
        hidden_states = frozen_features.contiguous(memory_format=torch.channels_last)
        for block in self.blocks[self.frozen_end :]:
            hidden_states = block(hidden_states)
        return torch.cat([hidden_states, F.pixel_unshuffle(frozen_features, 2)], dim=1)

    def get_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(batch_size, 3, height, width)` -> `(batch_size, num_features, height / 32, width / 32)`."""
        return self.continue_from(self.get_frozen_features(pixel_values))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`): Normalised RGB.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, hidden_size, height / 32, width / 32)`.
        """
        return self.projection(self.get_features(pixel_values))


def embed_patches(embeddings: Blip2VisionEmbeddings, patches: torch.Tensor) -> torch.Tensor:
    r"""
    What `Blip2VisionEmbeddings` does after its patch embedding: the class embedding in front, positions added.

    Args:
        embeddings (`Blip2VisionEmbeddings`): Embeddings of the ViT.
        patches (`torch.FloatTensor` of shape `(batch_size, hidden_size, rows, columns)`): Output of the patch
            embedding.

    Returns:
        `torch.FloatTensor` of shape `(batch_size, rows * columns + 1, hidden_size)`.
    """
    dtype = embeddings.patch_embedding.weight.dtype
    class_embeds = embeddings.class_embedding.expand(len(patches), 1, -1).to(dtype)
    embeds = torch.cat([class_embeds, patches.flatten(2).transpose(1, 2)], dim=1)
    return embeds + embeddings.position_embedding[:, : embeds.size(1)].to(dtype)


__all__ = ["SeedConvStem", "embed_patches"]
