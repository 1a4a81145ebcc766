"""For diffusers: a module of the package."""

from seed_hf.models import image_processing_seed as module


globals().update({name: value for name, value in vars(module).items() if not name.startswith("__")})
