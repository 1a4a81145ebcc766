"""seed_hf: SEED, the image tokenizer that lets a language model see and draw, for the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from .configuration_seed import SeedConfig
from .configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .image_processing_seed import SeedImageProcessor
from .modeling_seed import SeedForCausalLM
from .modeling_seed_image_tokenizer import SeedImageTokenizer, SeedImageTokenizerOutput
from .tokenization_seed import SeedTokenizer


__version__ = "0.1.0.dev0"

AutoConfig.register(SeedImageTokenizerConfig.model_type, SeedImageTokenizerConfig)
AutoConfig.register(SeedConfig.model_type, SeedConfig)
AutoModel.register(SeedImageTokenizerConfig, SeedImageTokenizer)
AutoModelForCausalLM.register(SeedConfig, SeedForCausalLM)
AutoImageProcessor.register(SeedImageTokenizerConfig, SeedImageProcessor)
AutoTokenizer.register(SeedConfig, fast_tokenizer_class=SeedTokenizer)

__all__ = [
    "SeedConfig",
    "SeedForCausalLM",
    "SeedImageProcessor",
    "SeedImageTokenizer",
    "SeedImageTokenizerConfig",
    "SeedImageTokenizerOutput",
    "SeedTokenizer",
]


def __getattr__(name: str):
    """Imports `SeedPipeline`, and with it diffusers, when it is asked for."""
    if name == "SeedPipeline":
        from .pipeline_seed import SeedPipeline

        return SeedPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
