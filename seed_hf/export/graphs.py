"""The two halves of an image tokenizer as graphs of torch: pixels -> codes, codes -> generation embeddings."""

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer


INPUTS = {"encode": "pixel_values", "decode": "codes"}
OUTPUTS = {"encode": "codes", "decode": "generation_embeds"}
# what a half does not use would make its file larger
UNUSED = {
    "encode": (
        "generation_decoder",
        "generation_head",
        "generation_prototypes",
        "reconstruction_decoder",
        "text_projection",
    ),
    "decode": ("vision_model", "causal_qformer", "reconstruction_decoder", "text_projection", "vision_projection"),
}
# below this number of weights there is nothing to gain
SMALLEST = 1024


class _Half(nn.Module):
    """A model whose `forward` is one of its methods, without the modules that this method does not use."""

    def __init__(self, model: SeedImageTokenizer, name: str):
        super().__init__()
        self.model = copy.copy(model)
        self.model._modules = {key: part for key, part in model._modules.items() if key not in UNUSED[name]}
        # an image without codes gets -1 and costs the other images of its batch nothing
        self.method = self.model.try_encode if name == "encode" else self.model.decode

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.method(inputs)


class _Int8(nn.Module):
    """Weights as whole numbers from -127 to 127 and one scale for each output channel."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        scale = weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale.clamp(min=torch.finfo(weight.dtype).tiny))

    def forward(self, whole: torch.Tensor) -> torch.Tensor:
        return whole.to(self.scale.dtype) * self.scale

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.round(weight / self.scale).to(torch.int8)


def quantize_weights(model: SeedImageTokenizer) -> SeedImageTokenizer:
    """
    Stores the weights of linear layers in 8 bits; everything is still computed in float32.

    Args:
        model ([`SeedImageTokenizer`]): In float32; it is not changed.

    Returns:
        [`SeedImageTokenizer`]: A copy. Convolutions, which bear it less well, the codebook, norms and embeddings stay.
    """
    model = copy.deepcopy(model).requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, nn.Linear) and module.weight.numel() >= SMALLEST:
            int8 = _Int8(module.weight)
            whole = int8.round(module.weight)
            del module.weight
            module.register_buffer("weight", whole)
            # unsafe: the dtype changes, which is the purpose
            parametrize.register_parametrization(module, "weight", int8, unsafe=True)
    return model


@torch.no_grad()
def trace(model: SeedImageTokenizer, name: str) -> torch.export.ExportedProgram:
    """
    Turns one half of a model into a graph for batches of any size.

    Args:
        model ([`SeedImageTokenizer`]): In evaluation mode.
        name (`str`): `"encode"` or `"decode"`.

    Returns:
        `torch.export.ExportedProgram`: `(batch_size, 3, image_size, image_size)` -> `(batch_size, num_query_tokens)`,
        or these codes -> generation embeddings.
    """
    size = model.config.vision_config.image_size
    codes = torch.zeros(2, model.config.num_query_tokens, dtype=torch.long)
    example = torch.zeros(2, 3, size, size) if name == "encode" else codes
    half = _Half(model, name)
    return torch.export.export(half, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)


__all__ = ["INPUTS", "OUTPUTS", "quantize_weights", "trace"]
