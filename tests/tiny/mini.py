"""One load of each part of seed-mini for many commands, which leave what they load as it is."""

import functools
from pathlib import Path

import pytest
from replaced import Replaced

from seed_hf import loading
from seed_hf.mini import mini_language_model, mini_pipeline_path


class MiniLoader:
    """Loads each part of seed-mini once; all else is loaded as ever, each time anew."""

    def __init__(self):
        self.language_model = functools.cache(mini_language_model)
        self.pipeline = self._once(loading._pipeline_at, Path(mini_pipeline_path()))
        self.image_tokenizer = self._once(loading.image_tokenizers.load_image_tokenizer, "seed-mini")

    def _once(self, load, mini):
        cached = functools.cache(load)
        return lambda name, **settings: (cached if name == mini else load)(name, **settings)

    def replace(self, patch: pytest.MonkeyPatch) -> None:
        """Commands load by this while the patch lasts."""
        image_tokenizers = Replaced(loading.image_tokenizers, load_image_tokenizer=self.image_tokenizer)
        patch.setattr(loading, "image_tokenizers", image_tokenizers)
        patch.setattr(loading, "mini_language_model", self.language_model)
        patch.setattr(loading, "_pipeline_at", self.pipeline)
