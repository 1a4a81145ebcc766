"""For diffusers: a class of the package."""

from seed_hf.image_processing_seed import SeedImageProcessor  # noqa: F401
