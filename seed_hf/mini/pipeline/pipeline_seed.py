"""For diffusers: a class of the package."""

from seed_hf.models.pipeline_seed import SeedPipeline  # noqa: F401
