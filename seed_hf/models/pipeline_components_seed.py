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
"""The package's classes that the index of a pipeline may name, for [`SeedPipeline`]'s `from_pretrained`.

diffusers looks for the base class, by which it knows how to load a component, in the same module as the component.
"""

from diffusers import ModelMixin
from transformers import ImageProcessingMixin, PreTrainedModel, ProcessorMixin

from .image_processing_seed import SeedImageProcessor
from .image_processing_torchvision_seed import SeedImageProcessorTorchvision
from .modeling_seed import SeedForCausalLM
from .modeling_seed_empty_prompt import SeedEmptyPrompt
from .modeling_seed_image_tokenizer import SeedImageTokenizer
from .processing_seed import SeedProcessor


__all__ = [
    "ImageProcessingMixin",
    "ModelMixin",
    "PreTrainedModel",
    "ProcessorMixin",
    "SeedEmptyPrompt",
    "SeedForCausalLM",
    "SeedImageProcessor",
    "SeedImageProcessorTorchvision",
    "SeedImageTokenizer",
    "SeedProcessor",
]
