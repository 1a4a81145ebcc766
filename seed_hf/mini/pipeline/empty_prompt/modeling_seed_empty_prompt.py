"""For diffusers: a module of the package."""

from seed_hf.models import modeling_seed_empty_prompt as module


globals().update({name: value for name, value in vars(module).items() if not name.startswith("__")})
