"""What travels to the Hub: each file imports its siblings only, so that copies of them load without the package.

Importing this package registers the classes with the Auto classes of transformers; diffusers is not imported.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
)

from .configuration_seed import SeedConfig
from .configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .image_processing_seed import SeedImageProcessor
from .image_processing_torchvision_seed import SeedImageProcessorTorchvision
from .modeling_seed import SeedForCausalLM, SeedModel
from .modeling_seed_image_tokenizer import SeedImageTokenizer, SeedImageTokenizerOutput
from .processing_seed import SeedProcessor
from .tokenization_seed import SeedTokenizer


# what loads by Auto class where this package is installed
AutoConfig.register(SeedImageTokenizerConfig.model_type, SeedImageTokenizerConfig)
AutoConfig.register(SeedConfig.model_type, SeedConfig)
AutoModel.register(SeedImageTokenizerConfig, SeedImageTokenizer)
AutoModel.register(SeedConfig, SeedModel)
for _auto_class in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
    _auto_class.register(SeedConfig, SeedForCausalLM)
AutoImageProcessor.register(
    SeedImageTokenizerConfig,
    image_processor_classes={"pil": SeedImageProcessor, "torchvision": SeedImageProcessorTorchvision},
)
AutoTokenizer.register(SeedConfig, fast_tokenizer_class=SeedTokenizer)
AutoProcessor.register(SeedConfig, SeedProcessor)

# what `save_pretrained` copies the code of, so that it loads where this package is not installed
SeedConfig.register_for_auto_class()
SeedImageTokenizerConfig.register_for_auto_class()
SeedModel.register_for_auto_class("AutoModel")
SeedForCausalLM.register_for_auto_class("AutoModelForCausalLM")
SeedImageTokenizer.register_for_auto_class("AutoModel")
SeedImageProcessor.register_for_auto_class()
SeedTokenizer.register_for_auto_class()
SeedProcessor.register_for_auto_class()

__all__ = [
    "SeedConfig",
    "SeedForCausalLM",
    "SeedImageProcessor",
    "SeedImageProcessorTorchvision",
    "SeedImageTokenizer",
    "SeedImageTokenizerConfig",
    "SeedImageTokenizerOutput",
    "SeedModel",
    "SeedProcessor",
    "SeedTokenizer",
]
