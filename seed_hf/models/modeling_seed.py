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
"""The SEED language model: any causal LM of transformers that reads and writes image tokens, with and without head."""

import copy
import inspect
import os
from dataclasses import replace

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    BaseModelOutputWithPooling,
    CausalLMOutputWithPast,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging

from .configuration_seed import SeedConfig
from .generation_seed import SeedGenerationMixin
from .hub_mixin_seed import HubUploadMixin
from .loading_seed import StrictLoadingMixin
from .modeling_seed_embedding import (
    SeedImageTokenEmbedding,
    SeedOutputEmbeddings,
    check_plain_embeddings,
    check_plain_head,
    codebook_of,
    head_rows,
)
from .modeling_seed_image_tokenizer import SeedImageTokenizer
from .peft_seed import enable_saved_modules, find_adapter, load_with_adapter, lora_settings, lora_target_modules


logger = logging.get_logger(__name__)

# transformers 5.24 renames the first to the second and warns at the old name: it goes through `kwargs`, unnamed
_CACHE_NAMES = ("past_key_values", "cache")
# What transformers' quantizers write on the model that they load; PEFT, trainers and saving read it on the outermost
_SET_BY_LOADING = ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit")
_KEPT_OUTPUTS = (*_CACHE_NAMES, "hidden_states", "attentions")
_NEEDED_LOGITS = ("all", "codes", "none")
# the lowest number of float16: no probability, and finite, so that guidance and temperatures compute with it
_FAR_BELOW = -65504.0


class SeedPreTrainedModel(HubUploadMixin, StrictLoadingMixin, PreTrainedModel):
    """
    The parts of a SEED language model, and how images become image tokens.

    `language_model` is an unchanged model of transformers, head included; `image_embeddings` are the vectors of image
    tokens with `"projected_codes"`; `image_tokenizer` is optional.
    """

    config: SeedConfig
    config_class = SeedConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    output_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _skip_keys_device_placement = list(_CACHE_NAMES)
    # quantizers leave it alone: only its own weights give the codes that the language model has learned
    _keep_in_fp32_modules = ["image_tokenizer"]
    # a dict, not None: PEFT looks for tied weights in sub-modules only where the outermost model declares some form
    _tied_weights_keys = {}

    def _build_parts(self, config: SeedConfig):
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        # by name, so that `SeedModel.body_of` finds them among the modules even where there are none
        self.register_module("image_embeddings", None)
        self.register_module("image_tokenizer", None)
        # CODEPATH: SEED's own models project the codes; SEED-LLaMA and seed-mini learn a row for each
        if config.image_token_embedding == "projected_codes":
            check_plain_head(self.language_model)
            check_plain_embeddings(self.language_model)
            embedding_dim = self.language_model.get_input_embeddings().embedding_dim
            self.image_embeddings = SeedImageTokenEmbedding(config.codebook_size, config.code_dim, embedding_dim)
        # CODEPATH: with "seed-llama" the image tokenizer is inside; for training from codes it is left out
        if config.image_tokenizer_config is not None:
            # the image tokenizer has fewer kinds of attention than language models
            own = {"eager": "eager"}.get(config._attn_implementation, "sdpa")
            # by `_from_config`, since transformers itself hands a dtype down by one level only
            self.image_tokenizer = SeedImageTokenizer._from_config(
                config.image_tokenizer_config, attn_implementation=own
            )
            # frozen: no gradient passes through codes, and distributed training refuses weights without one
            self.image_tokenizer.requires_grad_(False)
        else:
            # left out on purpose: the weights in the file are then not unexpected
            self._keys_to_ignore_on_load_unexpected = [r"^image_tokenizer\."]
        self._lm_arguments = frozenset(inspect.signature(self.language_model.forward).parameters)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, SeedImageTokenEmbedding):
            std = getattr(self.config.text_config, "initializer_range", 0.02)
            init.normal_(module.weight, std=std)
            init.zeros_(module.bias)
            init.normal_(module.special_weight, std=std)
            init.zeros_(module.codebook)

    def _get_dtype_plan(self, dtype):
        """Without what only quantizers are to read: these modules have the dtype that was asked for."""
        plan = super()._get_dtype_plan(dtype)
        return {name: kept for name, kept in plan.items() if name not in self._keep_in_fp32_modules}

    def train(self, mode: bool = True):
        """As in torch; the image tokenizer stays in evaluation mode, since dropout would change codes."""
        super().train(mode)
        if self.image_tokenizer is not None:
            self.image_tokenizer.eval()
        return self

    # ------------------------------------------------------------------------------------------ construction
    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, image_tokenizer=True, **kwargs):
        """
        Loads a model, or an adapter on its base, strictly: a missing, unexpected or misshapen weight is an error.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or repository of a model or of a LoRA
                adapter (see [`peft_seed.load_with_adapter`]).
            image_tokenizer (`bool` or [`SeedImageTokenizer`] or `None`, defaults to `True`):
                `True` loads the image tokenizer where the repository has one; `False` or `None` leaves it out (for
                precomputed codes); a model is attached as it is.
            kwargs: As in `PreTrainedModel.from_pretrained`.

        Returns:
            The model, in eval mode; an adapter is active, not merged.

        Raises:
            ValueError: The weights do not fit the configuration, or the adapter does not make up a whole model.
        """
        if isinstance(kwargs.get("config"), str | os.PathLike):
            kwargs["config"] = cls.config_class.from_pretrained(kwargs["config"])
        if image_tokenizer is not True:
            if kwargs.get("config") is not None:
                kwargs["config"] = copy.deepcopy(kwargs["config"])
                kwargs["config"].image_tokenizer_config = None
            else:
                kwargs["image_tokenizer_config"] = None
        # the name in the first checkpoints; without a "$", which saving would write into the name
        kwargs["key_mapping"] = {r"^codebook": "image_embeddings.codebook"} | (kwargs.get("key_mapping") or {})
        adapter = find_adapter(pretrained_model_name_or_path, kwargs)
        if adapter is None:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        else:
            loaded = load_with_adapter(cls, super().from_pretrained, adapter, *args, **kwargs)
        model = loaded[0] if kwargs.get("output_loading_info") else loaded
        if image_tokenizer is not True and image_tokenizer:
            model.attach_image_tokenizer(image_tokenizer)
        return loaded

    # ------------------------------------------------------------------------------------------ vocabulary
    def get_input_embeddings(self):
        """The LM's own token table (text tokens; all tokens with `"learned"`)."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        """Replaces the LM's own token table."""
        self.language_model.set_input_embeddings(value)

    @classmethod
    def _around(cls, language_model: PreTrainedModel, config: SeedConfig) -> PreTrainedModel:
        """A model around the very `language_model` it is given; the vectors of the image tokens are still empty."""
        with torch.device("meta"):
            model = cls(config)
        model.language_model = language_model
        # only now: construction would have changed the attention implementation of a shared configuration
        model.config.text_config = language_model.config
        if model.image_embeddings is not None:
            reference = language_model.get_input_embeddings().weight
            model.image_embeddings.to_empty(device=reference.device).to(reference.dtype)
        model.generation_config = copy.deepcopy(language_model.generation_config)
        for name in _SET_BY_LOADING:
            if hasattr(language_model, name):
                setattr(model, name, getattr(language_model, name))
        if hasattr(language_model.config, "quantization_config"):
            model.config.quantization_config = language_model.config.quantization_config
        if hasattr(language_model, "hf_device_map"):
            parts = {f"language_model.{name}".rstrip("."): at for name, at in language_model.hf_device_map.items()}
            model.hf_device_map = parts | {"image_embeddings": language_model.get_input_embeddings().weight.device}
        return model

    def attach_image_tokenizer(self, image_tokenizer: PreTrainedModel):
        """
        Makes `image_tokenizer` a sub-module, frozen, so that the model accepts `pixel_values`.

        Args:
            image_tokenizer ([`SeedImageTokenizer`]): The image tokenizer whose codes this model was trained on.

        Raises:
            ValueError: Its sizes or its codebook differ from this model's.
        """
        for name in ("codebook_size", "num_query_tokens"):
            got, wanted = getattr(image_tokenizer.config, name), getattr(self.config, name)
            if got != wanted:
                raise ValueError(f"`image_tokenizer` has {name}={got}; allowed: {wanted}, this model's.")
        if self.image_embeddings is not None:
            theirs, own = codebook_of(image_tokenizer).float().cpu(), self.image_embeddings.codebook.float().cpu()
            # half-precision checkpoints of either part may round the codebook
            if not torch.allclose(theirs, own, rtol=1e-2, atol=1e-2 * float(own.abs().mean())):
                raise ValueError("`image_tokenizer` has another codebook; allowed: the one this model was trained on.")
        if self.image_embeddings is None:
            self.config.code_dim = image_tokenizer.config.code_dim
        self.image_tokenizer = image_tokenizer.to(self.device).requires_grad_(False).eval()
        self.config.image_tokenizer_config = image_tokenizer.config

    def enable_adapters(self):
        """Undoes `disable_adapters`, for the vectors of the image tokens too."""
        super().enable_adapters()
        enable_saved_modules(self)

    # ------------------------------------------------------------------------------------------ images
    def get_image_codes(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Turns images into codes.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`): CLIP-normalised.

        Returns:
            `torch.LongTensor` of shape `(num_images, num_query_tokens)`.

        Raises:
            ValueError: The model was loaded without its image tokenizer.
        """
        image_tokenizer = self._require_image_tokenizer("pixel_values")
        with torch.no_grad():
            weight = next(image_tokenizer.parameters())
            # an offloaded weight is on the meta device; accelerate's hooks then bring the pixels along
            device = pixel_values.device if weight.is_meta else weight.device
            return image_tokenizer.encode(pixel_values.to(device, weight.dtype))

    def _require_image_tokenizer(self, given: str) -> SeedImageTokenizer:
        if self.image_tokenizer is None:
            raise ValueError(
                f"`{given}` was given to a model without an image tokenizer; allowed: `codes`, or a model loaded with "
                "`image_tokenizer=True`."
            )
        return self.image_tokenizer

    def insert_images(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Replaces the `<image>` placeholders by image tokens; the length stays the same.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids.
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`, *optional*):
                Images in reading order.
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`, *optional*): Their codes instead.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length)`.

        Raises:
            ValueError: Both or neither of `pixel_values` and `codes`, or another number of images than placeholders.
        """
        if pixel_values is not None and codes is not None:
            raise ValueError("`pixel_values` and `codes` were both given; allowed: one of them.")
        if pixel_values is not None:
            codes = self.get_image_codes(pixel_values)
        return self.config.image_token_layout.insert_codes(input_ids, codes)

    def embed_tokens(self, input_ids: torch.Tensor) -> torch.Tensor:
        """
        Token vectors of text, image and special tokens.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_dim)`.
        """
        table = self.get_input_embeddings()
        if self.image_embeddings is None:
            return table(input_ids)
        first = self.config.first_image_token_id
        is_text = input_ids < first
        text_vectors = table(torch.where(is_text, input_ids, 0))
        image_vectors = self.image_embeddings((input_ids - first).clamp(min=0))
        return torch.where(is_text[..., None], text_vectors, image_vectors.to(text_vectors))

    def get_image_tokens(self, pixel_values: torch.Tensor) -> torch.LongTensor:
        """
        Image tokens of images: their codes as ids of the text vocabulary.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`): CLIP-normalised.

        Returns:
            `torch.LongTensor` of shape `(num_images, num_query_tokens)`.

        Raises:
            ValueError: The model was loaded without its image tokenizer.
        """
        return self.config.image_token_layout.codes_to_token_ids(self.get_image_codes(pixel_values))

    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.Tensor | None = None, codes: torch.Tensor | None = None, **kwargs
    ) -> tuple | BaseModelOutputWithPooling:
        """
        What the language model sees of images: the vectors of their image tokens.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`, *optional*): Images.
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`, *optional*): Their codes instead.

        Returns:
            `BaseModelOutputWithPooling`: `last_hidden_state` of shape `(num_images, num_query_tokens, embedding_dim)`;
            `pooler_output` is the same, as in the models of transformers, whose images take the place of placeholders.

        Raises:
            ValueError: Both or neither of the arguments, or a model without its image tokenizer.
        """
        if (pixel_values is None) == (codes is None):
            raise ValueError("`pixel_values` and `codes` were both given or both left out; allowed: one of them.")
        layout = self.config.image_token_layout
        codes = self.get_image_codes(pixel_values) if codes is None else layout.check_image_codes(codes)
        table = self.get_input_embeddings().weight
        vectors = self.embed_tokens(layout.codes_to_token_ids(codes).to(table.device))
        return BaseModelOutputWithPooling(last_hidden_state=vectors, pooler_output=vectors)

    def get_placeholder_mask(
        self, input_ids: torch.LongTensor, inputs_embeds: torch.Tensor, image_features: torch.Tensor
    ) -> torch.BoolTensor:
        """
        Where the vectors of images belong: at the `<image>` placeholders.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Ids with placeholders.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_dim)`): Their vectors.
            image_features (`torch.FloatTensor` of shape `(num_images, num_query_tokens, embedding_dim)`): See
                `get_image_features`.

        Returns:
            `torch.BoolTensor` of shape `(batch_size, sequence_length, 1)`, for `masked_scatter`.

        Raises:
            ValueError: Another number of placeholders than of vectors.
        """
        mask = input_ids == self.config.image_placeholder_token_id
        if int(mask.sum()) * inputs_embeds.shape[-1] != image_features.numel():
            raise ValueError(
                f"`input_ids` has {int(mask.sum())} placeholders; allowed: {image_features.shape[:-1].numel()}, one "
                "for each vector of `image_features`."
            )
        return mask[..., None].to(inputs_embeds.device)

    def _with_images(self, input_ids, inputs_embeds, pixel_values, codes) -> torch.LongTensor | None:
        """`input_ids` with image tokens in place of placeholders, after the checks on what was given."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("`input_ids` and `inputs_embeds` were both given or both left out; allowed: one of them.")
        if pixel_values is None and codes is None:
            return input_ids
        if input_ids is None:
            raise ValueError("`inputs_embeds` was given with images; allowed: `input_ids`.")
        return self.insert_images(input_ids, pixel_values, codes)

    def _lm_inputs(self, input_ids, inputs_embeds, attention_mask, position_ids, use_cache, **kwargs) -> dict:
        """Arguments of the language model; with `"projected_codes"`, where it has no rows for images, vectors."""
        inputs = {"attention_mask": attention_mask, "use_cache": use_cache, **kwargs}
        if "position_ids" in self._lm_arguments:
            inputs["position_ids"] = position_ids
        if self.image_embeddings is None:
            return inputs | {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        return inputs | {"inputs_embeds": self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds}


class SeedModel(SeedPreTrainedModel):
    r"""
    The SEED language model without a head: text and image tokens in, hidden states out.

    What `AutoModel` gives, and what trainers call as `model.base_model`. Its folder is that of [`SeedForCausalLM`]:
    the wrapped language model keeps its head there, which this class does not use.

    Args:
        config ([`SeedConfig`]): Sizes and ids.

    Example:

    ```python
    >>> import torch
    >>> from transformers import LlamaConfig
    >>> from seed_hf import SeedConfig, SeedModel
    >>> text_config = LlamaConfig(
    ...     vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    ... )
    >>> model = SeedModel(SeedConfig(text_config=text_config, codebook_size=8, num_query_tokens=4, code_dim=4))
    >>> model(torch.tensor([[1, 2, 50]])).last_hidden_state.shape
    torch.Size([1, 3, 16])

    ```
    """

    def __init__(self, config: SeedConfig):
        super().__init__(config)
        self._build_parts(config)
        self.post_init()

    @classmethod
    def body_of(cls, model: SeedPreTrainedModel) -> "SeedModel":
        """The same modules, seen without the head; what is changed on one is changed on the other."""
        body = cls.__new__(cls)
        nn.Module.__init__(body)
        body.config, body.training, body._lm_arguments = model.config, model.training, model._lm_arguments
        body._modules = model._modules
        return body

    def get_output_embeddings(self) -> None:
        """None: the head of the wrapped language model is not used here."""
        return None

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        codes: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | BaseModelOutputWithPast:
        """
        One pass of the language model's body.

        Args:
            input_ids, pixel_values, codes, attention_mask, position_ids, inputs_embeds, use_cache: As in
                [`SeedForCausalLM`].
            kwargs: Further arguments of the language model.

        Returns:
            `BaseModelOutputWithPast`: `last_hidden_state` of shape `(batch_size, sequence_length, embedding_dim)`, and
            what the language model returns beside.

        Raises:
            ValueError: Not exactly one of `input_ids` and `inputs_embeds`, or images that do not fit the placeholders.
        """
        input_ids = self._with_images(input_ids, inputs_embeds, pixel_values, codes)
        lm_inputs = self._lm_inputs(input_ids, inputs_embeds, attention_mask, position_ids, use_cache, **kwargs)
        return self.language_model.base_model(return_dict=True, **lm_inputs)

    @torch.no_grad()
    def decode_image_tokens(self, image_tokens: torch.LongTensor) -> torch.FloatTensor:
        """
        Image tokens to generation embeddings, from which [`SeedPipeline`] draws.

        Here and not on [`SeedForCausalLM`]: the `any-to-any` pipeline of transformers takes a model that has this
        method for one that gives pixels.

        Args:
            image_tokens (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Ids of image tokens.

        Returns:
            `torch.FloatTensor`: As [`SeedImageTokenizer.decode`] gives it.

        Raises:
            ValueError: Ids that are no image tokens, or a model without its image tokenizer.
        """
        codes = self.config.image_token_layout.token_ids_to_codes(image_tokens)
        return self._require_image_tokenizer("image_tokens").decode(codes)


class SeedForCausalLM(SeedPreTrainedModel, SeedGenerationMixin, GenerationMixin):
    r"""
    A causal language model that reads and writes images as `num_query_tokens` image tokens.

    `language_model` is an unchanged model of transformers, of any architecture. `image_tokenizer` is optional: with
    it the model accepts `pixel_values`, without it images come as codes. `generate()` is transformers' own.

    Args:
        config ([`SeedConfig`]): Sizes and ids.

    Example:

    ```python
    >>> import torch
    >>> from transformers import LlamaConfig
    >>> from seed_hf import SeedConfig, SeedForCausalLM
    >>> text_config = LlamaConfig(
    ...     vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    ... )
    >>> model = SeedForCausalLM(SeedConfig(text_config=text_config, codebook_size=8, num_query_tokens=4, code_dim=4))
    >>> ids = model.generate(torch.tensor([[1, 2]]), generation_mode="image", do_sample=False)
    >>> ids.shape  # the prompt, <img>, 4 image tokens, </img>
    torch.Size([1, 8])

    ```
    """

    def __init__(self, config: SeedConfig):
        super().__init__(config)
        self._build_parts(config)
        if self.image_embeddings is not None:
            own_head = self.language_model.get_output_embeddings()
            # quantizers look for the head by `get_output_embeddings`, which is another one here
            names = [name for name, module in self.named_modules() if module is own_head]
            self._keep_in_fp32_modules = [*self._keep_in_fp32_modules, *names]
            self.lm_head = SeedOutputEmbeddings(self)
        self.post_init()

    @property
    def model(self) -> SeedModel:
        """[`SeedModel`]: the same modules without the head; trainers call it as `base_model`."""
        body = self.__dict__.get("_body")
        if body is None:  # made once, as transformers asks whether two of them are the same; not a sub-module
            body = self.__dict__["_body"] = SeedModel.body_of(self)
        body.config, body.training = self.config, self.training
        return body

    # ------------------------------------------------------------------------------------------ vocabulary
    def get_output_embeddings(self):
        """The head over text, image and special tokens: its `weight` has `vocab_size` rows."""
        return self.language_model.get_output_embeddings() if self.image_embeddings is None else self.lm_head

    def set_output_embeddings(self, new_embeddings):
        """Replaces the LM's own head."""
        self.language_model.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(self, new_num_tokens=None, pad_to_multiple_of=None, mean_resizing=True):
        """
        As in transformers with `"learned"`, as long as the image tokens keep their rows. With `"projected_codes"`,
        where they have none, only to the size it has; for another tokenizer see `from_language_model`.
        """
        if self.image_embeddings is None:
            needed = self.config.image_token_layout.end_token_id
            if new_num_tokens is not None and new_num_tokens < needed:
                raise ValueError(f"`new_num_tokens` is {new_num_tokens}; allowed: at least {needed}, for the images.")
            table = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
            self.config.vocab_size = table.num_embeddings
            return table
        # PEFT asks for the size of the tokenizer wherever the LM's own table is smaller
        # CODEPATH: "projected_codes" only, see above
        if new_num_tokens in (None, self.config.vocab_size):
            return self.get_input_embeddings()
        raise ValueError(
            f"`new_num_tokens` is {new_num_tokens}; allowed: {self.config.vocab_size}, the size it has. For another "
            "tokenizer build the model anew with `from_language_model`."
        )

    # ------------------------------------------------------------------------------------------ forward
    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """
        Logits of text, image and special tokens.

        Args:
            hidden_states (`torch.FloatTensor` of shape `(..., embedding_dim)`): What the LM's head takes.

        Returns:
            `torch.FloatTensor` of shape `(..., vocab_size)`.
        """
        text_logits = self.language_model.get_output_embeddings()(hidden_states)
        if self.image_embeddings is None:
            return text_logits
        image_logits = self.image_embeddings(hidden_states, as_logits=True)
        image_logits = image_logits.to(text_logits.device)
        return torch.cat([text_logits[..., : self.config.first_image_token_id], image_logits], dim=-1)

    def _compute_code_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """As `compute_logits` for codes; all others are far below."""
        first, size = self.config.first_image_token_id, self.config.codebook_size
        if self.image_embeddings is None:
            weight, bias = head_rows(self.language_model, first, first + size)
            logits = nn.functional.linear(hidden_states, weight, bias)
        else:
            logits = self.image_embeddings(hidden_states, as_logits=True)[..., :size]
        return nn.functional.pad(logits, (first, self.config.vocab_size - first - size), value=_FAR_BELOW)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        codes: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        target_logits_only: bool = False,
        needed_logits: str = "all",
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | CausalLMOutputWithPast:
        """
        One pass of the language model.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Ids; `<image>`
                placeholders are replaced by the codes of `pixel_values` or `codes`.
            pixel_values (`torch.FloatTensor` of shape `(num_images, 3, image_size, image_size)`, *optional*):
                CLIP-normalised images of the whole batch, in reading order.
            codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`, *optional*): Their codes instead.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*): 0 at padding.
            position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Positions.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_dim)`, *optional*):
                Vectors instead of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Targets, not shifted;
                -100 is ignored. Where an image is inserted, an `<image>` means the image token that takes its place;
                any other `<image>` is ignored.
            use_cache (`bool`, *optional*): Whether to return keys and values.
            logits_to_keep (`int` or `torch.LongTensor`, defaults to 0): Compute the logits of this number of last
                positions, or of the given positions; 0 means all.
            target_logits_only (`bool`, defaults to `False`): With `labels`, compute logits only where there is a
                target; they then have shape `(num_targets, vocab_size)`, in reading order.
            needed_logits (`str`, defaults to `"all"`): Which logits will be read, where a grammar knows: with
                `"codes"` those of codes, all others then being far below them; with `"none"` nothing is computed, and
                the logits of the last position are zeros. For `generate()`, and without targets.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*): Divisor of the loss, instead of the mean.
            kwargs: Further arguments of the language model. Keys and values of earlier positions are `cache`, before
                transformers 5.24 `past_key_values`; they come back under the same name. `shift_labels` of the shape of
                `labels` are targets that are shifted already, instead of `labels` (a part of a sequence cannot shift
                its own).

        Returns:
            `CausalLMOutputWithPast`: `loss` is a float32 cross-entropy over text, image and special tokens.

        Raises:
            ValueError: Not exactly one of `input_ids` and `inputs_embeds`, images that do not fit the placeholders, or
                an unknown `needed_logits`.
        """
        if needed_logits not in _NEEDED_LOGITS:
            raise ValueError(f"`needed_logits` is {needed_logits!r}; allowed: {_NEEDED_LOGITS}.")
        input_ids = self._with_images(input_ids, inputs_embeds, pixel_values, codes)
        if needed_logits == "none":
            given = input_ids if inputs_embeds is None else inputs_embeds
            zeros = torch.zeros(len(given), 1, self.config.vocab_size, dtype=self.dtype, device=given.device)
            return CausalLMOutputWithPast(logits=zeros)
        # no argument of its own: transformers' Trainer would take it for labels that every evaluation must have
        shift_labels = kwargs.pop("shift_labels", None)
        if labels is not None or shift_labels is not None:
            layout = self.config.image_token_layout
            labels = layout.replace_placeholder_targets(labels, input_ids)
            next_ids = None if input_ids is None else input_ids[:, 1:]
            shift_labels = layout.replace_placeholder_targets(shift_labels, next_ids)
        lm_inputs = self._lm_inputs(input_ids, inputs_embeds, attention_mask, position_ids, use_cache, **kwargs)
        is_plain = self.image_embeddings is None and not target_logits_only
        codes_only = needed_logits == "codes" and not (is_plain and head_rows(self.language_model) is None)
        if is_plain and not codes_only:
            # an ordinary vocabulary: the LM's own `forward`, whatever it does to its logits
            outputs = self.language_model(logits_to_keep=logits_to_keep, return_dict=True, **lm_inputs)
            logits = outputs.logits
        else:
            outputs = self.language_model.base_model(return_dict=True, **lm_inputs)
            hidden_states = outputs.last_hidden_state
            if target_logits_only:
                return self._target_outputs(hidden_states, labels, shift_labels, outputs, num_items_in_batch)
            positions = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            compute_logits = self._compute_code_logits if codes_only else self.compute_logits
            logits = compute_logits(hidden_states[:, positions])
        loss = None
        if labels is not None or shift_labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                shift_labels=shift_labels,
                vocab_size=self.config.vocab_size,
                num_items_in_batch=num_items_in_batch,
            )
        return _causal_lm_output(loss, logits, outputs)

    def _target_outputs(self, hidden_states, labels, shift_labels, outputs, num_items_in_batch):
        """Loss and logits of the positions that have a target: in training most positions have none."""
        if labels is None and shift_labels is None:
            raise ValueError("`labels` is None; `target_logits_only=True` needs them.")
        check_plain_head(self.language_model)
        targets = nn.functional.pad(labels[:, 1:], (0, 1), value=-100) if shift_labels is None else shift_labels
        is_target = targets != -100
        logits = self.compute_logits(hidden_states[is_target])
        loss = self.loss_function(
            logits=logits,
            labels=None,
            shift_labels=targets[is_target],
            vocab_size=self.config.vocab_size,
            num_items_in_batch=num_items_in_batch,
        )
        return _causal_lm_output(loss, logits, outputs)

    # ------------------------------------------------------------------------- from and to a plain LM
    @classmethod
    def from_language_model(
        cls,
        language_model: PreTrainedModel,
        tokenizer,
        image_tokenizer: PreTrainedModel | None = None,
        codebook: torch.Tensor | None = None,
        image_token_embedding: str = "projected_codes",
        include_image_tokenizer: bool = False,
    ) -> PreTrainedModel:
        """
        Teaches a pretrained language model the image tokens of a tokenizer.

        The given model becomes the sub-module `language_model` (it is not copied). With `"projected_codes"` it stays
        as it is, with `"learned"` its vocabulary is resized.

        Args:
            language_model (`PreTrainedModel`): Any causal LM of transformers.
            tokenizer ([`SeedTokenizer`]): Made from the LM's own tokenizer.
            image_tokenizer ([`SeedImageTokenizer`], *optional*): Gives the codebook.
            codebook (`torch.FloatTensor` of shape `(codebook_size, code_dim)`, *optional*): The codebook instead.
            image_token_embedding (`str`, defaults to `"projected_codes"`): See [`SeedConfig`].
            include_image_tokenizer (`bool`, defaults to `False`): Keep `image_tokenizer` as a sub-module, so that the
                model accepts `pixel_values`.

        Returns:
            [`SeedForCausalLM`]: The model, with freshly initialised new parts.

        Raises:
            ValueError: No codebook for `"projected_codes"`, or the vocabularies do not fit together.
        """
        layout = tokenizer.image_token_layout
        if codebook is None and image_tokenizer is not None:
            codebook = codebook_of(image_tokenizer)
        if codebook is None and image_token_embedding == "projected_codes":
            raise ValueError(
                "`codebook` is None; `image_token_embedding='projected_codes'` needs it or `image_tokenizer`."
            )
        if codebook is not None and codebook.shape[0] != layout.codebook_size:
            raise ValueError(
                f"`codebook` has {codebook.shape[0]} rows; allowed: {layout.codebook_size}, the tokenizer's."
            )
        rows = language_model.get_input_embeddings().weight.shape[0]
        if layout.first_image_token_id > rows:
            raise ValueError(
                f"`tokenizer` has {layout.first_image_token_id} text tokens; allowed: at most {rows}, the rows of "
                "`language_model`."
            )
        if image_token_embedding == "learned":
            rows = max(rows, len(tokenizer))
            language_model.resize_token_embeddings(rows, mean_resizing=True)
        config = SeedConfig(
            text_config=copy.deepcopy(language_model.config),
            image_tokenizer_config=image_tokenizer.config if include_image_tokenizer else None,
            codebook_size=layout.codebook_size,
            num_query_tokens=layout.num_query_tokens,
            codebook_per_query=image_tokenizer is not None and image_tokenizer.config.codebook_per_query,
            code_dim=SeedConfig.code_dim if codebook is None else codebook.shape[1],
            image_token_embedding=image_token_embedding,
            first_image_token_id=layout.first_image_token_id,
            boi_token_id=layout.boi_token_id,
            eoi_token_id=layout.eoi_token_id,
            image_placeholder_token_id=layout.image_placeholder_token_id,
            image_tokenizer_id=tokenizer.image_tokenizer_id,
            image_tokenizer_revision=tokenizer.image_tokenizer_revision,
        )
        model = cls._around(language_model, config)
        if include_image_tokenizer:
            model.image_tokenizer = image_tokenizer.requires_grad_(False)
        if model.image_embeddings is not None:
            device = model.image_embeddings.weight.device
            model.image_embeddings.codebook = codebook.detach().to(device, torch.float32, copy=True)
            model._match_text_vectors()
        return model.eval()

    @torch.no_grad()
    def _match_text_vectors(self):
        """Starts the new vectors with mean and spread of the text vectors, so that training starts smoothly."""
        table = self.language_model.get_input_embeddings().weight[: self.config.first_image_token_id].float()
        mean, std = table.mean(dim=0), table.std(dim=0).mean()
        embeddings = self.image_embeddings
        code_norm = embeddings.codebook.float().pow(2).sum(dim=-1).mean().sqrt().clamp(min=1e-6)
        nn.init.normal_(embeddings.weight, std=float(std / code_norm))
        embeddings.bias.copy_(mean)
        embeddings.special_weight.normal_(std=float(std)).add_(mean)

    def check_tokenizer(self, tokenizer):
        """
        Makes sure that ids mean the same to a tokenizer and to this model.

        Raises:
            ValueError: An id, a size or the vocabulary differs.
        """
        # a tokenizer does not know of the parts of a codebook
        expected = replace(self.config.image_token_layout, codebook_per_query=False)
        layout = tokenizer.image_token_layout
        if layout != expected:
            raise ValueError(f"`tokenizer` has {layout}; allowed: {expected}, this model's.")
        if len(tokenizer) > self.config.vocab_size:
            raise ValueError(
                f"`tokenizer` has {len(tokenizer)} tokens; allowed: at most {self.config.vocab_size}, this model's."
            )

    @torch.no_grad()
    def to_plain_language_model(self) -> PreTrainedModel:
        """
        Copies the model into its plain base class, with image tokens as ordinary vocabulary rows.

        Any server for that architecture can run the result. Merge a LoRA adapter first.

        Returns:
            `PreTrainedModel`: For example an `OPTForCausalLM`, which gives the same logits.
        """
        plain = copy.deepcopy(self.language_model)
        plain.generation_config = copy.deepcopy(self.generation_config)
        if self.image_embeddings is None:
            return plain
        first, vocab_size = self.config.first_image_token_id, self.config.vocab_size
        plain.resize_token_embeddings(vocab_size, mean_resizing=False)
        table = plain.get_input_embeddings().weight
        indices = torch.arange(vocab_size - first, device=table.device)
        rows = self.image_embeddings(indices).to(table.dtype)
        table[first:] = rows
        head = plain.get_output_embeddings()
        if head.weight is not table:
            head.weight[first:] = rows
        if getattr(head, "bias", None) is not None:
            head.bias[first:] = 0
        return plain

    # ------------------------------------------------------------------------------------------ adapters
    def lora_target_modules(self) -> str:
        """Regular expression of the layers that LoRA adapts; see [`peft_seed.lora_target_modules`]."""
        return lora_target_modules(self)

    def lora_settings(self) -> dict:
        """Keyword arguments of PEFT's `LoraConfig`; see [`peft_seed.lora_settings`]."""
        return lora_settings(self)


def _causal_lm_output(loss, logits, outputs):
    """The output, with other outputs of the language model, whose cache is named as in the installed transformers."""
    kept = {name: value for name, value in outputs.items() if name in _KEPT_OUTPUTS}
    return CausalLMOutputWithPast(loss=loss, logits=logits, **kept)


__all__ = ["SeedForCausalLM", "SeedImageTokenEmbedding", "SeedModel", "SeedPreTrainedModel"]
