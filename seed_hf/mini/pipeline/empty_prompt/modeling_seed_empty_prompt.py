"""For diffusers: a class of the package."""

from seed_hf.modeling_seed_empty_prompt import SeedEmptyPrompt  # noqa: F401
