"""What the server of tests/processes.py imports, once for all processes that it starts."""

import gc
import importlib.util

import datasets  # noqa: F401
import pytest  # noqa: F401
import tiny.training  # noqa: F401
import torch._dynamo  # noqa: F401  the first step of an optimizer would import it
import torch.distributed.tensor  # noqa: F401
from PIL import Image

import seed_hf.data.encode
import seed_hf.data.generated
import seed_hf.evaluation
import seed_hf.studio
import seed_hf.trainer.stages.causal_lm
import seed_hf.trainer.stages.codebook
import seed_hf.trainer.stages.qformer
import seed_hf.trainer.targets  # noqa: F401


if importlib.util.find_spec("datatrove"):
    import datatrove.executor  # noqa: F401

Image.init()
# what is imported is no garbage: collectors of the processes need not look at it
gc.collect()
gc.freeze()
