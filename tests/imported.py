"""What the server of tests/processes.py imports, once for all processes that it starts."""

import gc


gc.disable()  # while imports fill the memory with what is no garbage

import importlib.util  # noqa: E402

import datasets  # noqa: E402, F401
import pytest  # noqa: E402, F401
import tiny.training  # noqa: E402, F401
import torch._dynamo  # noqa: E402, F401  the first step of an optimizer would import it
import torch.distributed.tensor  # noqa: E402, F401
from PIL import Image  # noqa: E402

import seed_hf.data.encode  # noqa: E402
import seed_hf.data.generated  # noqa: E402
import seed_hf.evaluation  # noqa: E402
import seed_hf.studio  # noqa: E402
import seed_hf.trainer.stages.causal_lm  # noqa: E402
import seed_hf.trainer.stages.codebook  # noqa: E402
import seed_hf.trainer.stages.qformer  # noqa: E402
import seed_hf.trainer.targets  # noqa: E402, F401


if importlib.util.find_spec("datatrove"):
    import datatrove.executor  # noqa: F401

Image.init()
# nor need collectors of the processes look at it
gc.freeze()
gc.enable()
