"""Original SEED image tokenizers <-> this package's layout: one key table, read in both directions."""

from collections.abc import Mapping

import torch

from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .key_tables import KeyReport, Layout, check_shapes, match_keys, translate


# (name in the original, name here); `#` is a number, `*` anything. Source: the original's constructors and manifests.
VISION_ROWS = [
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj.*", "vision_model.embeddings.patch_embedding.*"),
    ("visual_encoder.blocks.#.norm#.*", "vision_model.encoder.layers.#.layer_norm#.*"),
    ("visual_encoder.blocks.#.attn.proj.*", "vision_model.encoder.layers.#.self_attn.projection.*"),
    # EVA has no key bias: ours is one vector (q, 0, v), see `join_tensors`
    ("visual_encoder.blocks.#.attn.q_bias", "vision_model.encoder.layers.#.self_attn.qkv.bias"),
    ("visual_encoder.blocks.#.attn.v_bias", "vision_model.encoder.layers.#.self_attn.qkv.bias"),
    ("visual_encoder.blocks.#.attn.qkv.weight", "vision_model.encoder.layers.#.self_attn.qkv.weight"),
    ("visual_encoder.blocks.#.mlp.*", "vision_model.encoder.layers.#.mlp.*"),
    ("ln_vision.*", "vision_model.post_layernorm.*"),
]
CODEC_ROWS = [
    ("query_tokens", "causal_qformer.query_tokens"),
    ("quantize.embedding.weight", "quantizer.embedding.weight"),
    ("encode_task_layer.*", "quantizer.encode_layers.*"),
    ("decode_task_layer.*", "quantizer.decode_layers.*"),
    ("image_down.*", "generation_head.down.*"),
    ("vision_proj.*", "vision_projection.*"),
    ("text_proj.*", "text_projection.*"),
    ("temp", "temperature"),
]
DROPPED = [
    ("*.position_ids", "buffer 0..n-1, rebuilt at construction"),
    ("Qformer.cls.*", "masked-language-model head, used by no SEED stage"),
    ("visual_encoder.blocks.39.*", "the ViT's last block: SEED takes the features before it"),
    ("visual_encoder.norm.*", "the ViT's final norm, after the block that SEED leaves out"),
    ("visual_encoder.fc_norm.*", "the ViT's final norm, after the block that SEED leaves out"),
    ("visual_encoder.head.*", "the ViT's own head"),
]
# Names of the weights that only the text side of the Q-Former needs.
TEXT_SIDE = (
    "causal_qformer.text_embeddings.",
    "vision_projection.",
    "text_projection.",
    "temperature",
)


def _qformer_rows(source: str, target: str) -> list[tuple[str, str]]:
    rows = [
        ("embeddings.word_embeddings.weight", "text_embeddings.word_embeddings.weight"),
        ("embeddings.position_embeddings.weight", "text_embeddings.position_embeddings.weight"),
        ("embeddings.LayerNorm.*", "qformer.layernorm.*"),
        ("encoder.layer.#.attention.self.*", "qformer.encoder.layer.#.attention.attention.*"),
        ("encoder.layer.#.crossattention.self.*", "qformer.encoder.layer.#.crossattention.attention.*"),
        ("encoder.layer.*", "qformer.encoder.layer.*"),
    ]
    return [(f"{source}.bert.{left}", f"{target}.{right}") for left, right in rows]


def _decoder_rows(suffix: str, target: str) -> list[tuple[str, str]]:
    rows = [
        ("blocks{}.#.norm#.*", "encoder.layers.#.layer_norm#.*"),
        ("blocks{}.#.attn.proj.*", "encoder.layers.#.self_attn.projection.*"),
        ("blocks{}.#.attn.qkv.*", "encoder.layers.#.self_attn.qkv.*"),
        ("blocks{}.#.mlp.*", "encoder.layers.#.mlp.*"),
        ("pos_embed{}", "position_embedding"),
    ]
    return [(left.format(suffix), f"{target}.{right}") for left, right in rows]


def _head_rows(kind: str, reverse_suffix: str = "") -> list[tuple[str, str]]:
    """The last step, of `kind` `"text"` (SEED-1) or `"image"` (SEED-2); training code adds a suffix to some names."""
    return [
        *_decoder_rows(f"_{kind}", "generation_decoder"),
        (f"distill_{kind}_proj.*", "generation_head.projection.*"),
        (f"reverse_tokens{reverse_suffix}", "generation_head.reverse_qformer.query_tokens"),
        *_qformer_rows(f"Reverse_Qformer{reverse_suffix}", "generation_head.reverse_qformer"),
    ]


COMMON_ROWS = [
    *VISION_ROWS,
    *CODEC_ROWS,
    *_qformer_rows("Qformer", "causal_qformer"),
    *_decoder_rows("", "reconstruction_decoder"),
]
SEED_LAYOUT = Layout([*COMMON_ROWS, *_head_rows("text"), *_head_rows("image"), *_head_rows("text", "_text")], DROPPED)


def rename_key(key: str) -> str | None:
    """Our name of a parameter of the original; `None` if the table has no row for it."""
    return translate(key, SEED_LAYOUT.rows)


def original_keys(config: SeedImageTokenizerConfig, names: list[str]) -> dict[str, list[str]]:
    r"""
    Gives the names that the original's inference code has for our weights.

    Args:
        config ([`SeedImageTokenizerConfig`]): Configuration of the model.
        names (`list[str]`): Our names of the weights.

    Returns:
        `dict[str, list[str]]`: The original's names by our name; a ViT's `qkv.bias` has query and value bias.

    Raises:
        ValueError: A weight that the original has no name for.
    """
    head = _head_rows("text" if config.generation_head == "text" else "image")
    inverse = [(right, left) for left, right in [*COMMON_ROWS, *head]]
    result = {}
    for name in names:
        key = translate(name, inverse)
        if key is None:
            raise ValueError(f"`names` has {name!r}; allowed: weights that the original has, too.")
        result[name] = [key, key.replace("q_bias", "v_bias")] if key.endswith("q_bias") else [key]
    return result


def join_tensors(tensors: list[torch.Tensor]) -> torch.Tensor:
    """One weight of ours from one of the original, or a ViT's bias (query, 0, value) from its two."""
    if len(tensors) == 1:
        return tensors[0]
    query_bias, value_bias = tensors
    return torch.cat((query_bias, torch.zeros_like(query_bias), value_bias))


def split_tensor(tensor: torch.Tensor, num_parts: int) -> list[torch.Tensor]:
    """The inverse of [`join_tensors`]. A key bias, which a softmax over keys does not see, is left out."""
    if num_parts == 1:
        return [tensor]
    query_bias, _, value_bias = tensor.chunk(3)
    return [query_bias, value_bias]


def plan_seed(
    source: dict[str, torch.Tensor], config: SeedImageTokenizerConfig, layout: Layout = SEED_LAYOUT
) -> tuple[dict[str, torch.Tensor], KeyReport]:
    r"""
    Decides what becomes of every key, before any weight is read.

    Args:
        source (`dict[str, torch.Tensor]`): Tensors by name, possibly on the meta device. Names of the ViT begin with
            `visual_encoder.`.
        config ([`SeedImageTokenizerConfig`]): Configuration of the model to fill. Weights of parts that it leaves out
            are dropped, with that reason.
        layout ([`Layout`], *optional*): How the weights are named; as in the original by default.

    Returns:
        `tuple[dict, KeyReport]`: The model's state dict on the meta device, and what becomes of each key.
    """
    with torch.device("meta"):
        target = SeedImageTokenizer(config).state_dict()
    report = match_keys(source, target, layout)
    for key in list(report.unknown):
        if _is_left_out(translate(key, layout.rows), config):
            report.unknown.remove(key)
            report.dropped[key] = "belongs to a part that the configuration leaves out"
    biases = [name for name in report.used if name.endswith("self_attn.qkv.bias")]
    for name in biases:
        lone = report.used[name][0]
        if lone.endswith(("q_bias", "v_bias")) and len(report.used[name]) == 1:
            report.unknown.append(lone)
            report.missing.append(name)
            del report.used[name]
        else:
            report.used[name].sort()  # q before v, whatever the order of the file
    made = {name: join_tensors([source[key].to("meta") for key in keys]) for name, keys in report.used.items()}
    check_shapes(report, made, target)
    return target, report


def _is_left_out(name: str | None, config: SeedImageTokenizerConfig) -> bool:
    """Whether `name` belongs to a part that this configuration switches off."""
    if name is None:
        return False
    if not config.use_reconstruction_decoder and name.startswith("reconstruction_decoder."):
        return True
    text_feed_forward = name.startswith("causal_qformer.qformer.encoder.layer.") and (
        ".intermediate." in name or name.split(".")[5] == "output"
    )
    return not config.use_text_tower and (name.startswith(TEXT_SIDE) or text_feed_forward)


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], config: SeedImageTokenizerConfig
) -> tuple[dict[str, torch.Tensor], KeyReport]:
    r"""
    Renames and reshapes the original's weights.

    Args:
        state_dict (`dict[str, torch.Tensor]`): The original's state dict, several files merged. Names of the ViT begin
            with `visual_encoder.`.
        config ([`SeedImageTokenizerConfig`]): Configuration of the model to fill. Weights of parts that it leaves out
            are dropped, with that reason.

    Returns:
        `tuple[dict, KeyReport]`: Weights under our names, and what became of each key.

    Example:

    ```python
    >>> from seed_hf.convert.seed_keys import rename_key
    >>> rename_key("visual_encoder.blocks.3.norm1.weight")
    'vision_model.encoder.layers.3.layer_norm1.weight'

    ```
    """
    _, report = plan_seed(state_dict, config)
    made = {name: join_tensors([state_dict[key] for key in keys]) for name, keys in report.used.items()}
    return made, report


def revert_state_dict(
    state_dict: Mapping[str, torch.Tensor],
    config: SeedImageTokenizerConfig,
    used: dict[str, list[str]] | None = None,
) -> dict[str, torch.Tensor]:
    r"""
    Turns our weights back into the original's, under its names.

    Args:
        state_dict (`dict[str, torch.Tensor]`): State dict of a [`SeedImageTokenizer`].
        config ([`SeedImageTokenizerConfig`]): Its configuration.
        used (`dict[str, list[str]]`, *optional*): `KeyReport.used` of the conversion, which gives the very names of
            that file; by default the names of the original's inference code.

    Returns:
        `dict[str, torch.Tensor]`: The weights that were converted, bit for bit, without those in `DROPPED`.

    Raises:
        ValueError: A weight that the original has no name for.
    """
    used = used or original_keys(config, list(state_dict))
    result = {}
    for name, keys in used.items():
        result |= dict(zip(keys, split_tensor(state_dict[name], len(keys)), strict=True))
    return result


def load_original(
    state_dict: Mapping[str, torch.Tensor],
    config: SeedImageTokenizerConfig,
    allow_missing: tuple[str, ...] = (),
) -> SeedImageTokenizer:
    r"""
    Builds a [`SeedImageTokenizer`] from the original's weights in memory, strictly.

    Args:
        state_dict (`dict[str, torch.Tensor]`): The original's weights, as for [`convert_state_dict`].
        config ([`SeedImageTokenizerConfig`]): Sizes and options of the model.
        allow_missing (`tuple[str, ...]`, *optional*): Patterns of names (ours) that the checkpoint need not hold, such
            as `("quantizer.*",)` for a stage-1 checkpoint; these parts keep fresh weights.

    Returns:
        [`SeedImageTokenizer`]: The model, in float32 and in evaluation mode.

    Raises:
        ValueError: A key that is unknown, missing or of another shape.
    """
    converted, report = convert_state_dict(state_dict, config)
    report.allow(missing=allow_missing)
    report.check("state_dict")
    model = SeedImageTokenizer(config)
    model.load_state_dict({**model.state_dict(), **{name: tensor.float() for name, tensor in converted.items()}})
    return model.eval()


__all__ = ["KeyReport", "convert_state_dict", "load_original", "rename_key", "revert_state_dict"]
