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
"""The image processor that resizes with torchvision, on a GPU if asked; see the card of stability for its codes."""

from typing import Any

import torch
from transformers import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import SizeDict
from transformers.utils import is_torchvision_available

from .hub_mixin_seed import HubUploadMixin
from .image_processing_seed import _ImageInputsMixin


class SeedImageProcessorTorchvision(HubUploadMixin, _ImageInputsMixin, TorchvisionBackend):
    """
    [`SeedImageProcessor`] with torchvision: the same images in, pixel values that differ by rounding.

    Images are read as by [`SeedImageProcessor`]; they are then resized and normalised by torchvision, on
    `device="cuda"` if asked. A rounding may change a code where two codebook vectors are almost equally near, and a
    language model was trained on the codes of one backend: `python benchmarks/stability.py` measures how many stay the
    same, where torchvision is installed.

    A folder does not say which backend wrote it. It loads as [`SeedImageProcessor`], unless `backend="torchvision"` is
    given to `from_pretrained` of [`SeedProcessor`] or `AutoImageProcessor`, or it is loaded by this class.

    Args:
        kwargs: As in [`SeedImageProcessor`].

    Raises:
        ImportError: torchvision is not installed.
        ValueError: A setting that no image can be processed with.

    Source: `TorchvisionBackend` of transformers.
    """

    def __init__(self, **kwargs):
        if not is_torchvision_available():
            raise ImportError(f"{type(self).__name__} needs torchvision: pip install torchvision")
        super().__init__(**kwargs)

    def _preprocess(
        self, images: Any, do_resize: bool, size: SizeDict, resample: int | None, **kwargs
    ) -> BatchFeature:
        """As in transformers, but each image is resized before the next is loaded."""
        resized: list[torch.Tensor] = [self.resize(image, size, resample) if do_resize else image for image in images]
        return super()._preprocess(resized, do_resize=False, size=size, resample=resample, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Settings under the name of the default backend, as transformers saves those of its two backends."""
        return super().to_dict() | {"image_processor_type": "SeedImageProcessor"}


__all__ = ["SeedImageProcessorTorchvision"]
