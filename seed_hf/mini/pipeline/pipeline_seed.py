"""For diffusers: a class of the package."""

from seed_hf.pipeline_seed import SeedPipeline  # noqa: F401
