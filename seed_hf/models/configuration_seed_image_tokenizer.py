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
"""Configuration of the SEED image tokenizer (image -> codes -> generation embeddings)."""

import copy
import math

from huggingface_hub.dataclasses import strict
from transformers import Blip2QFormerConfig, Blip2VisionConfig, PreTrainedConfig

from .hub_mixin_seed import HubUploadMixin


GENERATION_HEADS = ("text", "mlp", "qformer")
NON_NEGATIVE_FIELDS = (
    "ln_vision_eps",
    "num_prototypes",
    "prototype_sharpness",
    "quantizer_loss_weight",
    "reconstruction_loss_weight",
    "generation_loss_weight",
    "code_contrastive_loss_weight",
    "generation_contrastive_loss_weight",
    "label_smoothing",
    "dead_code_steps",
    "initializer_range",
)
# The largest size that a configuration or a part of one may state, by its name in the architectures. A file that asks
# for more would fill the memory, or build layers for hours. Raise a limit here, before loading, if you need more.
SIZE_LIMITS = {
    **dict.fromkeys(("num_query_tokens", "num_generation_tokens"), 2**12),
    **dict.fromkeys(("codebook_size", "num_prototypes"), 2**20),
    **dict.fromkeys(("code_dim", "projection_dim", "generation_dim", "mlp_head_sizes"), 2**16),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "encoder_hidden_size"), 2**17),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff"), 2**20),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 2**12),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads"), 2**12),
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "n_positions"), 2**24),
    **dict.fromkeys(("image_size", "patch_size"), 2**14),
}


class SeedCodeDecoderConfig(Blip2VisionConfig):
    """Configuration of the decoder blocks; its own class, so that a saved configuration has it under its own name."""

    base_config_key = "decoder_config"


class SeedReverseQFormerConfig(Blip2QFormerConfig):
    """Configuration of the Reverse Q-Former; its own class for the same reason."""

    base_config_key = "reverse_qformer_config"


@strict
class SeedImageTokenizerConfig(HubUploadMixin, PreTrainedConfig):
    r"""
    Sizes and options of [`SeedImageTokenizer`]. The defaults are the published SEED-1 inference model.

    Args:
        vision_config (`Blip2VisionConfig` or `dict`, *optional*):
            The frozen ViT (EVA-CLIP g/14: 39 blocks, width 1408).
        qformer_config (`Blip2QFormerConfig` or `dict`, *optional*):
            The Causal Q-Former (BERT-base size). `encoder_hidden_size` and `use_qformer_text_input` are set from the
            other fields.
        decoder_config (`SeedCodeDecoderConfig` or `dict`, *optional*):
            The decoder blocks between the codebook and the generation head: pre-norm transformer blocks, 12 heads,
            4 layers. `hidden_size` follows the Q-Former.
        reverse_qformer_config (`SeedReverseQFormerConfig` or `dict`, *optional*):
            The Reverse Q-Former of the generation heads `"text"` and `"qformer"` (4 layers). Unused by `"mlp"`.
        num_query_tokens (`int`, defaults to 32): Number of queries of the Causal Q-Former, and of codes of an image.
        codebook_size (`int`, defaults to 8192): Number of codes.
        code_dim (`int`, defaults to 32): Width of a codebook vector.
        projection_dim (`int`, defaults to 256): Width of the image and text features used for retrieval.
        ln_vision_eps (`float`, defaults to 1e-5): Epsilon of the LayerNorm on the ViT output. The rest of the ViT
            uses `vision_config.layer_norm_eps`.
        use_conv_stem (`bool`, defaults to `False`): Embed the ViT's patches of 32 pixels by a CNN ([`SeedConvStem`])
            instead of one convolution, for small models without a pretrained ViT. Ours, not in the paper.
        conv_stem_inner (`bool`, defaults to `False`): Whether the ViT gets the features of two inner layers of the CNN
            instead of its last, which knows ImageNet's classes above all.
        use_text_tower (`bool`, defaults to `False`): Keep the text side of the Q-Former and both projections
            (stage 1 and retrieval need them; the published inference model has none).
        use_reconstruction_decoder (`bool`, defaults to `False`): Keep the blocks that rebuild the causal embeddings
            from codes (stage 2 and retrieval with codes need them).
        generation_head (`str`, defaults to `"text"`): `"text"` gives `num_generation_tokens` vectors (SEED-1, the
            hidden states of Stable Diffusion's text encoder); `"mlp"` and `"qformer"` give one image embedding
            (SEED-2).
        num_generation_tokens (`int`, defaults to 77): Number of vectors of the `"text"` head; the others give one.
        generation_dim (`int`, defaults to 768): Width of a generation embedding (1024 for SEED-2).
        mlp_head_sizes (`list[int]`, defaults to `[256, 128, 32]`): Widths of the `"mlp"` head, per token.
        num_prototypes (`int`, defaults to 0): Ours, not in the paper: number of known generation embeddings towards
            which [`~SeedImageTokenizer.decode`] turns what the head gives; 0 leaves it as it is. See
            [`~SeedImageTokenizer.use_prototypes`].
        prototype_sharpness (`float`, defaults to 50.0): Factor on cosine similarities before the softmax that says how
            much each of them counts; the larger, the more the nearest one alone.
        quantizer_loss_weight, reconstruction_loss_weight, generation_loss_weight (`float`): Weights of the stage-2
            losses, by default 5, 2 and 0.5.
        code_contrastive_loss_weight (`float`, defaults to 0.0): Ours, not in the paper: adds the contrastive loss
            on the features rebuilt from the codes, for small data where quantisation costs much retrieval.
        generation_contrastive_loss_weight (`float`, defaults to 0.0): Ours, not in the paper: adds a contrastive loss
            between generation embeddings and their targets, with the temperature of stage 1. Where a code may stand
            for several things, the squared error alone pulls to their mean, and this to the most likely one.
        prefix_probability (`float`, defaults to 0.0): Ours, not in the paper: probability of each image to be decoded
            in stage 2 from its first codes only, of which there is a random number, so that these alone say as much
            as they can (nested dropout).
        label_smoothing (`float`, defaults to 0.1): Label smoothing of the contrastive loss.
        contrastive_gather (`str`, defaults to `"full"`): `"full"` lets gradients flow through features gathered
            from other processes; `"detached"` is the original's gradient-free gather.
        normalize_codes (`bool`, defaults to `False`): Compare L2-normalised vectors (a remedy against codebook
            collapse on small data; the published weights need `False`).
        codebook_ema_decay (`float`, defaults to 0.0): Above 0, codebook vectors are not trained by gradient, but are
            moving averages of the vectors that they stand for.
        center_causal_embeds (`bool`, defaults to `False`): Subtract the mean of a query over images from its causal
            embeddings before the quantizer; [`~SeedImageTokenizer.reconstruct`] adds it back. Otherwise a small
            quantizer may spend its codes on what all images share. Ours, not in the paper. The means are measured by
            [`~SeedQuantizer.init_codebook`].
        separate_queries (`bool`, defaults to `False`): Give each query a scale and a shift before the layers of the
            quantizer that all queries share. A small Q-Former, trained through its last query only, gives nearly the
            same at every query; with this, the codes of an image differ, and each adds something. Ours.
        codebook_per_query (`bool`, defaults to `False`): Cut the codebook into equal parts, one for each query.
            Otherwise, with `separate_queries`, the meaning of a code depends on its place, which a small language
            model hardly learns from few images. Ours.
        causal_queries (`bool`, defaults to `True`): Query i sees queries <= i. `False` is the bidirectional baseline
            of the paper's first table, BLIP-2's Q-Former, whose codes have no order.
        dead_code_steps (`int`, defaults to 0): Number of updates after which an unused code restarts at a random
            encoder output; 0 means never. Needs `codebook_ema_decay` > 0.
        initializer_range (`float`, defaults to 0.02): Standard deviation of new weights.

    Raises:
        ValueError: A field is out of range (for sizes, `SIZE_LIMITS` of this module) or contradicts another one.

    Source: paper section 2 and 3; `models/seed_qformer/` of the original (branches v1 and main).

    Example:

    ```python
    >>> from seed_hf import SeedImageTokenizerConfig
    >>> config = SeedImageTokenizerConfig()
    >>> (config.num_query_tokens, config.codebook_size, config.num_generation_tokens)
    (32, 8192, 77)

    ```
    """

    model_type = "seed_image_tokenizer"
    sub_configs = {
        "vision_config": Blip2VisionConfig,
        "qformer_config": Blip2QFormerConfig,
        "decoder_config": SeedCodeDecoderConfig,
        "reverse_qformer_config": SeedReverseQFormerConfig,
    }

    vision_config: dict | PreTrainedConfig | None = None
    qformer_config: dict | PreTrainedConfig | None = None
    decoder_config: dict | PreTrainedConfig | None = None
    reverse_qformer_config: dict | PreTrainedConfig | None = None
    num_query_tokens: int = 32
    codebook_size: int = 8192
    code_dim: int = 32
    projection_dim: int = 256
    ln_vision_eps: float = 1e-5
    use_conv_stem: bool = False
    conv_stem_inner: bool = False
    use_text_tower: bool = False
    use_reconstruction_decoder: bool = False
    generation_head: str = "text"
    num_generation_tokens: int = 77
    generation_dim: int = 768
    mlp_head_sizes: list[int] | tuple[int, ...] = (256, 128, 32)
    num_prototypes: int = 0
    prototype_sharpness: float = 50.0
    quantizer_loss_weight: float = 5.0
    reconstruction_loss_weight: float = 2.0
    generation_loss_weight: float = 0.5
    code_contrastive_loss_weight: float = 0.0
    generation_contrastive_loss_weight: float = 0.0
    prefix_probability: float = 0.0
    label_smoothing: float = 0.1
    contrastive_gather: str = "full"
    normalize_codes: bool = False
    center_causal_embeds: bool = False
    separate_queries: bool = False
    codebook_per_query: bool = False
    causal_queries: bool = True
    codebook_ema_decay: float = 0.0
    dead_code_steps: int = 0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        check_sizes(vars(self))
        self._build_sub_configs()
        super().__post_init__(**kwargs)
        self._check_fields()

    def _build_sub_configs(self):
        """Sub-configs from dicts; widths that must agree are set in one place, here."""
        self.vision_config = _as_config(self.vision_config, Blip2VisionConfig)
        self.qformer_config = _as_config(self.qformer_config, Blip2QFormerConfig)
        hidden_size = self.qformer_config.hidden_size
        self.qformer_config.encoder_hidden_size = self.vision_config.hidden_size
        self.qformer_config.use_qformer_text_input = self.use_text_tower
        decoder_defaults = {"hidden_size": hidden_size, "intermediate_size": 4 * hidden_size, "num_hidden_layers": 4}
        decoder_defaults |= {"num_attention_heads": 12, "initializer_range": self.initializer_range}
        self.decoder_config = _as_config(self.decoder_config, SeedCodeDecoderConfig, decoder_defaults)
        if self.generation_head == "mlp":
            self.reverse_qformer_config = None
        else:
            reverse_defaults = {"num_hidden_layers": 4, "encoder_hidden_size": hidden_size}
            reverse_defaults |= {"hidden_size": hidden_size, "intermediate_size": 4 * hidden_size}
            reverse_defaults["num_attention_heads"] = self.qformer_config.num_attention_heads
            self.reverse_qformer_config = _as_config(
                self.reverse_qformer_config, SeedReverseQFormerConfig, reverse_defaults
            )
        if self.generation_head in ("mlp", "qformer"):
            self.num_generation_tokens = 1

    def _check_fields(self):
        _require(self.generation_head in GENERATION_HEADS, "generation_head", self.generation_head, GENERATION_HEADS)
        _require(
            self.contrastive_gather in ("full", "detached"),
            "contrastive_gather",
            self.contrastive_gather,
            ("full", "detached"),
        )
        for name in ("num_query_tokens", "codebook_size", "code_dim", "num_generation_tokens", "generation_dim"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive integer")
        for name in NON_NEGATIVE_FIELDS:
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "a finite number, 0 or above")
        _require(0.0 <= self.prefix_probability <= 1.0, "prefix_probability", self.prefix_probability, "[0, 1]")
        _require(0.0 <= self.codebook_ema_decay < 1.0, "codebook_ema_decay", self.codebook_ema_decay, "[0, 1)")
        _require(
            self.dead_code_steps == 0 or self.codebook_ema_decay > 0,
            "dead_code_steps",
            self.dead_code_steps,
            "0 unless `codebook_ema_decay` is above 0",
        )
        _require(
            not self.codebook_per_query or self.codebook_size % self.num_query_tokens == 0,
            "codebook_size",
            self.codebook_size,
            f"a multiple of num_query_tokens, {self.num_query_tokens}, with `codebook_per_query`",
        )
        _require(
            self.generation_contrastive_loss_weight == 0 or self.use_text_tower,
            "generation_contrastive_loss_weight",
            self.generation_contrastive_loss_weight,
            "0 unless `use_text_tower`, whose temperature it needs",
        )
        patch_size = self.vision_config.patch_size
        _require(not self.use_conv_stem or patch_size == 32, "vision_config.patch_size", patch_size, "32, the stem's")
        hidden_size = self.qformer_config.hidden_size
        for name in ("decoder_config", "reverse_qformer_config"):
            config = getattr(self, name)
            if config is not None:
                allowed = f"{hidden_size}, the Q-Former's hidden_size"
                _require(config.hidden_size == hidden_size, f"{name}.hidden_size", config.hidden_size, allowed)

    def to_dict(self) -> dict:
        """As in transformers, which takes every class with "Tokenizer" in its name for a slow and a fast one."""
        values = super().to_dict()
        if values.get("auto_map"):
            references = values["auto_map"].items()
            values["auto_map"] = {name: ref if isinstance(ref, str) else ref[0] for name, ref in references}
        return values


def check_sizes(values: dict, where: str = ""):
    r"""
    Refuses sizes of which one cannot be built, before anything is.

    Args:
        values (`dict`): A configuration, with those of its parts as dicts or objects.
        where (`str`, defaults to `""`): What to put before its names in an error, such as `"vision_config."`.

    Raises:
        ValueError: A size below 0 or above that of `SIZE_LIMITS`.
    """
    for name, value in values.items():
        if isinstance(value, PreTrainedConfig):
            value = vars(value)
        if isinstance(value, dict):
            check_sizes(value, f"{where}{name}.")
        elif (limit := SIZE_LIMITS.get(name)) is not None:
            sizes = [size for size in (value if isinstance(value, list | tuple) else [value]) if isinstance(size, int)]
            allowed = f"0 to {limit}, or a larger `SIZE_LIMITS[{name!r}]` in {__name__}"
            _require(all(0 <= size <= limit for size in sizes), f"{where}{name}", value, allowed)


def _as_config(value, config_class, defaults=None):
    if isinstance(value, PreTrainedConfig):
        return copy.deepcopy(value)  # fields that must agree are set in it
    return config_class(**{**(defaults or {}), **(value or {})})


def _require(condition, name, value, allowed):
    if not condition:
        raise ValueError(f"`{name}` is {value!r}; allowed: {allowed}.")


__all__ = ["SeedCodeDecoderConfig", "SeedImageTokenizerConfig", "SeedReverseQFormerConfig", "check_sizes"]
