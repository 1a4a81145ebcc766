"""seed_hf: SEED, the image tokenizer that lets a language model see and draw, for the Hugging Face ecosystem."""

import importlib
import sys
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .models.configuration_seed import SeedConfig
    from .models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
    from .models.image_processing_seed import SeedImageProcessor
    from .models.modeling_seed import SeedForCausalLM, SeedModel
    from .models.modeling_seed_image_tokenizer import SeedImageTokenizer, SeedImageTokenizerOutput
    from .models.pipeline_seed import SeedPipeline
    from .models.processing_seed import SeedProcessor
    from .models.tokenization_seed import SeedTokenizer

__version__ = "0.1.0"

__all__ = [
    "SeedConfig",
    "SeedForCausalLM",
    "SeedImageProcessor",
    "SeedImageTokenizer",
    "SeedImageTokenizerConfig",
    "SeedImageTokenizerOutput",
    "SeedModel",
    "SeedPipeline",
    "SeedProcessor",
    "SeedTokenizer",
]

# Importing the models registers them with the Auto classes. Commands and scripts do so when they start to work: their
# `--help` must not wait for torch.
if "seed_hf_script" not in sys.modules:
    importlib.import_module(".models", __name__)


def __getattr__(name: str):
    """Imports the models when one is asked for; `SeedPipeline` alone brings diffusers."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".models.pipeline_seed" if name == "SeedPipeline" else ".models"
    return getattr(importlib.import_module(module, __name__), name)
