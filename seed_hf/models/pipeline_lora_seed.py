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
"""LoRA of Stable Diffusion for the UNet of a pipeline that has no text encoder."""

from diffusers.loaders import StableDiffusionLoraLoaderMixin


class UnetLoraLoaderMixin(StableDiffusionLoraLoaderMixin):
    """
    `load_lora_weights` and all that belongs to it, as in Stable Diffusion, for the UNet alone.

    SEED-1 draws with the UNet of Stable Diffusion v1, so that LoRA for that, such as LCM-LoRA, work as they are.
    """

    text_encoder = None  # the loader of diffusers asks for it, and passes over components that are None

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict, **kwargs):
        """
        As in diffusers, but from safetensors only.

        Args:
            pretrained_model_name_or_path_or_dict (`str`, `os.PathLike` or `dict`): Folder, repository id, or tensors.
            kwargs: As in diffusers.

        Returns:
            `tuple`: The tensors by name, and what diffusers reads beside them.

        Raises:
            ValueError: There are weights for a text encoder.
        """
        loaded = super().lora_state_dict(pretrained_model_name_or_path_or_dict, **(kwargs | {"use_safetensors": True}))
        if any(name.startswith(f"{cls.text_encoder_name}.") for name in loaded[0]):
            raise ValueError(
                f"The LoRA has weights for `{cls.text_encoder_name}`, which this pipeline does not have; allowed: "
                f"those for `{cls.unet_name}` only."
            )
        return loaded

    @classmethod
    def load_lora_into_text_encoder(cls, *args, **kwargs):
        """Does nothing, where diffusers would warn that it has found nothing to load."""
