"""A ViT packed for encoding on a CPU: weights laid out for its matrix products, in float32 or in 8 bits."""

from typing import Literal

import torch
from torch import nn

from .models.modeling_seed_image_tokenizer import SeedImageTokenizer


class _PackedLinear(nn.Module):
    """A linear layer that computes only; its weights can be neither trained nor saved."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.bias = linear.bias
        self.pack(linear.weight.detach())

    def _save_to_state_dict(self, *args, **kwargs):
        raise ValueError("`model` has a packed ViT, which cannot be saved; allowed: save it before it is packed.")


class _Float32Linear(_PackedLinear):
    """In blocks, as oneDNN wants them: otherwise each call would bring them into that order."""

    def pack(self, weight: torch.Tensor) -> None:
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.bias, "none", [], "")


class _Int8Linear(_PackedLinear):
    """A scale for each row of the weights, and one for all inputs of a call, which are rounded in it."""

    # 7 of the 8 bits: CPUs without 8-bit dot products add pairs of products in 16 bits, which would overflow
    largest_input = 127

    def pack(self, weight: torch.Tensor) -> None:
        self.scales = weight.abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / 127
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        rounded = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        low, high = inputs.amin().clamp(max=0), inputs.amax().clamp(min=0)
        scale = ((high - low) / self.largest_input).clamp(min=torch.finfo(inputs.dtype).tiny)
        zero = (-low / scale).round()
        rounded = (inputs / scale + zero).round_().clamp_(0, self.largest_input).to(torch.uint8)
        weights = (self.packed, self.scales, self.zeros, self.bias)
        return torch.ops.onednn.qlinear_pointwise(
            rounded, scale, zero.int(), *weights, 1.0, 0, inputs.dtype, "none", [], ""
        )


_LAYERS = {"float32": _Float32Linear, "int8": _Int8Linear}


def pack_vision_model(
    model: SeedImageTokenizer, weights: Literal["float32", "int8"] = "float32"
) -> SeedImageTokenizer:
    """
    Packs the linear layers of the ViT, where nearly all the time of encoding goes, for encoding on a CPU.

    With `"float32"` the codes stay as they are up to rounding; it pays for one image at a time, not for batches, where
    it can be slower. With `"int8"` weights take a quarter of the memory and some codes change: decide on images of
    your own, since a language model was trained on the codes of float32.

    Args:
        model ([`SeedImageTokenizer`]): In float32 on a CPU. It is changed in place, put into evaluation mode, and can
            be neither trained nor saved afterwards.
        weights (`str`, defaults to `"float32"`): `"float32"` or `"int8"`.

    Returns:
        [`SeedImageTokenizer`]: the same model.

    Raises:
        ValueError: Other `weights`; a model that is not in float32 on a CPU, or is packed already; a build of torch
            without oneDNN.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf import SeedImageTokenizer
    >>> from seed_hf.mini import mini_pipeline_path
    >>> from seed_hf.packed import pack_vision_model
    >>> settings = {"subfolder": "image_tokenizer", "dtype": torch.float32}
    >>> model = SeedImageTokenizer.from_pretrained(mini_pipeline_path(), **settings)
    >>> size = model.config.vision_config.image_size
    >>> pack_vision_model(model).encode(torch.zeros(1, 3, size, size)).shape
    torch.Size([1, 32])

    ```
    """
    if weights not in _LAYERS:
        raise ValueError(f"`weights` is {weights!r}; allowed: {list(_LAYERS)}.")
    if not torch.backends.mkldnn.is_available():
        raise ValueError("`model` cannot be packed by this build of torch; allowed: one with oneDNN (mkldnn).")
    encoder = model.vision_model.encoder
    linears = [
        (parent, name, child)
        for parent in encoder.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    if (
        not linears
        or any(linear.weight.device.type != "cpu" for *_, linear in linears)
        or model.dtype != torch.float32
    ):
        raise ValueError(
            f"`model` is in {model.dtype} on {model.device} with {len(linears)} linear layers in its ViT; allowed: "
            "torch.float32 on a CPU, not packed yet."
        )
    model.eval().requires_grad_(False)
    for parent, name, linear in linears:
        setattr(parent, name, _LAYERS[weights](linear))
    return model


__all__ = ["pack_vision_model"]
