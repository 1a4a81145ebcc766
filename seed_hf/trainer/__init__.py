"""The training loop that every script under `training/` shares: arguments, schedule, optimizer, steps, resume, logs.

A step is one optimizer update, everywhere. Whatever is random at a step (data order, augmentation, dropout) is derived
from seed, step and place in the global batch, so a checkpoint needs no random states and a resumed run repeats the run
it came from, also on another number of processes.

Example of a whole script:
    ```python
    import argparse

    import torch
    from transformers import set_seed

    from seed_hf.trainer import TrainingRun, add_training_arguments, parse_training_arguments


    def main(argv=None):
        parser = argparse.ArgumentParser()
        add_training_arguments(parser)
        parser.set_defaults(learning_rate=1e-2, max_steps=20)
        args = parse_training_arguments(parser, argv)

        set_seed(args.seed)
        model = torch.nn.Linear(4, 1)
        run = TrainingRun(args, model)
        dataset = [(torch.ones(4) * i, torch.ones(1) * i) for i in range(64)]

        def compute_loss(batch):
            inputs, targets = batch
            loss = torch.nn.functional.mse_loss(run.model(inputs), targets)
            return loss, {"mse": loss}

        run.fit(run.make_batches(dataset), compute_loss)
    ```
"""

from .arguments import add_training_arguments, parse_training_arguments
from .launch import make_accelerator
from .metrics import plot_metrics
from .run import TrainingRun


__all__ = ["TrainingRun", "add_training_arguments", "make_accelerator", "parse_training_arguments", "plot_metrics"]
