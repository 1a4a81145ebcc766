"""One load of seed-mini for all tests of the folder."""

import pytest
from tiny.mini import MiniLoader


_LOADER = MiniLoader()


@pytest.fixture(scope="module", autouse=True)
def load_mini():
    """What loads its language model, and gives the same models to all commands, which leave them as they are."""
    with pytest.MonkeyPatch.context() as patch:
        _LOADER.replace(patch)
        yield _LOADER.language_model
