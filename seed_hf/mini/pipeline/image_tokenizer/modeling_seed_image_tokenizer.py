"""For diffusers: a class of the package."""

from seed_hf.modeling_seed_image_tokenizer import SeedImageTokenizer  # noqa: F401
