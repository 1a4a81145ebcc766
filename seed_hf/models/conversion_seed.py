"""How [`SeedForCausalLM`] is made from a plain language model, and turned back into one."""

import copy
import re
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_seed import SeedConfig
from .modeling_seed_embedding import codebook_of


# What transformers' quantizers write on the model that they load; PEFT, trainers and saving read it on the outermost
_SET_BY_LOADING = ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit")


class SeedConversionMixin:
    """Construction on a pretrained LM, checks of what is put together, LoRA targets, export."""

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
            codebook (`torch.FloatTensor` of shape `(codebook_size, code_dim)`, *optional*): Instead of it.
            image_token_embedding (`str`, defaults to `"projected_codes"`): See [`SeedConfig`].
            include_image_tokenizer (`bool`, defaults to `False`): Keep `image_tokenizer` as a sub-module, so that the
                model accepts `pixel_values`.

        Returns:
            [`SeedForCausalLM`]: the new parts are freshly initialised.

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

    def attach_image_tokenizer(self, image_tokenizer: PreTrainedModel):
        """
        Makes `image_tokenizer` a sub-module, frozen, so that the model accepts `pixel_values`.

        Args:
            image_tokenizer ([`SeedImageTokenizer`]): The one whose codes this model was trained on.

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
        self.image_tokenizer = image_tokenizer.to(self.device).requires_grad_(False).eval()
        self.config.image_tokenizer_config = image_tokenizer.config

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

    def lora_target_modules(self) -> str:
        """
        Regular expression of every linear layer of the language model, for PEFT's `target_modules`.

        Layer names alone (`"fc1"`) or `"all-linear"` would also match the image tokenizer's layers.
        """
        head = self.get_output_embeddings()
        head_name = next(name for name, module in self.language_model.named_modules() if module is head)
        names = set()
        for name, module in self.language_model.named_modules():
            is_linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
            # where an adapter is in place already, PEFT keeps the layer itself as `base_layer`
            if is_linear and not name.startswith(head_name) and ".lora_" not in name:
                names.add(name.removesuffix(".base_layer").rsplit(".", 1)[-1])
        return rf"language_model\..*\.({'|'.join(sorted(map(re.escape, names)))})"

    def lora_settings(self) -> dict:
        """
        Keyword arguments of PEFT's `LoraConfig` that say where adapters go and what else is trained.

        Returns:
            `dict`: `target_modules` (see [`~SeedForCausalLM.lora_target_modules`]), and the image tokens' own weights:
            `modules_to_save` with projected codes, `trainable_token_indices` with learned rows.
        """
        settings = {"target_modules": self.lora_target_modules()}
        if self.image_embeddings is not None:
            return settings | {"modules_to_save": ["image_embeddings"]}
        layout = self.config.image_token_layout
        # `<image>` too, though it is never embedded: its logit would differ with every new start of the table
        specials = (layout.boi_token_id, layout.eoi_token_id, layout.image_placeholder_token_id)
        rows = list(range(layout.first_image_token_id, max(layout.end_image_token_id, *(i + 1 for i in specials))))
        if self.config.tie_word_embeddings:
            return settings | {"trainable_token_indices": rows}
        names = {id(module): name.rsplit(".", 1)[-1] for name, module in self.named_modules()}
        ends = (self.get_input_embeddings(), self.get_output_embeddings())
        return settings | {"trainable_token_indices": {names[id(module)]: rows for module in ends}}

    @torch.no_grad()
    def to_plain_language_model(self) -> PreTrainedModel:
        """
        The same model as its plain base class, with image tokens as ordinary vocabulary rows.

        Any server for that architecture can run the result. Merge a LoRA adapter first. The model is copied.

        Returns:
            `PreTrainedModel`: for example `OPTForCausalLM`, giving the same logits.
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
