"""How a training run meets its processes: the `Accelerator`, and signals that ask it to stop."""

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from .arguments import accumulation_steps
from .preflight import check_hardware


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Makes the `Accelerator` of a run and checks that it is as parallel as it was launched.

    Args:
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].

    Returns:
        `Accelerator`: set up for this package's loop.

    Raises:
        RuntimeError: if several processes were launched that do not know of each other.
        ValueError: if the hardware can not do what is asked, or the global batch can not be cut up.
    """
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" and not torch.accelerator.is_available():
        # Accelerate would fall back to plain data parallelism without a word
        raise ValueError("`config_file` asks for DeepSpeed, but there is no accelerator; allowed: only with one.")
    accelerator = Accelerator(
        # Without this hint Accelerate starts processes on CPUs that do not know of each other.
        cpu=launched > 1 and not torch.accelerator.is_available(),
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=accumulation_steps(args, launched),
        step_scheduler_with_optimizer=False,
        log_with=None if args.report_to == "none" else args.report_to,
        project_dir=args.output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if launched != accelerator.num_processes:
        raise RuntimeError(
            f"{launched} processes were launched, but this one knows of {accelerator.num_processes}. See "
            "training/README.md for launches that work; for CPUs, ACCELERATE_USE_CPU=true may be missing."
        )
    check_hardware(accelerator, args)
    if plugin := accelerator.state.deepspeed_plugin:
        # DeepSpeed wants to know before it sees any data, and clips by itself
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = args.batch_size
        plugin.deepspeed_config["gradient_accumulation_steps"] = accelerator.gradient_accumulation_steps
        plugin.deepspeed_config["gradient_clipping"] = args.max_grad_norm
    return accelerator


@contextmanager
def call_on_signals(action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` on SIGTERM and SIGUSR1 (SLURM's warning before the time limit) while the block runs.

    Args:
        action (`Callable[[], None]`): called from the signal handler.
    """
    signals = (signal.SIGTERM, signal.SIGUSR1) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, lambda *_: action()) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
