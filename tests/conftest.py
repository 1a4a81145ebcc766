"""Settings of every test: offline, one thread, fixed seeds. Set before any Hugging Face library is imported."""

import os
import tempfile


_HF_HOME = tempfile.TemporaryDirectory(prefix="seed_hf_tests_")
os.environ["HF_HOME"] = _HF_HOME.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seed():
    """Seed every generator, so that a test gives the same numbers alone, in any order and on any worker."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
