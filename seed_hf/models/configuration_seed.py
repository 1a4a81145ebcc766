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
"""Configuration of the SEED language model (a causal LM that reads and writes image tokens)."""

import copy

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, OPTConfig, PreTrainedConfig
from transformers.models.auto import modeling_auto

from .configuration_seed_image_tokenizer import SeedImageTokenizerConfig, check_sizes
from .hub_mixin_seed import HubUploadMixin
from .image_tokens_seed import ImageTokenLayout


IMAGE_TOKEN_EMBEDDINGS = ("projected_codes", "learned")
# `<img>`, `</img>` and `<image>`
NUM_SPECIAL_TOKENS = 3
# by Auto class, where a folder brings its code
MODEL_CLASSES = {
    "AutoModel": "SeedModel",
    "AutoModelForCausalLM": "SeedForCausalLM",
    "AutoModelForImageTextToText": "SeedForCausalLM",
    "AutoModelForMultimodalLM": "SeedForCausalLM",
}


def _text_config_field(name: str) -> property:
    """A field of `text_config`, readable and settable on the outermost configuration."""
    return property(
        lambda config: getattr(config.text_config, name, None),
        lambda config, value: setattr(config.text_config, name, value),
    )


@strict
class SeedConfig(HubUploadMixin, PreTrainedConfig):
    r"""
    Configuration of [`SeedForCausalLM`]: any causal language model of transformers plus image tokens.

    The vocabulary is: the first `first_image_token_id` ids of the text vocabulary, one image token per code, then
    `<img>`, `</img>` and `<image>`.

    Args:
        text_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of any causal LM. Defaults to OPT-2.7B, the language model of the paper. With
            `"projected_codes"` its `vocab_size` is that of the untouched LM; with `"learned"` it counts every token.
        image_tokenizer_config (`SeedImageTokenizerConfig` or `dict`, *optional*):
            Configuration of the image tokenizer as a sub-module, so that the model accepts `pixel_values`. With `None`
            there is none, and images come as codes.
        codebook_size (`int`, defaults to 8192): Number of codes.
        num_query_tokens (`int`, defaults to 32): Number of codes of an image.
        codebook_per_query (`bool`, defaults to `False`): Whether the codes fall into equal parts, one for each place
            in an image (ours; see [`SeedImageTokenizerConfig`]). Generated codes are then of their place's part.
        code_dim (`int`, defaults to 32): Width of a codebook vector.
        image_token_embedding (`str`, defaults to `"projected_codes"`):
            `"projected_codes"` is the paper's: the frozen codebook vector goes through one fully-connected layer, and
            the logit of a code is the product of the hidden state with that same vector. `"learned"` is
            SEED-LLaMA's: image tokens are ordinary rows of the LM's tables.
        vocab_size (`int`, *optional*): Number of logits: text, image tokens and specials.
        first_image_token_id (`int`, *optional*): Id of the image token of code 0.
        boi_token_id, eoi_token_id, image_placeholder_token_id (`int`, *optional*):
            Ids of `<img>`, `</img>` and `<image>`. By default they follow the image tokens in this order.
        image_tokenizer_id (`str`, *optional*): Repository of the image tokenizer that makes and decodes the codes.
        image_tokenizer_revision (`str`, *optional*): Revision of that repository.

    Raises:
        ValueError: A field is out of range (for sizes, as in [`SeedImageTokenizerConfig`]) or contradicts another one.

    Source: paper section 2.3 and 3 (`"projected_codes"`); SEED-LLaMA, arXiv 2310.01218 (`"learned"`). That the output
    uses the projected vectors too is our reading: the paper does not say, and its LM (OPT) ties its tables.

    Example:

    ```python
    >>> from seed_hf import SeedConfig
    >>> config = SeedConfig()
    >>> (config.text_config.model_type, config.first_image_token_id, config.vocab_size)
    ('opt', 50272, 58467)

    ```
    """

    model_type = "seed"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]
    # the name by which trainers and servers ask for the placeholder
    attribute_map = {"image_token_id": "image_placeholder_token_id"}
    sub_configs = {"text_config": AutoConfig, "image_tokenizer_config": SeedImageTokenizerConfig}

    text_config: dict | PreTrainedConfig | None = None
    image_tokenizer_config: dict | PreTrainedConfig | None = None
    codebook_size: int = 8192
    num_query_tokens: int = 32
    codebook_per_query: bool = False
    code_dim: int = 32
    image_token_embedding: str = "projected_codes"
    vocab_size: int | None = None
    first_image_token_id: int | None = None
    boi_token_id: int | None = None
    eoi_token_id: int | None = None
    image_placeholder_token_id: int | None = None
    image_tokenizer_id: str | None = None
    image_tokenizer_revision: str | None = None
    tie_word_embeddings: bool = False

    # trainers and PEFT look for them here, although they belong to the LM
    bos_token_id = _text_config_field("bos_token_id")
    eos_token_id = _text_config_field("eos_token_id")
    pad_token_id = _text_config_field("pad_token_id")

    def __post_init__(self, **kwargs):
        check_sizes(vars(self))
        self._build_sub_configs()
        self._fill_token_ids()
        # transformers and PEFT read the flag of the outermost config to know whether the LM's head is its input table
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        # TRL reads it without asking whether a folder brings code
        self.auto_map = kwargs.pop("auto_map", None) or {}
        super().__post_init__(**kwargs)
        self._check_fields()

    def _build_sub_configs(self):
        if self.text_config is None:
            sizes = {"hidden_size": 2560, "word_embed_proj_dim": 2560, "ffn_dim": 10240}
            self.text_config = OPTConfig(num_hidden_layers=32, num_attention_heads=32, **sizes)
        elif isinstance(self.text_config, dict):
            self.text_config = AutoConfig.for_model(**self.text_config)
        if isinstance(self.image_tokenizer_config, dict):
            self.image_tokenizer_config = SeedImageTokenizerConfig(**self.image_tokenizer_config)

    def _fill_token_ids(self):
        num_new = self.codebook_size + NUM_SPECIAL_TOKENS
        if self.first_image_token_id is None:
            learned = self.image_token_embedding == "learned"
            self.first_image_token_id = self.text_config.vocab_size - (num_new if learned else 0)
        end = self.first_image_token_id + self.codebook_size
        for offset, name in enumerate(("boi_token_id", "eoi_token_id", "image_placeholder_token_id")):
            if getattr(self, name) is None:
                setattr(self, name, end + offset)
        if self.vocab_size is None:
            projected = self.image_token_embedding == "projected_codes"
            self.vocab_size = end + NUM_SPECIAL_TOKENS if projected else self.text_config.vocab_size

    def _check_fields(self):
        _require(
            self.image_token_embedding in IMAGE_TOKEN_EMBEDDINGS,
            "image_token_embedding",
            self.image_token_embedding,
            IMAGE_TOKEN_EMBEDDINGS,
        )
        for name in ("codebook_size", "num_query_tokens", "code_dim"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive integer")
        first, end = self.first_image_token_id, self.first_image_token_id + self.codebook_size
        text_rows = self.text_config.vocab_size
        if self.image_token_embedding == "projected_codes":
            _require(0 <= first <= text_rows, "first_image_token_id", first, f"[0, {text_rows}], ids of the LM")
            _require(self.vocab_size == end + NUM_SPECIAL_TOKENS, "vocab_size", self.vocab_size, end + 3)
            specials = {self.boi_token_id, self.eoi_token_id, self.image_placeholder_token_id}
            allowed = set(range(end, end + NUM_SPECIAL_TOKENS))
            _require(
                specials == allowed, "boi, eoi and image_placeholder token ids", sorted(specials), sorted(allowed)
            )
        else:
            _require(self.vocab_size == text_rows, "vocab_size", self.vocab_size, f"{text_rows}, the LM's")
            allowed = f"[0, {text_rows - self.codebook_size}], so that every code has a row"
            _require(0 <= first and end <= text_rows, "first_image_token_id", first, allowed)
        if self.image_tokenizer_config is not None:
            for name in ("codebook_size", "num_query_tokens", "code_dim"):
                value = getattr(self.image_tokenizer_config, name)
                _require(value == getattr(self, name), f"image_tokenizer_config.{name}", value, getattr(self, name))

    @property
    def image_token_layout(self) -> ImageTokenLayout:
        """[`ImageTokenLayout`]: the arithmetic between codes and token ids."""
        return ImageTokenLayout(
            first_image_token_id=self.first_image_token_id,
            codebook_size=self.codebook_size,
            num_query_tokens=self.num_query_tokens,
            boi_token_id=self.boi_token_id,
            eoi_token_id=self.eoi_token_id,
            image_placeholder_token_id=self.image_placeholder_token_id,
            codebook_per_query=self.codebook_per_query,
        )

    def to_dict(self) -> dict:
        """As in transformers; where the model's code is saved too, every Auto class that loads the model finds it."""
        values = super().to_dict()
        auto_map = values.pop("auto_map", {})
        # transformers records one Auto class for each class
        recorded = next((auto_map[name] for name in MODEL_CLASSES if name in auto_map), None)
        if recorded is not None:
            module = recorded.rpartition(".")[0]
            auto_map = auto_map | {name: f"{module}.{model}" for name, model in MODEL_CLASSES.items()}
        return values | {"auto_map": auto_map} if auto_map else values

    def get_text_config(self, decoder=None, encoder=None) -> PreTrainedConfig:
        """
        The LM's configuration, with `vocab_size` counting the image tokens too.

        `generate()` takes the number of logits from here; with `"projected_codes"` the LM's own table is smaller.
        """
        text_config = self.text_config
        if encoder and not decoder or self.image_token_embedding == "learned":
            return super().get_text_config(decoder=decoder, encoder=encoder)
        text_config = copy.copy(text_config)
        text_config.vocab_size = self.vocab_size
        return text_config


def _require(condition, name, value, allowed):
    if not condition:
        raise ValueError(f"`{name}` is {value!r}; allowed: {allowed}.")


# Pipelines and `transformers serve` look names up in these plain tables, which `AutoModel.register` does not fill.
# Done here and not in the package's `__init__`, so that the copy of this file in a saved folder does it too.
for _table in ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"):
    getattr(modeling_auto, f"MODEL_FOR_{_table}_MAPPING_NAMES").setdefault(SeedConfig.model_type, "SeedForCausalLM")


__all__ = ["SeedConfig"]
