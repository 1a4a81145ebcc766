"""Flags that all training scripts share, and the checks on them."""

import argparse
import math

import torch


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all training scripts share.

    A script sets its own defaults afterwards with `parser.set_defaults(learning_rate=..., max_steps=...)`.

    Args:
        parser (`argparse.ArgumentParser`): parser to extend.
    """
    group = parser.add_argument_group("length and batch (a step is one optimizer update)")
    add = group.add_argument
    add("--max_steps", type=int, default=1000, help="optimizer updates in all")
    add("--max_minutes", type=float, default=0, help="stop with a checkpoint after so many minutes; 0 = no limit")
    add("--batch_size", type=int, default=64, help="samples per process and micro-batch")
    add("--gradient_accumulation_steps", type=int, default=1, help="micro-batches per optimizer update")
    add("--num_workers", type=int, default=0, help="data reading processes per process; batches do not depend on it")
    add("--seed", type=int, default=42, help="seed of weights, data order, augmentation and dropout")

    group = parser.add_argument_group("optimizer (AdamW, linear warm-up, then cosine)")
    add = group.add_argument
    add("--learning_rate", type=float, default=1e-4, help="peak, reached after the warm-up")
    add("--min_learning_rate", type=float, default=0.0, help="end of the cosine, reached at max_steps")
    add("--warmup_steps", type=int, default=0, help="optimizer updates of warm-up")
    add("--warmup_learning_rate", type=float, default=0.0, help="start of the warm-up")
    add("--weight_decay", type=float, default=0.05, help="not applied to vectors, biases and norms")
    add("--adam_beta1", type=float, default=0.9, help="decay of the mean of gradients")
    add("--adam_beta2", type=float, default=0.999, help="decay of the mean of squared gradients")
    add("--adam_epsilon", type=float, default=1e-8, help="added to the denominator of AdamW")
    add("--max_grad_norm", type=float, default=0.0, help="clip the norm of the gradient to this; 0 = no clipping")
    add("--mixed_precision", choices=["no", "fp16", "bf16"], help="default: what `accelerate launch` says, else no")

    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--output_dir", type=str, required=True, help="folder of metrics, checkpoints and the final model")
    add("--log_every", type=int, default=10, help="steps between lines of metrics.jsonl (means over these steps)")
    add("--eval_every", type=int, default=0, help="steps between evaluations; 0 = at the end only")
    add("--checkpoint_every", type=int, default=500, help="steps between checkpoints; 0 = at the end only")
    add("--keep_checkpoints", type=int, default=2, help="newest checkpoints to keep; 0 = all")
    add("--resume", type=str, default="auto", help="auto = newest in output_dir; no; or a checkpoint's path")
    add("--report_to", choices=["tensorboard", "wandb", "none"], default="tensorboard", help="tracker")


def check_training_arguments(args: argparse.Namespace) -> None:
    """Refuses values with which a run could only fail later.

    Args:
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    for name in ("max_steps", "batch_size", "gradient_accumulation_steps", "log_every"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name}={getattr(args, name)} must be at least 1.")
    for name, value in vars(args).items():
        if isinstance(value, int | float) and name in _NOT_NEGATIVE and not 0 <= value < math.inf:
            raise ValueError(f"{name}={value} must be finite and not negative.")
    if args.min_learning_rate > args.learning_rate:
        raise ValueError(
            f"min_learning_rate={args.min_learning_rate} must not exceed learning_rate={args.learning_rate}."
        )
    if args.mixed_precision in ("fp16", "bf16") and torch.cuda.is_available():
        if args.mixed_precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ValueError("mixed_precision='bf16' is only emulated, slowly, on this GPU. Allowed: 'no', 'fp16'.")
    elif args.mixed_precision == "fp16":
        raise ValueError("mixed_precision='fp16' would silently do nothing on a CPU. Allowed: 'no', 'bf16'.")


_NOT_NEGATIVE = frozenset(
    "max_minutes num_workers seed learning_rate min_learning_rate warmup_steps warmup_learning_rate weight_decay "
    "adam_epsilon max_grad_norm eval_every checkpoint_every keep_checkpoints".split()
)
