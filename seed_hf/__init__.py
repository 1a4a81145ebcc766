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
from transformers.models.auto import modeling_auto

from .configuration_seed import SeedConfig
from .configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .image_processing_seed import SeedImageProcessor
from .modeling_seed import SeedForCausalLM
from .modeling_seed_image_tokenizer import SeedImageTokenizer, SeedImageTokenizerOutput
from .processing_seed import SeedProcessor
from .tokenization_seed import SeedTokenizer


__version__ = "0.1.0.dev0"

AutoConfig.register(SeedImageTokenizerConfig.model_type, SeedImageTokenizerConfig)
AutoConfig.register(SeedConfig.model_type, SeedConfig)
AutoModel.register(SeedImageTokenizerConfig, SeedImageTokenizer)
for _auto_class in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
    _auto_class.register(SeedConfig, SeedForCausalLM)
# `register` does not fill the plain tables that pipelines and `transformers serve` read
for _table in ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"):
    getattr(modeling_auto, f"MODEL_FOR_{_table}_MAPPING_NAMES").setdefault(
        SeedConfig.model_type, SeedForCausalLM.__name__
    )
AutoImageProcessor.register(SeedImageTokenizerConfig, SeedImageProcessor)
AutoTokenizer.register(SeedConfig, fast_tokenizer_class=SeedTokenizer)
AutoProcessor.register(SeedConfig, SeedProcessor)

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
        from .pipeline_seed import SeedPipeline

        return SeedPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
