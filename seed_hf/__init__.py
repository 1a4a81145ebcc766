"""seed_hf: SEED, the image tokenizer that lets a language model see and draw, for the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel

from .configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from .modeling_seed_image_tokenizer import SeedImageTokenizer, SeedImageTokenizerOutput


__version__ = "0.1.0.dev0"

AutoConfig.register(SeedImageTokenizerConfig.model_type, SeedImageTokenizerConfig)
AutoModel.register(SeedImageTokenizerConfig, SeedImageTokenizer)

__all__ = ["SeedImageTokenizer", "SeedImageTokenizerConfig", "SeedImageTokenizerOutput"]
