"""Arguments of training scripts as dataclasses, the recipes that hold values for them, and the checks on them.

Imports neither torch nor models, so that `--help` answers at once.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_type_hints

from transformers.hf_argparser import HfArg, HfArgumentParser

from .flags import HelpFormatter, read_recipe


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length of a run, and its learning rate at each step."""

    _argument_group_name = "schedule (linear warm-up, then a cosine; a step is one optimizer update)"

    max_steps: int = HfArg(default=1000, help="Total number of steps.")
    learning_rate: float = HfArg(default=1e-4, help="Peak, reached after the warm-up.")
    min_learning_rate: float = HfArg(default=0.0, help="End of the cosine, reached at max_steps.")
    warmup_steps: int = HfArg(default=0, help="Number of warm-up steps.")
    warmup_learning_rate: float = HfArg(default=0.0, help="Start of the warm-up.")


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What one optimizer update reads."""

    _argument_group_name = "batches"

    batch_size: int = HfArg(default=64, help="Samples per process and micro-batch.")
    global_batch_size: int = HfArg(
        default=0, help="Samples per step; accumulation makes up for missing processes. 0: whatever the others give."
    )
    gradient_accumulation_steps: int = HfArg(default=1, help="Micro-batches per step, where no global size is given.")
    num_workers: int = HfArg(
        default=0, help="Additional processes that read data, for each process; batches do not depend on it."
    )
    max_unreadable_share: float = HfArg(
        default=0.01,
        help="Stop when more than this share of the samples cannot be read; fewer are skipped and logged.",
    )
    seed: int = HfArg(default=42, help="Seed of the weights, the data order, the augmentation and the dropout.")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW."""

    _argument_group_name = "optimizer (AdamW)"

    weight_decay: float = HfArg(default=0.05, help="Not applied to vectors, biases and norms.")
    adam_beta1: float = HfArg(default=0.9, help="Decay of the mean of gradients.")
    adam_beta2: float = HfArg(default=0.999, help="Decay of the mean of squared gradients.")
    adam_epsilon: float = HfArg(default=1e-8, help="Added to the denominator.")
    max_grad_norm: float = HfArg(default=0.0, help="Clip the gradient to this norm; 0: no clipping.")


@dataclass(frozen=True, kw_only=True)
class RunArguments(Schedule, BatchSettings, OptimizerSettings):
    """What every training script takes; the arguments of a script inherit from it.

    Raises:
        ValueError: For values with which a run could only fail later; names argument, value and what is allowed.
    """

    _argument_group_name = "run and output"

    recipe: str | None = HfArg(
        default=None, help="YAML file of arguments (see training/recipes); the command line wins over it."
    )
    output_dir: str = HfArg(help="Folder for the metrics, the checkpoints and the final model.")
    max_minutes: float = HfArg(default=0.0, help="Stop with a checkpoint after this many minutes; 0: no limit.")
    stop_at: float = HfArg(
        default=0.0, help="Stop with a checkpoint at this time, in seconds since 1970; 0: no limit."
    )
    mixed_precision: Literal["no", "fp16", "bf16", "auto"] | None = HfArg(
        default=None,
        help="What `accelerate launch` says, or else `no`, unless given here; `auto`: bf16 where the machine has "
        "units for it, else `no`.",
    )
    log_every: int = HfArg(default=10, help="Steps between lines of metrics.jsonl, which are means over these steps.")
    eval_every: int = HfArg(default=0, help="Steps between evaluations; 0: only at the end.")
    checkpoint_every: int = HfArg(default=500, help="Steps between checkpoints; 0: only at the end.")
    keep_checkpoints: int = HfArg(default=2, help="Number of the newest checkpoints to keep; 0: all.")
    resume: str = HfArg(default="auto", help="`auto`: from the newest checkpoint in output_dir; `no`; or a path.")
    report_to: Literal["tensorboard", "wandb", "all", "none"] = HfArg(default="tensorboard", help="Tracker.")

    def __post_init__(self):
        for name in ("max_steps", "batch_size", "gradient_accumulation_steps", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be finite and not negative.")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate={self.min_learning_rate} must not exceed learning_rate={self.learning_rate}."
            )


_NOT_NEGATIVE = (
    "global_batch_size max_minutes stop_at num_workers seed learning_rate min_learning_rate warmup_steps "
    "warmup_learning_rate weight_decay adam_epsilon max_grad_norm eval_every checkpoint_every keep_checkpoints".split()
)


def accumulation_steps(batches: BatchSettings, num_processes: int) -> int:
    """Counts the micro-batches of one optimizer update.

    Args:
        batches ([`BatchSettings`]): Sizes.
        num_processes (`int`): Number of processes of this run.

    Returns:
        `int`: `gradient_accumulation_steps`, or what brings `batch_size` x processes up to `global_batch_size`.

    Raises:
        ValueError: If `global_batch_size` is no multiple of `batch_size` x processes, or both flags were given.
    """
    if not batches.global_batch_size:
        return batches.gradient_accumulation_steps
    if batches.gradient_accumulation_steps != 1:
        raise ValueError(
            f"global_batch_size={batches.global_batch_size} and gradient_accumulation_steps="
            f"{batches.gradient_accumulation_steps} were both given; allowed: one of them."
        )
    per_micro_step = batches.batch_size * num_processes
    if batches.global_batch_size % per_micro_step:
        sizes = range(batches.batch_size, 0, -1)
        fitting = next((size for size in sizes if batches.global_batch_size % (size * num_processes) == 0), None)
        allowed = f"the next smaller batch_size that fits is {fitting}" if fitting else "no batch_size fits"
        raise ValueError(
            f"global_batch_size={batches.global_batch_size} is no multiple of batch_size={batches.batch_size} x "
            f"{num_processes} processes; {allowed}."
        )
    return batches.global_batch_size // per_micro_step


Arguments = TypeVar("Arguments", bound=RunArguments)


def parse_arguments(
    arguments_class: type[Arguments], argv: Sequence[str] | None = None, description: str | None = None
) -> Arguments:
    """Parses a command line into a dataclass; the recipe that it names stands before it, so that its own flags win.

    Args:
        arguments_class (`type`): Dataclass that inherits from [`RunArguments`].
        argv (`Sequence[str]`, *optional*): Command line; that of this process by default.
        description (`str`, *optional*): Shown by `--help`, with its line breaks.

    Returns:
        `arguments_class`: An instance.

    Raises:
        ValueError: If the recipe cannot be read or names an unknown flag, or a value is out of range.

    Example:
        ```python
        >>> import tempfile
        >>> from seed_hf.trainer.arguments import RunArguments, parse_arguments

        >>> with tempfile.NamedTemporaryFile("w", suffix=".yaml") as recipe:
        ...     _ = recipe.write("max_steps: 7  # ours\\nbatch_size: 2  # ours")
        ...     recipe.flush()
        ...     argv = ["--recipe", recipe.name, "--output_dir", "out", "--batch_size", "4"]
        ...     args = parse_arguments(RunArguments, argv)
        >>> args.max_steps, args.batch_size
        (7, 4)

        ```
    """
    groups = list(_groups_of(arguments_class))
    parser = HfArgumentParser(groups, description=description, formatter_class=HelpFormatter, allow_abbrev=False)
    argv = list(sys.argv[1:] if argv is None else argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe")
    recipe = finder.parse_known_args(argv)[0].recipe
    values = parser.parse_args((_recipe_flags(recipe, arguments_class) if recipe else []) + argv)
    return arguments_class(**vars(values))


def _groups_of(arguments_class: type) -> Iterator[type]:
    """For each class that a dataclass inherits from, one with the fields that it declares: a group of `--help`.

    A class may give an inherited field another default; its help stays.
    """
    types, declared = get_type_hints(arguments_class), {}
    for base in reversed(arguments_class.__mro__):
        for name in vars(base).get("__annotations__", {}):
            declared.setdefault(name, base)
    for base in filter(dataclasses.is_dataclass, arguments_class.__mro__):
        fields = []
        for name in (name for name, owner in declared.items() if owner is base):
            own = arguments_class.__dataclass_fields__[name]
            metadata = base.__dataclass_fields__[name].metadata
            field = dataclasses.field(default=own.default, default_factory=own.default_factory, metadata=metadata)
            fields.append((name, types[name], field))
        title = vars(base).get("_argument_group_name", "this script")
        yield dataclasses.make_dataclass(
            base.__name__, fields, kw_only=True, namespace={"_argument_group_name": title}
        )


def _recipe_flags(path: str, arguments_class: type) -> list[str]:
    """The command line that says the same, so that argparse checks types and choices."""
    types = get_type_hints(arguments_class)
    known = {field.name for field in dataclasses.fields(arguments_class)} - {"recipe"}
    flags = []
    for name, value in read_recipe(path).items():
        name = name.replace("-", "_") if isinstance(name, str) else name
        if name not in known:
            raise ValueError(f"recipe={path!r} names {name!r}, which is no flag of this script.")
        if value is None:  # as not given, so that a recipe can take back what it is based on
            continue
        if value is False and types[name] is not bool:  # YAML reads the word `no` so
            value = "no"
        values = [str(part) for part in value] if isinstance(value, list) else [str(value)]
        # with "=", so that a value may begin with a dash
        flags += [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]
    return flags
