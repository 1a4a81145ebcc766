"""For diffusers: a class of the package."""

from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt  # noqa: F401
