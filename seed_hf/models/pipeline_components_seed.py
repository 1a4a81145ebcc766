"""The package's classes that the index of a pipeline may name, for [`SeedPipeline`]'s `from_pretrained`.

diffusers looks for the base class, by which it knows how to load a component, in the same module as the component.
"""

from diffusers import ModelMixin
from transformers import ImageProcessingMixin, PreTrainedModel, ProcessorMixin

from .image_processing_seed import SeedImageProcessor
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
    "SeedImageTokenizer",
    "SeedProcessor",
]
