"""Original SEED checkpoints -> this package's layout: one key table, every key accounted for."""

import re
from dataclasses import dataclass, field

import torch

from .configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .modeling_seed_image_tokenizer import SeedImageTokenizer


# (pattern in the original, name here). The first match wins. Source: original.md "Key mapping".
VISION_RULES = [
    (r"visual_encoder\.cls_token", r"vision_model.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed", r"vision_model.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.(.*)", r"vision_model.embeddings.patch_embedding.\1"),
    (r"visual_encoder\.blocks\.(\d+)\.norm(\d)\.(.*)", r"vision_model.encoder.layers.\1.layer_norm\2.\3"),
    (r"visual_encoder\.blocks\.(\d+)\.attn\.proj\.(.*)", r"vision_model.encoder.layers.\1.self_attn.projection.\2"),
    (r"visual_encoder\.blocks\.(\d+)\.attn\.qkv\.(.*)", r"vision_model.encoder.layers.\1.self_attn.qkv.\2"),
    (r"visual_encoder\.blocks\.(\d+)\.mlp\.(.*)", r"vision_model.encoder.layers.\1.mlp.\2"),
    (r"ln_vision\.(.*)", r"vision_model.post_layernorm.\1"),
]
QFORMER_RULES = [
    (r"Qformer\.bert\.embeddings\.(word|position)_embeddings\.weight", r"@text_embeddings.\1_embeddings.weight"),
    (r"Qformer\.bert\.embeddings\.LayerNorm\.(.*)", r"@qformer.layernorm.\1"),
    (r"Qformer\.bert\.encoder\.layer\.(\d+)\.(attention|crossattention)\.self\.(.*)",
     r"@qformer.encoder.layer.\1.\2.attention.\3"),
    (r"Qformer\.bert\.encoder\.layer\.(.*)", r"@qformer.encoder.layer.\1"),
]  # fmt: skip
CODEC_RULES = [
    (r"query_tokens", r"causal_qformer.query_tokens"),
    (r"quantize\.embedding\.weight", r"quantizer.embedding.weight"),
    (r"encode_task_layer\.(.*)", r"quantizer.encode_layers.\1"),
    (r"decode_task_layer\.(.*)", r"quantizer.decode_layers.\1"),
    (r"reverse_tokens(?:_text)?", r"generation_head.reverse_qformer.query_tokens"),
    (r"image_down\.(.*)", r"generation_head.down.\1"),
    (r"distill_(?:text|image)_proj\.(.*)", r"generation_head.projection.\1"),
    (r"vision_proj\.(.*)", r"vision_projection.\1"),
    (r"text_proj\.(.*)", r"text_projection.\1"),
    (r"temp", r"temperature"),
]
DECODER_RULES = [
    (r"pos_embed(|_text|_image)", r"@\1.position_embedding"),
    (r"blocks(|_text|_image)\.(\d+)\.norm(\d)\.(.*)", r"@\1.encoder.layers.\2.layer_norm\3.\4"),
    (r"blocks(|_text|_image)\.(\d+)\.attn\.qkv\.(.*)", r"@\1.encoder.layers.\2.self_attn.qkv.\3"),
    (r"blocks(|_text|_image)\.(\d+)\.attn\.proj\.(.*)", r"@\1.encoder.layers.\2.self_attn.projection.\3"),
    (r"blocks(|_text|_image)\.(\d+)\.mlp\.(.*)", r"@\1.encoder.layers.\2.mlp.\3"),
]
DROPPED = [
    (r".*\.position_ids", "buffer 0..n-1, rebuilt at construction"),
    (r"Qformer\.cls\..*", "masked-language-model head, used by no SEED stage"),
]
BIAS = re.compile(r"visual_encoder\.blocks\.(\d+)\.attn\.[qv]_bias")


@dataclass
class KeyReport:
    """What became of every key: `used` (original -> ours), `dropped` (original -> reason), `unknown`, `missing`."""

    used: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def _rules() -> list[tuple[re.Pattern, str]]:
    rules = VISION_RULES + CODEC_RULES
    for prefix, target in (
        (r"Reverse_Qformer(?:_text)?\.", "generation_head.reverse_qformer."),
        (r"Qformer\.", "causal_qformer."),
    ):
        rules += [(prefix + src.removeprefix(r"Qformer\."), dst.replace("@", target)) for src, dst in QFORMER_RULES]
    stacks = {"": "reconstruction_decoder", "_text": "generation_decoder", "_image": "generation_decoder"}
    for suffix, target in stacks.items():
        for src, dst in DECODER_RULES:
            # "\1" is the suffix in the table; fixing it leaves the other groups one lower
            dst = re.sub(r"\\(\d)", lambda match: rf"\{int(match[1]) - 1}", dst.replace(r"@\1", target))
            rules.append((src.replace("(|_text|_image)", suffix), dst))
    return [(re.compile(src), dst) for src, dst in rules]


RULES = _rules()


def rename_key(key: str) -> str | None:
    """Name here of a parameter of the original; `None` if the table has no row for it."""
    for pattern, target in RULES:
        if match := pattern.fullmatch(key):
            return match.expand(target)
    return None


def convert_state_dict(
    state_dict: dict[str, torch.Tensor], config: SeedImageTokenizerConfig
) -> tuple[dict[str, torch.Tensor], KeyReport]:
    r"""
    Rename and reshape the original's weights.

    Args:
        state_dict (`dict[str, torch.Tensor]`): The original's state dict; several files merged, ViT names with the
            prefix `visual_encoder.`.
        config ([`SeedImageTokenizerConfig`]): Of the model to fill. Weights of parts that it leaves out are dropped,
            with that reason.

    Returns:
        `tuple[dict, KeyReport]`: Weights under our names, and what became of each key.

    Example:

    ```python
    >>> from seed_hf.convert_seed_checkpoint import rename_key
    >>> rename_key("visual_encoder.blocks.3.norm1.weight")
    'vision_model.encoder.layers.3.layer_norm1.weight'

    ```
    """
    with torch.device("meta"):
        wanted = SeedImageTokenizer(config).state_dict()
    report, converted = KeyReport(), {}
    for key, tensor in state_dict.items():
        if BIAS.fullmatch(key):
            continue
        reason = next((why for pattern, why in DROPPED if re.fullmatch(pattern, key)), None)
        name = rename_key(key)
        if reason is None and name is not None and name not in wanted and _is_optional(name, config):
            reason = "belongs to a part that the configuration leaves out"
        if reason is not None:
            report.dropped[key] = reason
        elif name not in wanted:
            report.unknown.append(key)
        else:
            converted[name] = tensor
            report.used[key] = name
    _join_vision_biases(state_dict, converted, report, wanted)
    report.missing = sorted(set(wanted) - set(converted))
    return converted, report


def _is_optional(name: str, config: SeedImageTokenizerConfig) -> bool:
    """Whether `name` belongs to a part that this configuration switches off."""
    text_side = re.compile(
        r"causal_qformer\.(text_embeddings\..*|qformer\.encoder\.layer\.\d+\.(intermediate|output)\..*)"
        r"|(vision|text)_projection\..*|temperature"
    )
    if not config.use_text_tower and text_side.fullmatch(name):
        return True
    return not config.use_reconstruction_decoder and name.startswith("reconstruction_decoder.")


def _join_vision_biases(state_dict, converted, report, wanted):
    """The EVA ViT has q and v biases and none for k; ours is one vector (q, 0, v)."""
    for key in sorted(key for key in state_dict if key.endswith(".attn.q_bias")):
        name = rename_key(key.replace("q_bias", "qkv.bias"))
        value_key = key.replace("q_bias", "v_bias")
        if name not in wanted or value_key not in state_dict:
            report.unknown.append(key)
            continue
        query_bias, value_bias = state_dict[key], state_dict[value_key]
        converted[name] = torch.cat((query_bias, torch.zeros_like(value_bias), value_bias))
        report.used |= {key: name, value_key: name}
    accounted = {*report.used, *report.unknown}
    report.unknown += [key for key in state_dict if BIAS.fullmatch(key) and key not in accounted]


def load_original(
    state_dict: dict[str, torch.Tensor],
    config: SeedImageTokenizerConfig,
    allow_missing: tuple[str, ...] = (),
) -> SeedImageTokenizer:
    r"""
    Build a [`SeedImageTokenizer`] from the original's weights, strictly.

    Args:
        state_dict (`dict[str, torch.Tensor]`): See [`convert_state_dict`].
        config ([`SeedImageTokenizerConfig`]): Sizes and options of the model.
        allow_missing (`tuple[str, ...]`, *optional*): Name prefixes (ours) that the checkpoint need not hold, such
            as `("quantizer.",)` for a stage-1 checkpoint; these parts keep fresh weights.

    Returns:
        [`SeedImageTokenizer`] in float32, in evaluation mode.

    Raises:
        ValueError: A key that is unknown, missing or of another shape.
    """
    converted, report = convert_state_dict(state_dict, config)
    missing = [name for name in report.missing if not name.startswith(tuple(allow_missing))]
    if report.unknown or missing:
        raise ValueError(
            f"`state_dict` does not fit the configuration. Unknown keys: {report.unknown or 'none'}; "
            f"missing (our names): {missing or 'none'}; allowed missing prefixes: {tuple(allow_missing)}."
        )
    model = SeedImageTokenizer(config)
    shapes = model.state_dict()
    differing = [name for name, tensor in converted.items() if tensor.shape != shapes[name].shape]
    wrong = [f"{name}: {tuple(converted[name].shape)} != {tuple(shapes[name].shape)}" for name in differing]
    if wrong:
        raise ValueError(f"`state_dict` has tensors of other shapes than the configuration (got != wanted): {wrong}.")
    model.load_state_dict({**shapes, **{name: tensor.float() for name, tensor in converted.items()}})
    return model.eval()


__all__ = ["KeyReport", "convert_state_dict", "load_original", "rename_key"]
