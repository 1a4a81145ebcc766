"""Settings of every test: offline, OMP_NUM_THREADS (1) threads, fixed seeds. Set before Hugging Face is imported."""

import os
import tempfile


_HF_HOME = tempfile.TemporaryDirectory(prefix="seed_hf_tests_")
os.environ["HF_HOME"] = _HF_HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc  # noqa: E402
import random  # noqa: E402
from functools import partial  # noqa: E402

import pytest  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported is no garbage: collectors, which some libraries call often, need not look at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """First what one worker waits for longest, then all else that starts processes: one worker's server is enough."""
    import torch  # here: the process that only hands out tests to workers does without

    # torch itself takes no more threads than there are cores
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    items.sort(key=lambda item: (item.path.name != "test_processes.py", not hasattr(item.module, "processes")))


def seed_every_generator():
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    # `torch.manual_seed` also writes down where it was called, for each accelerator that is not in use
    (torch.manual_seed if torch.cuda.is_initialized() else torch.default_generator.manual_seed)(0)


@pytest.fixture(autouse=True)
def fixed_seed():
    """A test gives the same numbers alone, in any order and on any worker."""
    seed_every_generator()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    """So does what tests share, whichever of them is the first to ask for it."""
    if fixturedef.scope != "function":
        seed_every_generator()


def redirect(request, url):
    """huggingface_hub 1.x validates cards at the real Hub, whatever its endpoint is."""
    if request.url.host == "huggingface.co":
        request.url = type(request.url)(url).join(request.url.raw_path.decode())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on loopback that every library is connected to, logged in as its owner, with a cache of its own."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session, get_session
    from tiny.hub_server import HubServer

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        url = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", server.owner_token)
        # transformers keeps the client of its first request, which knows the server of another test
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        get_session().event_hooks["request"].append(partial(redirect, url=server.url))
        yield server
        close_session()
