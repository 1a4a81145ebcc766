"""Features for retrieval: one vector for an image, its codes or a caption."""

import torch
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple


class RetrievalMixin:
    """The part of [`SeedImageTokenizer`] that compares images with texts; it needs `config.use_text_tower`."""

    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.FloatTensor | None = None, codes: torch.LongTensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling | tuple:
        r"""
        One vector per image, comparable by dot product with [`~SeedImageTokenizer.get_text_features`].

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`, *optional*): Then
                the feature is taken from the causal embeddings.
            codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`, *optional*): Then it is taken from
                the causal embeddings rebuilt from these codes.
            kwargs: `output_hidden_states` and `output_attentions`, of the Causal Q-Former.

        Returns:
            `BaseModelOutputWithPooling`: `pooler_output` of shape `(batch_size, projection_dim)` is L2-normalised;
            `last_hidden_state` are the causal embeddings.

        Raises:
            ValueError: None or both of the arguments; a model without text tower (or reconstruction blocks).
        """
        if (pixel_values is None) == (codes is None):
            raise ValueError("Give exactly one of `pixel_values` and `codes`.")
        if codes is None:
            outputs = self._run_causal_qformer(pixel_values, **kwargs)
        else:
            outputs = BaseModelOutputWithPooling(last_hidden_state=self.reconstruct(codes))
        outputs.pooler_output = self._project_image(outputs.last_hidden_state)
        return outputs

    @can_return_tuple
    def get_text_features(
        self, input_ids: torch.LongTensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling | tuple:
        r"""
        One vector per caption.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, length)`): Ids of the Q-Former's (BERT) vocabulary,
                `[CLS]` first; the paper cuts to 32.
            attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*): 1 = token, 0 = padding.
            kwargs: As in [`~SeedImageTokenizer.get_image_features`].

        Returns:
            `BaseModelOutputWithPooling`: `pooler_output` of shape `(batch_size, projection_dim)` is L2-normalised.

        Raises:
            ValueError: A model without text tower.
        """
        outputs = self.causal_qformer.encode_text(input_ids, attention_mask, **kwargs)
        outputs.pooler_output = F.normalize(self.text_projection(outputs.last_hidden_state[:, 0]).float(), dim=-1)
        return outputs

    def _project_image(self, causal_embeds: torch.Tensor) -> torch.Tensor:
        if not self.config.use_text_tower:
            raise ValueError("Image features need the projections; allowed only with config.use_text_tower=True.")
        return F.normalize(self.vision_projection(causal_embeds[:, -1]).float(), dim=-1)


__all__ = ["RetrievalMixin"]
