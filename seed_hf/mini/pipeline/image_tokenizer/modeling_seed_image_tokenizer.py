"""For diffusers: a class of the package."""

from seed_hf.models.modeling_seed_image_tokenizer import SeedImageTokenizer  # noqa: F401
