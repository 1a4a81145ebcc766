"""The training loop that every script under `training/` shares: arguments, schedule, optimizer, steps, resume, logs.

A step is one optimizer update, everywhere. Whatever is random at a step (data order, augmentation, dropout) is derived
from seed, step and place in the global batch, so a checkpoint needs no random states and a resumed run repeats the run
it came from, also on another number of processes.

Example of a whole script:
    ```python
    from dataclasses import dataclass

    import torch
    from transformers import set_seed
    from transformers.hf_argparser import HfArg

    from seed_hf.trainer import RunArguments, TrainingRun, parse_arguments


    @dataclass(frozen=True, kw_only=True)
    class Arguments(RunArguments):
        learning_rate: float = 1e-2
        max_steps: int = 20
        num_inputs: int = HfArg(default=4, help="Width of the input.")


    def main(argv=None):
        args = parse_arguments(Arguments, argv)

        set_seed(args.seed)
        model = torch.nn.Linear(args.num_inputs, 1)
        run = TrainingRun(args, model)
        dataset = [(torch.ones(args.num_inputs) * i, torch.ones(1) * i) for i in range(64)]

        def compute_loss(batch):
            inputs, targets = batch
            loss = torch.nn.functional.mse_loss(run.model(inputs), targets)
            return loss, {"mse": loss}

        run.fit(run.make_batches(dataset), compute_loss)
    ```
"""

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .arguments import RunArguments, parse_arguments
    from .curves import plot_metrics
    from .launch import make_accelerator
    from .run import TrainingRun

_MODULES = {
    "RunArguments": ".arguments",
    "TrainingRun": ".run",
    "make_accelerator": ".launch",
    "parse_arguments": ".arguments",
    "plot_metrics": ".curves",
}

__all__ = ["RunArguments", "TrainingRun", "make_accelerator", "parse_arguments", "plot_metrics"]


def __getattr__(name: str):
    """Imports each name when it is asked for: the `--help` of a script waits for none that it does not need."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
