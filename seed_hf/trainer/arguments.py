"""Flags that all training scripts share, the recipe files that hold values for them, and the checks on them."""

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that all training scripts share.

    A script sets its own defaults afterwards with `parser.set_defaults(learning_rate=..., max_steps=...)`.

    Args:
        parser (`argparse.ArgumentParser`): parser to extend.
    """
    parser.add_argument("--recipe", help="YAML file of flags (see training/recipes); flags of the command line win")
    group = parser.add_argument_group("length and batch (a step is one optimizer update)")
    add = group.add_argument
    add("--max_steps", type=int, default=1000, help="optimizer updates in all")
    add("--max_minutes", type=float, default=0, help="stop with a checkpoint after so many minutes; 0 = no limit")
    add("--batch_size", type=int, default=64, help="samples per process and micro-batch")
    global_help = "samples per optimizer update; accumulation makes up for missing processes; 0 = as it comes out"
    add("--global_batch_size", type=int, default=0, help=global_help)
    add("--gradient_accumulation_steps", type=int, default=1, help="micro-batches per update, without the flag above")
    add("--num_workers", type=int, default=0, help="data reading processes per process; batches do not depend on it")
    unreadable_help = "stop when more than this share of the samples cannot be read; else they are skipped and logged"
    add("--max_unreadable_share", type=float, default=0.01, help=unreadable_help)
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
    add("--report_to", choices=["tensorboard", "wandb", "all", "none"], default="tensorboard", help="tracker")


def parse_training_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses a command line after the recipe that it names, so that its own flags win.

    Args:
        parser (`argparse.ArgumentParser`): with the flags of [`add_training_arguments`].
        argv (`Sequence[str]`, *optional*): the command line; that of this process by default.

    Returns:
        `argparse.Namespace`: the flags.

    Raises:
        ValueError: if the recipe can not be read or names a flag that the parser does not know.

    Example:
        ```python
        >>> import argparse, tempfile
        >>> from seed_hf.trainer.arguments import add_training_arguments, parse_training_arguments

        >>> parser = argparse.ArgumentParser()
        >>> add_training_arguments(parser)
        >>> with tempfile.NamedTemporaryFile("w", suffix=".yaml") as recipe:
        ...     _ = recipe.write("max_steps: 7  # ours\\nbatch_size: 2  # ours")
        ...     recipe.flush()
        ...     argv = ["--recipe", recipe.name, "--output_dir", "out", "--batch_size", "4"]
        ...     args = parse_training_arguments(parser, argv)
        >>> args.max_steps, args.batch_size
        (7, 4)

        ```
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe")
    recipe = finder.parse_known_args(argv)[0].recipe
    # an abbreviated `--rec` would pass the finder by and then count for nothing
    parser.allow_abbrev = False
    return parser.parse_args((_recipe_flags(recipe, parser) if recipe else []) + argv)


def read_recipe(path: str | os.PathLike) -> dict:
    """Reads a recipe.

    Args:
        path (`str` or `os.PathLike`): YAML file, a mapping from the names of flags (without dashes) to their values:
            `true` for a switch, a list for a flag with several values. `based_on` names a recipe, relative to this
            one, whose values count where this one has none.

    Returns:
        `dict`: value by flag.

    Raises:
        ValueError: if it is no such file.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"recipe={str(path)!r} can not be read as YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe={str(path)!r} holds no mapping from flags to values.")
    base = recipe.pop("based_on", None)
    return {**(read_recipe(Path(path).parent / base) if base else {}), **recipe}


def _recipe_flags(path: str, parser: argparse.ArgumentParser) -> list[str]:
    """The command line that says the same, so that argparse checks types and choices."""
    known = {option for action in parser._actions for option in action.option_strings}
    flags = []
    for name, value in read_recipe(path).items():
        if f"--{name}" not in known or name == "recipe":
            raise ValueError(f"recipe={path!r} names {name!r}, which is no flag of this script.")
        if value is True:
            flags.append(f"--{name}")
        elif value is not False:
            values = [str(part) for part in value] if isinstance(value, list) else [str(value)]
            # with "=", so that a value may begin with a dash
            flags += [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]
    return flags


def accumulation_steps(args: argparse.Namespace, num_processes: int) -> int:
    """Counts the micro-batches of one optimizer update.

    Args:
        args (`argparse.Namespace`): parsed flags of [`add_training_arguments`].
        num_processes (`int`): processes of this run.

    Returns:
        `int`: `gradient_accumulation_steps`, or what brings `batch_size` x processes up to `global_batch_size`.

    Raises:
        ValueError: if `global_batch_size` is no multiple of `batch_size` x processes, or both flags were given.
    """
    if not args.global_batch_size:
        return args.gradient_accumulation_steps
    if args.gradient_accumulation_steps != 1:
        raise ValueError(
            f"global_batch_size={args.global_batch_size} and gradient_accumulation_steps="
            f"{args.gradient_accumulation_steps} were both given; allowed: one of them."
        )
    per_micro_step = args.batch_size * num_processes
    if args.global_batch_size % per_micro_step:
        sizes = range(args.batch_size, 0, -1)
        fitting = next((size for size in sizes if args.global_batch_size % (size * num_processes) == 0), None)
        allowed = f"the next smaller batch_size that fits is {fitting}" if fitting else "no batch_size fits"
        raise ValueError(
            f"global_batch_size={args.global_batch_size} is no multiple of batch_size={args.batch_size} x "
            f"{num_processes} processes; {allowed}."
        )
    return args.global_batch_size // per_micro_step


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
    if args.report_to in ("tensorboard", "wandb") and importlib.util.find_spec(args.report_to) is None:
        raise ValueError(f"report_to={args.report_to!r} is not installed. Allowed: 'none', 'all' (what there is).")


_NOT_NEGATIVE = frozenset(
    "global_batch_size max_minutes num_workers seed learning_rate min_learning_rate warmup_steps "
    "warmup_learning_rate weight_decay adam_epsilon max_grad_norm eval_every checkpoint_every keep_checkpoints".split()
)
