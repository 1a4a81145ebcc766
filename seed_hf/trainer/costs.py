"""What a sample of each stage costs: floating-point operations and memory, of the real modules without their weights.

Models are built on the meta device and run on fake tensors: shapes and types are those of training under 16-bit
autocast, but nothing is computed and no memory is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, CLIPTextConfig, CLIPTextModel, OPTConfig

from ..models.configuration_seed import SeedConfig
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..models.modeling_seed import SeedForCausalLM
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .settings import LoraSettings
from .stages.causal_lm import add_lora, enable_gradient_checkpointing
from .stages.codebook import freeze_for_stage_2
from .stages.qformer import freeze_for_stage_1


# Sizes of the published configurations of openai/clip-vit-large-patch14 (text side) and facebook/opt-2.7b
CLIP_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
OPT = {"hidden_size": 2560, "word_embed_proj_dim": 2560, "ffn_dim": 10240, "num_hidden_layers": 32}
OPT |= {"num_attention_heads": 32, "vocab_size": 50272}
TEXT_LENGTH = 32
ROW_LENGTH = 256
# <s>, <img>, 32 codes, </img>, "A photo of", </s>, and a caption of CC3M: 10.3 words (Sharma et al. 2018), 1.3 tokens
# each
TOKENS_PER_SAMPLE = 52


@dataclass
class Cost:
    """What one sample takes, and the models of a stage.

    Attributes:
        operations (`float`): Floating-point operations, forward and backward; a multiply-add counts two.
        look_ahead (`float`): Operations of the second forward pass where accumulation enlarges the set of negatives.
        look_ahead_bytes (`int`): Memory kept between the two passes: what the frozen ViT gives.
        trained (`int`): Number of parameters with a gradient.
        frozen_bytes (`int`): Memory of the weights without a gradient.
        activation_bytes (`float`): Memory kept for the backward pass.
    """

    operations: float
    look_ahead: float = 0.0
    look_ahead_bytes: int = 0
    trained: int = 0
    frozen_bytes: int = 0
    activation_bytes: float = 0.0


def count_operations(function: Callable[[], object]) -> int:
    """Counts the floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def kept_bytes(function: Callable[[], object]) -> int:
    """Counts the bytes that a call keeps for its backward pass."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        function()
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(storages.values())


def measure(model: nn.Module, compute_loss: Callable[[int], torch.Tensor]) -> Cost:
    """Measures the cost of one sample; `compute_loss` takes a number of samples."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", torch.bfloat16):
        model.to_empty(device="cpu").train()
        operations = count_operations(lambda: compute_loss(2).backward()) / 2
        # what does not grow with the batch (weights and their 16-bit copies) cancels out
        kept = (kept_bytes(lambda: compute_loss(4)) - kept_bytes(lambda: compute_loss(2))) / 2
    trained, frozen = [], []
    for parameter in model.parameters():
        (trained if parameter.requires_grad else frozen).append(parameter)
    return Cost(
        operations=operations,
        trained=sum(parameter.numel() for parameter in trained),
        frozen_bytes=sum(parameter.nbytes for parameter in frozen),
        activation_bytes=kept,
    )


@torch.no_grad()
def forward_operations(function: Callable, *shape: int, dtype: torch.dtype = torch.float32) -> int:
    """Counts the operations of a forward pass over one sample of this shape, by a model on the meta device."""
    return count_operations(lambda: function(torch.empty(1, *shape, dtype=dtype, device="meta")))


def build_image_tokenizer() -> SeedImageTokenizer:
    """Builds SEED-1 with everything that training needs."""
    config = SeedImageTokenizerConfig(use_text_tower=True, use_reconstruction_decoder=True)
    with torch.device("meta"):
        # the eager attention is made of matrix products, which are counted on every device
        return SeedImageTokenizer._from_config(config, attn_implementation="eager")


def cost_of_stage_1() -> Cost:
    """Stage 1: where micro-batches are accumulated, the trained part runs forward a second time."""
    model = build_image_tokenizer().requires_grad_(False)
    size = model.config.vision_config.image_size
    frozen_forward = forward_operations(model.vision_model, 3, size, size)
    freeze_for_stage_1(model)

    def compute_loss(count):
        return model(torch.empty(count, 3, size, size), input_ids=torch.empty(count, TEXT_LENGTH).long()).loss

    cost = measure(model, compute_loss)
    cost.look_ahead = (cost.operations - frozen_forward) / 3
    vision = model.config.vision_config
    cost.look_ahead_bytes = 4 * vision.hidden_size * (1 + (vision.image_size // vision.patch_size) ** 2)
    return cost


def cost_of_stage_2() -> Cost:
    """Stage 2: codebook and both reconstructions, with the text encoder that makes the targets."""
    model = build_image_tokenizer()
    freeze_for_stage_2(model)
    config = model.config
    size = config.vision_config.image_size

    def compute_loss(count):
        targets = torch.empty(count, config.num_generation_tokens, config.generation_dim)
        return model(torch.empty(count, 3, size, size), generation_targets=targets).loss

    cost = measure(model, compute_loss)
    with torch.device("meta"):
        clip = CLIPTextModel._from_config(CLIPTextConfig(**CLIP_TEXT), attn_implementation="eager")
    clip.requires_grad_(False)
    cost.operations += forward_operations(clip, config.num_generation_tokens, dtype=torch.long)
    cost.frozen_bytes += sum(parameter.nbytes for parameter in clip.parameters())
    return cost


def cost_of_encoding() -> Cost:
    """Image to codes."""
    model = build_image_tokenizer().requires_grad_(False)
    size = model.config.vision_config.image_size
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        # `encode` would ask for the values of tensors: whether they are finite
        return Cost(count_operations(lambda: model.try_encode(torch.empty(1, 3, size, size))))


def cost_of_stage_3(gradient_checkpointing: bool = False) -> Cost:
    """Stage 3: OPT-2.7B with LoRA in every linear layer, on packed rows; half of the tokens are targets."""
    with torch.device("meta"):
        language_model = AutoModelForCausalLM.from_config(
            OPTConfig(**OPT), dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        config = SeedConfig(text_config=language_model.config, codebook_size=8192, num_query_tokens=32, code_dim=32)
        model = SeedForCausalLM(config)
    model.language_model = language_model
    model = add_lora(model, LoraSettings(), "facebook/opt-2.7b")
    if gradient_checkpointing:
        enable_gradient_checkpointing(model)

    def compute_loss(rows):
        input_ids = torch.zeros(rows, ROW_LENGTH, dtype=torch.long)
        mask = torch.ones(rows, 1, ROW_LENGTH, ROW_LENGTH, dtype=torch.bool)
        output = model(input_ids=input_ids, attention_mask=mask, position_ids=input_ids, use_cache=False)
        # `labels` would ask for the values of tensors: which positions are targets
        return output.logits[:, : ROW_LENGTH // 2].float().mean()

    row = measure(model, compute_loss)
    share = TOKENS_PER_SAMPLE / ROW_LENGTH
    row.operations, row.activation_bytes = row.operations * share, row.activation_bytes * share
    return row


def count_all() -> dict[str, Cost]:
    """Costs of all stages, as `plan.py` names them."""
    functions = (cost_of_stage_1, cost_of_stage_2, cost_of_encoding, cost_of_stage_3)
    return {
        name: function() for name, function in zip(("stage1", "stage2", "encode", "stage3"), functions, strict=True)
    }
