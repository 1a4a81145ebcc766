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
"""Vectors and logits of image tokens, from the frozen codebook."""

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_seed import NUM_SPECIAL_TOKENS


# Fields by which some LMs scale or squash their logits; our head would have to repeat what their `forward` does
_LOGIT_TRANSFORMS = {
    "final_logit_softcapping": (None,),
    "logit_scale": (None, 1, 1.0),
    "logits_scaling": (None, 1, 1.0),
    "lm_head_multiplier": (None, 1, 1.0),
    "output_multiplier": (None, 1, 1.0),
    "output_logit_soft_cap": (None,),
    "softcap": (None,),
}


class SeedImageTokenEmbedding(nn.Module):
    r"""
    Vectors of the image tokens and the three special tokens, used at both ends of the LM.

    A code's vector is one fully-connected layer over its frozen codebook vector; `<img>`, `</img>` and `<image>`
    have a row each.

    Args:
        codebook_size (`int`): Number of codes.
        code_dim (`int`): Width of a codebook vector.
        embedding_dim (`int`): Width of the LM's token vectors.

    The codebook is a buffer of this module, so that a LoRA adapter, which saves the module whole, is complete by
    itself.

    Source: paper section 3 (input); the same layer at the output is our reading of section 1.
    """

    def __init__(self, codebook_size: int, code_dim: int, embedding_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(embedding_dim, code_dim))
        self.bias = nn.Parameter(torch.empty(embedding_dim))
        self.special_weight = nn.Parameter(torch.empty(NUM_SPECIAL_TOKENS, embedding_dim))
        self.codebook = nn.Buffer(torch.zeros(codebook_size, code_dim))

    def forward(self, inputs: torch.Tensor, as_logits: bool = False) -> torch.Tensor:
        """
        Token vectors, or with `as_logits` their products with hidden states.

        One `forward` for both so that PEFT's `modules_to_save` can stand in for this module.

        Args:
            inputs (`torch.Tensor`): Indices, `torch.LongTensor` of any shape with values in
                `[0, codebook_size + 3)`, or hidden states, `(..., embedding_dim)`.
            as_logits (`bool`, defaults to `False`): Whether `inputs` are hidden states.

        Returns:
            `torch.FloatTensor` of shape `(*inputs.shape, embedding_dim)`, or `(..., codebook_size + 3)`.
        """
        codebook = self.codebook.to(self.weight.dtype)
        if as_logits:
            # adapters keep this module in float32 on a language model in half precision
            inputs = inputs.to(self.weight.dtype)
            # h . (W e + b) = (W^T h) . e + h . b: never builds the codebook_size x embedding_dim table
            code_logits = nn.functional.linear(inputs @ self.weight, codebook) + (inputs @ self.bias)[..., None]
            return torch.cat([code_logits, nn.functional.linear(inputs, self.special_weight)], dim=-1)
        codebook_size = codebook.shape[0]
        code_vectors = nn.functional.linear(codebook[inputs.clamp(max=codebook_size - 1)], self.weight, self.bias)
        special_vectors = self.special_weight[(inputs - codebook_size).clamp(min=0)]
        is_code = (inputs < codebook_size)[..., None]
        return torch.where(is_code, code_vectors, special_vectors.to(code_vectors.dtype))


class SeedOutputEmbeddings(nn.Module):
    """
    The head over the whole vocabulary, as trainers and PEFT look for it: text rows, codes, special tokens.

    It has no parameters of its own: `weight` is put together from the language model's head and the vectors of the
    image tokens, with their gradients.

    Args:
        model ([`SeedForCausalLM`]): Has both.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        # in a tuple, so that it is no sub-module; PEFT may replace the parts, which are therefore looked up each time
        self._model = (model,)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Hidden states `(..., embedding_dim)` to logits `(..., vocab_size)`."""
        return self._model[0].compute_logits(hidden_states)

    @property
    def weight(self) -> torch.Tensor:
        """All rows, `(vocab_size, embedding_dim)`, in the dtype of the language model's head."""
        (model,) = self._model
        first = model.config.first_image_token_id
        text = model.language_model.get_output_embeddings().weight[:first]
        indices = torch.arange(model.config.vocab_size - first, device=text.device)
        return torch.cat([text, model.image_embeddings(indices).to(text)])

    @property
    def bias(self) -> torch.Tensor | None:
        """The language model's own bias, 0 for image tokens; None where it has none."""
        (model,) = self._model
        bias = getattr(model.language_model.get_output_embeddings(), "bias", None)
        if bias is None:
            return None
        bias = bias[: model.config.first_image_token_id]
        return nn.functional.pad(bias, (0, model.config.vocab_size - len(bias)))


@torch.no_grad()
def codebook_of(image_tokenizer: PreTrainedModel) -> torch.Tensor:
    """Every code's vector as the quantizer looks it up, `(codebook_size, code_dim)`."""
    codes = torch.arange(image_tokenizer.config.codebook_size, device=image_tokenizer.device)
    return image_tokenizer.get_code_vectors(codes)


def check_plain_head(language_model: PreTrainedModel):
    """Raises `ValueError` for an LM whose logits are more than its head applied to its last hidden states."""
    for name, value in _logit_transforms(language_model):
        raise ValueError(
            f"`text_config.{name}` is {value!r}; allowed with 'projected_codes' and `target_logits_only`: "
            f"{_LOGIT_TRANSFORMS[name]}. Use `image_token_embedding='learned'`."
        )


def check_plain_embeddings(language_model: PreTrainedModel):
    """Raises `ValueError` for an LM whose token vectors are more than rows of a table, as image vectors are."""
    table = language_model.get_input_embeddings()
    if type(table) is not nn.Embedding:
        raise ValueError(
            f"`text_config` is a {type(language_model.config).__name__}, whose token vectors come from a "
            f"{type(table).__name__}; allowed with 'projected_codes': a plain table. Use "
            "`image_token_embedding='learned'`."
        )


def head_rows(language_model: PreTrainedModel, start: int = 0, end: int | None = None):
    """
    Rows of the head that give the same logits as the whole head, at their places.

    Args:
        language_model (`PreTrainedModel`): The language model.
        start, end (`int`): The rows, from `start` up to `end`.

    Returns:
        Weight and bias (or `None`) of the rows; `None` for a head that is more than an ordinary linear layer: one that
        adapters, quantizers or hooks have changed, or whose logits are scaled.
    """
    head = language_model.get_output_embeddings()
    is_linear = type(head) is nn.Linear and type(head.weight) is nn.Parameter
    has_hooks = is_linear and (head._forward_hooks or head._forward_pre_hooks or hasattr(head, "_hf_hook"))
    if not is_linear or has_hooks or any(_logit_transforms(language_model)):
        return None
    return head.weight[start:end], None if head.bias is None else head.bias[start:end]


def _logit_transforms(language_model: PreTrainedModel):
    """Name and value of each setting by which the LM changes what its head gives."""
    for name, plain_values in _LOGIT_TRANSFORMS.items():
        value = getattr(language_model.config, name, None)
        if value not in plain_values:
            yield name, value


__all__ = [
    "SeedImageTokenEmbedding",
    "SeedOutputEmbeddings",
    "check_plain_embeddings",
    "check_plain_head",
    "codebook_of",
    "head_rows",
]
