"""seed_hf: SEED, the image tokenizer that lets a language model see and draw, for the Hugging Face ecosystem."""

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

from .models.configuration_seed import SeedConfig
from .models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .models.image_processing_seed import SeedImageProcessor
from .models.modeling_seed import SeedForCausalLM
from .models.modeling_seed_image_tokenizer import SeedImageTokenizer, SeedImageTokenizerOutput
from .models.processing_seed import SeedProcessor
from .models.tokenization_seed import SeedTokenizer


__version__ = "0.1.0.dev0"

# what loads by Auto class where this package is installed
AutoConfig.register(SeedImageTokenizerConfig.model_type, SeedImageTokenizerConfig)
AutoConfig.register(SeedConfig.model_type, SeedConfig)
AutoModel.register(SeedImageTokenizerConfig, SeedImageTokenizer)
for _auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
    _auto_class.register(SeedConfig, SeedForCausalLM)
AutoImageProcessor.register(SeedImageTokenizerConfig, SeedImageProcessor)
AutoTokenizer.register(SeedConfig, fast_tokenizer_class=SeedTokenizer)
AutoProcessor.register(SeedConfig, SeedProcessor)

# what `save_pretrained` copies the code of, so that it loads where this package is not installed
SeedConfig.register_for_auto_class()
SeedImageTokenizerConfig.register_for_auto_class()
SeedForCausalLM.register_for_auto_class("AutoModelForCausalLM")
SeedImageTokenizer.register_for_auto_class("AutoModel")
SeedImageProcessor.register_for_auto_class()
SeedTokenizer.register_for_auto_class()
SeedProcessor.register_for_auto_class()

__all__ = [
    "SeedConfig",
    "SeedForCausalLM",
    "SeedImageProcessor",
    "SeedImageTokenizer",
    "SeedImageTokenizerConfig",
    "SeedImageTokenizerOutput",
    "SeedProcessor",
    "SeedTokenizer",
]


def __getattr__(name: str):
    """Imports `SeedPipeline`, and with it diffusers, when it is asked for."""
    if name == "SeedPipeline":
        from .models.pipeline_seed import SeedPipeline

        return SeedPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
