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
"""SEED's image tokenizer: image -> codes -> generation embeddings, features for retrieval, both objectives."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Blip2VisionModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.blip_2.modeling_blip_2 import Blip2TextEmbeddings
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_seed_image_tokenizer import SIZE_LIMITS, SeedImageTokenizerConfig
from .hub_mixin_seed import HubUploadMixin
from .image_tokens_seed import check_codes, check_one_given
from .loading_seed import StrictLoadingMixin
from .losses_seed import contrastive_loss, reconstruction_loss
from .modeling_seed_conv_stem import SeedConvStem, embed_patches
from .modeling_seed_detokenizer import HEAD_CLASSES, SeedCodeDecoder, SeedPrototypes
from .modeling_seed_qformer import SeedCausalQFormer, SeedReverseQFormer
from .modeling_seed_quantizer import NO_CODE, SeedQuantizer, check_finite


@dataclass
class SeedImageTokenizerOutput(ModelOutput):
    r"""
    Args:
        loss (`torch.FloatTensor` of shape `()`, *optional*): The stage's objective, when its targets were given.
        codes (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`): Codes in `[0, codebook_size)`.
        causal_embeds (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`).
        generation_embeds (`torch.FloatTensor` of shape `(batch_size, num_generation_tokens, generation_dim)`, or
            `(batch_size, generation_dim)` for SEED-2).
        reconstructed_embeds (`torch.FloatTensor` of the shape of `causal_embeds`, *optional*): From codes alone.
        image_features, text_features (`torch.FloatTensor` of shape `(batch_size, projection_dim)`, *optional*).
        quantizer_loss, reconstruction_loss, generation_loss, contrastive_loss (`torch.FloatTensor` of shape `()`,
            *optional*): Parts of the loss before their weights.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*): Those of the Causal Q-Former, on request.
    """

    loss: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    causal_embeds: torch.FloatTensor | None = None
    generation_embeds: torch.FloatTensor | None = None
    reconstructed_embeds: torch.FloatTensor | None = None
    image_features: torch.FloatTensor | None = None
    text_features: torch.FloatTensor | None = None
    quantizer_loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    generation_loss: torch.FloatTensor | None = None
    contrastive_loss: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class SeedVQModelOutput(BaseModelOutputWithPooling):
    r"""
    What `encode` gives with `return_dict=True`, under the names that VQ models of transformers have for it.

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`): Causal
            embeddings.
        quantized_last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, code_dim)`): Vectors
            of the codes.
        image_tokens (`torch.LongTensor` of shape `(batch_size, num_query_tokens)`): Codes in `[0, codebook_size)`, and
            not, as elsewhere in this package, ids of a text vocabulary.
        embedding_loss (`torch.FloatTensor` of shape `()`): Distance of the embeddings from these vectors, as stage 2
            has it in its loss.
    """

    quantized_last_hidden_state: torch.FloatTensor | None = None
    image_tokens: torch.LongTensor | None = None
    embedding_loss: torch.FloatTensor | None = None


class SeedImageTokenizer(HubUploadMixin, StrictLoadingMixin, PreTrainedModel):
    r"""
    Frozen ViT, Causal Q-Former, codebook, decoder blocks and generation head, in one model.

    Args:
        config ([`SeedImageTokenizerConfig`]): Sizes and options.

    Source: `models/seed_qformer/qformer_quantizer.py` of the original (branches v1, main); paper sections 2 and 3.

    Example:

    ```python
    >>> import torch
    >>> from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig
    >>> config = SeedImageTokenizerConfig(
    ...     vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    ...                        image_size=28),
    ...     qformer_config=dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4),
    ...     codebook_size=64,
    ... )
    >>> model = SeedImageTokenizer(config).eval()
    >>> codes = model.encode(torch.randn(2, 3, 28, 28))
    >>> codes.shape, model.decode(codes).shape
    (torch.Size([2, 32]), torch.Size([2, 77, 768]))

    ```
    """

    config: SeedImageTokenizerConfig
    config_class = SeedImageTokenizerConfig
    base_model_prefix = "image_tokenizer"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    # beside what its parts name; of a Q-Former's layer they name the attention only
    _no_split_modules = ["Blip2QFormerLayer"]

    def __init__(self, config: SeedImageTokenizerConfig):
        super().__init__(config)
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        # CODEPATH: seed-mini has convolutions before its ViT; SEED's ViT embeds patches
        if config.use_conv_stem:
            self.vision_model.embeddings.patch_embedding = SeedConvStem(
                config.vision_config.hidden_size, takes_inner=config.conv_stem_inner
            )
        # the original's ln_vision has another epsilon than its ViT
        self.vision_model.post_layernorm.eps = config.ln_vision_eps
        self.causal_qformer = SeedCausalQFormer(config)
        self.quantizer = SeedQuantizer(config)
        decoder_args = {"config": config.decoder_config, "num_positions": config.num_query_tokens}
        self.generation_decoder = SeedCodeDecoder._from_config(**decoder_args)
        self.generation_head = HEAD_CLASSES[config.generation_head](config)
        # CODEPATH: seed-mini turns generation embeddings towards known ones; SEED takes them as they are
        self.generation_prototypes = SeedPrototypes(config) if config.num_prototypes else None
        self.reconstruction_decoder = None
        # CODEPATH: what was trained has it; the published SEED weights leave it out
        if config.use_reconstruction_decoder:
            self.reconstruction_decoder = SeedCodeDecoder._from_config(**decoder_args)
        # CODEPATH: SEED-1 stage 1 and seed-mini have a text tower; converted SEED tokenizers do not
        if config.use_text_tower:
            hidden_size = config.qformer_config.hidden_size
            self.vision_projection = nn.Linear(hidden_size, config.projection_dim)
            self.text_projection = nn.Linear(hidden_size, config.projection_dim)
            self.temperature = nn.Parameter(torch.tensor(0.07))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, SeedCausalQFormer | SeedReverseQFormer):
            init.normal_(module.query_tokens, std=std)
        elif isinstance(module, SeedPrototypes):
            init.normal_(module.embeds, std=std)
        elif isinstance(module, Blip2TextEmbeddings):
            # not in checkpoints, so it has to be made anew after loading on the meta device
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
        elif module is self.quantizer.embedding:
            # recognised by its place and not in its parent, since transformers skips modules of registered classes
            # that have no parameters of their own
            bound = 1.0 / module.num_embeddings
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, SeedQuantizer):
            # buffers too: a checkpoint may be without moving averages
            module.init_weights()
        # CODEPATH: SEED-1 stage 1 and seed-mini have a text tower; converted SEED tokenizers do not
        elif isinstance(module, SeedImageTokenizer) and self.config.use_text_tower:
            init.constant_(module.temperature, 0.07)

    def train(self, mode: bool = True):
        """Frozen parts stay in evaluation mode. (The original leaves dropout on in its frozen Q-Former.)"""
        super().train(mode)
        for part in (self.vision_model, self.causal_qformer, self.quantizer):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def get_input_embeddings(self):
        """The patch embedding."""
        return self.vision_model.embeddings.patch_embedding

    def set_input_embeddings(self, value):
        """Replaces the patch embedding."""
        self.vision_model.embeddings.patch_embedding = value

    def get_causal_embeds(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`): RGB, normalised.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`: causal embeddings.

        Raises:
            ValueError: `pixel_values` of another shape.
        """
        return self._run_causal_qformer(pixel_values).last_hidden_state

    def get_vision_features(self, pixel_values: torch.FloatTensor) -> torch.FloatTensor:
        r"""
        What the pretrained part of the ViT gives. No stage trains that part, so training may cache it.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`): RGB, normalised.

        Returns:
            `torch.FloatTensor`: hidden states of the ViT before its last norm (`ln_vision`, which stage 1 trains),
            `(batch_size, num_patches + 1, vision width)`; with `config.use_conv_stem` what
            [`SeedConvStem.get_frozen_features`] gives.

        Raises:
            ValueError: `pixel_values` of another shape.
        """
        self._check_pixel_values(pixel_values)
        vision = self.vision_model
        # CODEPATH: seed-mini has convolutions before its ViT; SEED's ViT embeds patches
        if self.config.use_conv_stem:
            return vision.embeddings.patch_embedding.get_frozen_features(pixel_values)
        return vision.encoder(inputs_embeds=vision.embeddings(pixel_values)).last_hidden_state

    def _run_causal_qformer(self, pixel_values, **kwargs):
        self._check_pixel_values(pixel_values)
        return self.causal_qformer(self.vision_model(pixel_values, return_dict=True).last_hidden_state, **kwargs)

    def _continue_from(self, vision_features, **kwargs):
        vision = self.vision_model
        # CODEPATH: seed-mini has convolutions before its ViT; SEED's ViT embeds patches
        if self.config.use_conv_stem:
            stem = vision.embeddings.patch_embedding
            # few at a time: a CPU is faster with what fits into its caches
            parts = vision_features.to(stem.weight.dtype).split(64)
            patches = torch.cat([stem.projection(stem.continue_from(part)) for part in parts])
            embeds = embed_patches(vision.embeddings, patches)
            vision_features = vision.encoder(inputs_embeds=embeds).last_hidden_state
        return self.causal_qformer(vision.post_layernorm(vision_features), **kwargs)

    def _check_pixel_values(self, pixel_values: torch.FloatTensor) -> None:
        shape, size = tuple(pixel_values.shape), self.config.vision_config.image_size
        if len(shape) != 4 or shape[1:] != (3, size, size):
            raise ValueError(f"`pixel_values` has shape {shape}; allowed: (batch_size, 3, {size}, {size}).")

    @torch.no_grad()
    def encode(
        self, pixel_values: torch.FloatTensor, return_dict: bool = False
    ) -> torch.LongTensor | SeedVQModelOutput:
        r"""
        Turns images into codes.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`): RGB, normalised.
            return_dict (`bool`, defaults to `False`): `True` gives what VQ models of transformers give, with the codes
                as its `image_tokens`.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_query_tokens)`: codes in `[0, codebook_size)`, causal: code
            i depends on queries <= i only. Or a [`SeedVQModelOutput`].

        Raises:
            ValueError: `pixel_values` of another shape; NaN or infinity in an image, in the weights or on the way,
                which have no nearest code. A compiled or exported model gives -1 there, which is no code.
        """
        if not return_dict:
            return check_finite(self.try_encode(pixel_values), self.dtype)
        causal_embeds = self.get_causal_embeds(pixel_values)
        codes = check_finite(self._nearest_codes(causal_embeds, pixel_values), self.dtype)
        quantized = self.quantizer(causal_embeds, moves_codebook=False)
        return SeedVQModelOutput(
            last_hidden_state=causal_embeds,
            quantized_last_hidden_state=quantized.quantized,
            image_tokens=codes,
            embedding_loss=quantized.loss,
        )

    def try_encode(self, pixel_values: torch.FloatTensor) -> torch.LongTensor:
        r"""
        Works as [`~SeedImageTokenizer.encode`], but raises no error for images without codes, which spares the others.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`): RGB, normalised.

        Returns:
            `torch.LongTensor` of shape `(batch_size, num_query_tokens)`: codes, and -1 in an image with NaN or
            infinity or where the dtype has no room for what it computes.
        """
        return self._nearest_codes(self.get_causal_embeds(pixel_values), pixel_values)

    def _nearest_codes(self, causal_embeds, pixel_values) -> torch.LongTensor:
        """Codes of the causal embeddings of images, and -1 where one of both is not finite."""
        codes = self.quantizer(causal_embeds, codes_only=True).codes
        # the largest value of each image too, since a ReLU6 in the stem makes a finite value of infinity
        is_finite = torch.isfinite(pixel_values.abs().amax((1, 2, 3))).to(codes.device)
        return torch.where(is_finite[:, None], codes, NO_CODE)

    def get_code_vectors(self, codes: torch.LongTensor) -> torch.FloatTensor:
        r"""
        Codebook vectors of codes; reads any number of codes, so a prefix works too.

        Args:
            codes (`torch.LongTensor` of any shape): Codes in `[0, codebook_size)`.

        Returns:
            `torch.FloatTensor` of shape `(*codes.shape, code_dim)`.

        Raises:
            ValueError: Codes that are no integers or out of range.
        """
        return self.quantizer.lookup(check_codes(codes, self.config.codebook_size))

    def decode(self, codes: torch.LongTensor) -> torch.FloatTensor:
        r"""
        Turns codes into generation embeddings.

        Args:
            codes (`torch.LongTensor` of shape `(batch_size, num_codes)`): Codes in `[0, codebook_size)`, all
                `num_query_tokens` of an image or its first ones; the mean of a place stands in for the rest.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_generation_tokens, generation_dim)` (SEED-1) or
            `(batch_size, generation_dim)` (SEED-2).

        Raises:
            ValueError: Codes of another shape, no integers, or out of range.
        """
        return self._generate(self._lookup_images(codes))

    def _generate(self, decoded: torch.Tensor) -> torch.Tensor:
        embeds = self.generation_head(self.generation_decoder(decoded))
        return embeds if self.generation_prototypes is None else self.generation_prototypes(embeds)

    @torch.no_grad()
    def use_prototypes(self, embeds: torch.FloatTensor) -> None:
        r"""
        From now on, [`~SeedImageTokenizer.decode`] turns generation embeddings towards known ones that are near.

        Stage 2's objective does not change. A picture decoder has to be trained with what `decode` gives then.

        Args:
            embeds (`torch.FloatTensor` of shape `(num_prototypes, num_generation_tokens, generation_dim)`, or
                `(num_prototypes, generation_dim)` for SEED-2): Targets of the training data, say.

        Raises:
            ValueError: Another shape, none at all, or more than a configuration may state.
        """
        rows, width = self.config.num_generation_tokens, self.config.generation_dim
        shapes = [(rows, width)] + [(width,)] * (rows == 1)
        if tuple(embeds.shape[1:]) not in shapes or not 0 < len(embeds) <= SIZE_LIMITS["num_prototypes"]:
            allowed = f"(1 to {SIZE_LIMITS['num_prototypes']}, {rows}, {width})"
            raise ValueError(f"`embeds` has shape {tuple(embeds.shape)}; allowed: {allowed}.")
        self.config.num_prototypes = len(embeds)
        self.generation_prototypes = SeedPrototypes(self.config).to(self.device, self.dtype)
        self.generation_prototypes.embeds.copy_(embeds.view(-1, rows, width))

    def reconstruct(self, codes: torch.LongTensor) -> torch.FloatTensor:
        r"""
        Turns codes back into causal embeddings, through the reconstruction blocks.

        Args:
            codes (`torch.LongTensor` of shape `(batch_size, num_codes)`): Codes, as in [`~SeedImageTokenizer.decode`].

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`.

        Raises:
            ValueError: The model has no reconstruction blocks; or see [`~SeedImageTokenizer.decode`].
        """
        if self.reconstruction_decoder is None:
            raise ValueError(
                "`codes` cannot be turned into causal embeddings; allowed only with "
                "config.use_reconstruction_decoder=True (the published inference weights leave these blocks out)."
            )
        return self._rebuild(self._lookup_images(codes))

    def _rebuild(self, decoded: torch.Tensor) -> torch.Tensor:
        rebuilt, mean = self.reconstruction_decoder(decoded), self.quantizer.causal_mean
        return rebuilt if mean is None else rebuilt + mean.to(rebuilt.dtype)

    def _keep_prefixes(self, decoded: torch.Tensor) -> torch.Tensor:
        """Means of the places behind a random number of first ones, for a random part of the images."""
        num_images, num_places = decoded.shape[:2]
        counts = torch.randint(1, num_places, (num_images, 1), device=decoded.device)
        is_cut = torch.rand(num_images, 1, device=decoded.device) < self.config.prefix_probability
        is_left_out = is_cut & (torch.arange(num_places, device=decoded.device) >= counts)
        return torch.where(is_left_out[..., None], self.quantizer.mean_decoded().to(decoded), decoded)

    def _lookup_images(self, codes: torch.LongTensor) -> torch.FloatTensor:
        """Codes of images -> what both decoders read, `(batch_size, num_query_tokens, hidden_size)`."""
        num_query_tokens = self.config.num_query_tokens
        codes = check_codes(codes, self.config.codebook_size, num_query_tokens, allow_vector=False, allow_prefix=True)
        decoded = self.quantizer.decode(self.quantizer.lookup(codes))
        if codes.shape[1] == num_query_tokens:
            return decoded
        rest = self.quantizer.mean_decoded()[codes.shape[1] :].to(decoded)
        return torch.cat([decoded, rest.expand(len(decoded), -1, -1)], dim=1)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor | None = None,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        generation_targets: torch.FloatTensor | None = None,
        causal_embeds: torch.FloatTensor | None = None,
        vision_features: torch.FloatTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SeedImageTokenizerOutput | tuple:
        r"""
        Encodes and decodes images; with captions or targets, computes a training objective.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`): RGB, normalised.
            input_ids (`torch.LongTensor` of shape `(batch_size, length)`, *optional*): Captions; alone, for stage 1.
            attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*): 1 = token, 0 = padding.
            generation_targets (`torch.FloatTensor` of the shape that [`~SeedImageTokenizer.decode`] gives,
                *optional*): Asks for the stage-2 objective. transformers' `Trainer` evaluates with them where its
                arguments have `label_names=["generation_targets"]`.
            causal_embeds (`torch.FloatTensor` of shape `(batch_size, num_query_tokens, hidden_size)`, *optional*):
                In place of `pixel_values`, when cached.
            vision_features (`torch.FloatTensor`, *optional*): From [`~SeedImageTokenizer.get_vision_features`], in
                place of `pixel_values`, when cached.
            kwargs: `return_dict=False` gives a tuple; `output_hidden_states`, `output_attentions`.

        Returns:
            [`SeedImageTokenizerOutput`].

        Raises:
            ValueError: None or several of `pixel_values`, `vision_features` and `causal_embeds`.
        """
        check_one_given(pixel_values=pixel_values, vision_features=vision_features, causal_embeds=causal_embeds)
        qformer_outputs = BaseModelOutputWithPooling()
        if causal_embeds is None:
            if vision_features is None:
                qformer_outputs = self._run_causal_qformer(pixel_values, **kwargs)
            else:
                qformer_outputs = self._continue_from(vision_features, **kwargs)
            causal_embeds = qformer_outputs.last_hidden_state
        if generation_targets is not None:
            output = self._codebook_objective(causal_embeds, generation_targets, input_ids, attention_mask)
        elif input_ids is not None:
            output = self._contrastive_objective(causal_embeds, input_ids, attention_mask)
        else:
            quantized = self.quantizer(causal_embeds)
            is_finite = torch.isfinite(quantized.quantized.sum(-1))
            output = SeedImageTokenizerOutput(
                codes=check_finite(torch.where(is_finite, quantized.codes, NO_CODE), self.dtype),
                causal_embeds=causal_embeds,
                generation_embeds=self._generate(quantized.decoded),
                quantizer_loss=quantized.loss,
            )
        layers = {"hidden_states": qformer_outputs.hidden_states, "attentions": qformer_outputs.attentions}
        return SeedImageTokenizerOutput(**output, **layers)  # in the order of its fields: as a tuple the loss is first

    def _contrastive_objective(self, causal_embeds, input_ids, attention_mask) -> SeedImageTokenizerOutput:
        """Stage 1, paper section 3.1."""
        image_features = self._project_image(causal_embeds)
        text_features = self.get_text_features(input_ids, attention_mask, return_dict=True).pooler_output
        loss = self._contrastive_loss(image_features, text_features)
        return SeedImageTokenizerOutput(
            loss=loss,
            causal_embeds=causal_embeds,
            image_features=image_features,
            text_features=text_features,
            contrastive_loss=loss,
        )

    def _contrastive_loss(self, image_features, text_features):
        settings = (self.config.label_smoothing, self.config.contrastive_gather)
        return contrastive_loss(image_features, text_features, self.temperature, *settings)

    def _codebook_objective(self, causal_embeds, targets, input_ids, attention_mask) -> SeedImageTokenizerOutput:
        """Stage 2, paper section 3.2: 5 * quantizer + 2 * reconstruction + 0.5 * generation."""
        if self.reconstruction_decoder is None:
            raise ValueError("`generation_targets` needs config.use_reconstruction_decoder=True; it is False.")
        quantized = self.quantizer(causal_embeds)
        decoded = quantized.decoded
        # CODEPATH: nested dropout, which neither SEED nor seed-mini was trained with
        if self.training and self.config.prefix_probability > 0:
            decoded = self._keep_prefixes(decoded)
        reconstructed = self._rebuild(decoded)
        generation_embeds = self.generation_head(self.generation_decoder(decoded))
        mean = 0.0 if self.quantizer.causal_mean is None else self.quantizer.causal_mean
        shape, allowed = tuple(targets.shape), tuple(generation_embeds.shape)
        if shape != allowed:
            raise ValueError(f"`generation_targets` has shape {shape}; allowed: {allowed}.")
        output = SeedImageTokenizerOutput(
            codes=quantized.codes,
            causal_embeds=causal_embeds,
            generation_embeds=generation_embeds,
            reconstructed_embeds=reconstructed,
            quantizer_loss=quantized.loss,
            reconstruction_loss=reconstruction_loss(reconstructed - mean, causal_embeds - mean),
            generation_loss=F.mse_loss(generation_embeds.float(), targets.float()),
        )
        output.loss = (
            self.config.quantizer_loss_weight * output.quantizer_loss
            + self.config.reconstruction_loss_weight * output.reconstruction_loss
            + self.config.generation_loss_weight * output.generation_loss
        )
        # CODEPATH: seed-mini's stage 2; SEED's own has no such loss
        if self.config.code_contrastive_loss_weight > 0 and input_ids is not None:
            output.image_features = self._project_image(reconstructed)
            output.text_features = self.get_text_features(input_ids, attention_mask, return_dict=True).pooler_output
            output.contrastive_loss = self._contrastive_loss(output.image_features, output.text_features)
            output.loss = output.loss + self.config.code_contrastive_loss_weight * output.contrastive_loss
        weight = self.config.generation_contrastive_loss_weight
        if weight > 0:
            directions = [F.normalize(embeds.float().flatten(1), dim=-1) for embeds in (generation_embeds, targets)]
            output.loss = output.loss + weight * self._contrastive_loss(*directions)
        return output

    # ------------------------------------------------------------------------------------------ retrieval
    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.FloatTensor | None = None, codes: torch.LongTensor | None = None, **kwargs
    ) -> BaseModelOutputWithPooling | tuple:
        r"""
        One vector per image, comparable by dot product with [`~SeedImageTokenizer.get_text_features`].

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, image_size, image_size)`, *optional*): Then
                the feature is taken from the causal embeddings.
            codes (`torch.LongTensor` of shape `(batch_size, num_codes)`, *optional*): Then it is taken from the causal
                embeddings rebuilt from these codes, all or the first ones.
            kwargs: `output_hidden_states` and `output_attentions`, of the Causal Q-Former.

        Returns:
            `BaseModelOutputWithPooling`: `pooler_output` of shape `(batch_size, projection_dim)` is L2-normalised;
            `last_hidden_state` are the causal embeddings.

        Raises:
            ValueError: None or both of the arguments; a model without text tower (or reconstruction blocks).
        """
        check_one_given(pixel_values=pixel_values, codes=codes)
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


__all__ = ["SeedImageTokenizer", "SeedImageTokenizerOutput", "SeedVQModelOutput"]
