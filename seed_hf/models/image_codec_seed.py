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
"""Turns images into codes and back, with the models that a tokenizer's folder names."""

import torch
from transformers import AutoImageProcessor, AutoModel


class ImageCodec:
    """
    The image tokenizer and the pipeline of the repository that a tokenizer names, fetched on first use.

    Args:
        tokenizer ([`SeedTokenizer`]): Names the repository by `image_tokenizer_id` and `image_tokenizer_revision`.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.image_tokenizer = self.image_processor = self.pipeline = None

    def __getstate__(self):
        """A copy, or one for another process, fetches its own models."""
        return dict.fromkeys(vars(self)) | {"tokenizer": self.tokenizer}

    def encode(
        self, images, image_tokenizer=None, image_processor=None, trust_remote_code: bool | None = None
    ) -> torch.LongTensor:
        """
        Images to codes.

        Args:
            images: One image or a list, in any form that the image processor takes.
            image_tokenizer ([`SeedImageTokenizer`], *optional*): One to use from now on instead of the named one.
            image_processor ([`SeedImageProcessor`], *optional*): One to use from now on instead of the named one.
            trust_remote_code (`bool`, *optional*): Whether the named repository may bring its code: needed where this
                package is not installed.

        Returns:
            `torch.LongTensor` of shape `(num_images, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: No image tokenizer is named or given.
        """
        self.image_tokenizer = image_tokenizer or self.image_tokenizer
        self.image_processor = image_processor or self.image_processor
        self._load_image_tokenizer(trust_remote_code)
        if self.image_processor is None:
            self.image_processor = self._load(AutoImageProcessor, "image_processor", trust_remote_code)
        return self.encode_pixels(self.image_processor(images, return_tensors="pt")["pixel_values"], trust_remote_code)

    def encode_pixels(self, pixel_values: torch.Tensor, trust_remote_code: bool | None = None) -> torch.LongTensor:
        """
        What an image processor returned to codes.

        Args:
            pixel_values (`torch.Tensor` of shape `(num_images, 3, height, width)`): Normalised pixels.
            trust_remote_code (`bool`, *optional*): As in `encode`.

        Returns:
            `torch.LongTensor` of shape `(num_images, num_query_tokens)`: codes in `[0, codebook_size)`.

        Raises:
            ValueError: No image tokenizer is named or given.
        """
        self._load_image_tokenizer(trust_remote_code)
        weight = next(self.image_tokenizer.parameters())
        with torch.no_grad():
            return self.image_tokenizer.encode(pixel_values.to(weight.device, weight.dtype))

    def decode(self, codes, pipeline=None, trust_remote_code: bool | None = None, **kwargs) -> list:
        """
        Codes to images.

        Args:
            codes (`torch.LongTensor` of shape `(num_images, num_codes)` or `(num_query_tokens,)`): Codes, all of each
                image or its first ones.
            pipeline ([`SeedPipeline`], *optional*): Pipeline to use from now on instead of the named one.
            trust_remote_code (`bool`, *optional*): As in `encode`.
            kwargs: For the pipeline's call, such as `generator` or `num_inference_steps`.

        Returns:
            `list[PIL.Image.Image]`.

        Raises:
            ValueError: Wrong codes, or no image tokenizer is named or given.
        """
        codes = self.tokenizer.image_token_layout.check_image_codes(codes, allow_prefix=True)
        self.pipeline = pipeline or self.pipeline
        if self.pipeline is None:
            settings = {"revision": self.tokenizer.image_tokenizer_revision}
            try:
                from seed_hf.models.pipeline_seed import SeedPipeline as Pipeline
            except ImportError:
                from diffusers import DiffusionPipeline as Pipeline

                settings["trust_remote_code"] = trust_remote_code
            self.pipeline = Pipeline.from_pretrained(self._repository(), **settings)
        return self.pipeline(codes=codes, **kwargs).images

    def _load_image_tokenizer(self, trust_remote_code):
        if self.image_tokenizer is None:
            # half precision changes some codes; these are to be those of the pipeline, which loads in float32
            self.image_tokenizer = self._load(AutoModel, "image_tokenizer", trust_remote_code).float().eval()

    def _load(self, auto_class, subfolder, trust_remote_code):
        return auto_class.from_pretrained(
            self._repository(),
            subfolder=subfolder,
            revision=self.tokenizer.image_tokenizer_revision,
            trust_remote_code=trust_remote_code,
        )

    def _repository(self) -> str:
        if self.tokenizer.image_tokenizer_id is None:
            raise ValueError(
                "`image_tokenizer_id` is None; allowed: a folder or repository with the image tokenizer, or give the "
                "parts to `encode_image` and `decode_image`."
            )
        return self.tokenizer.image_tokenizer_id


__all__ = ["ImageCodec"]
