"""For diffusers: a class of the package."""

from seed_hf.models.image_processing_seed import SeedImageProcessor  # noqa: F401
