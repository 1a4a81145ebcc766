"""One load of seed-mini's language model for all tests of the folder."""

import functools

import pytest

from seed_hf.mini import mini_language_model


_load = functools.cache(mini_language_model)


@pytest.fixture(scope="module", autouse=True)
def load_mini():
    """What loads it, and gives the same model to all commands, which leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seed_hf.loading.mini_language_model", _load)
        yield _load
