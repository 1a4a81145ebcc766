"""Learning rate by step, AdamW, and its parameter groups."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from .arguments import RunArguments, Schedule


# where torch has the whole update of AdamW as one kernel
_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


def learning_rate_at(step: int, schedule: Schedule) -> float:
    """Computes the learning rate of an optimizer update: linear warm-up, then half a cosine.

    It is set from the step instead of by a scheduler object: a scheduler that Accelerate prepared is stepped once per
    process, so the schedule would run `num_processes` times too fast.

    Source: recipe of BLIP-2 in LAVIS (`lavis/common/optims.py`), with the cosine per step instead of per epoch and a
    warm-up that is not cut off at the end of the first epoch.

    Args:
        step (`int`): Optimizer update, counted from 0.
        schedule ([`~seed_hf.trainer.arguments.Schedule`]): Length and learning rates.

    Returns:
        `float`: Learning rate.
    """
    peak, end, start = schedule.learning_rate, schedule.min_learning_rate, schedule.warmup_learning_rate
    if step < schedule.warmup_steps:
        return start + (peak - start) / schedule.warmup_steps * step
    progress = min(1.0, (step - schedule.warmup_steps) / max(1, schedule.max_steps - schedule.warmup_steps))
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * progress))


def is_decayed(name: str, parameter: torch.Tensor) -> bool:
    """Tells whether weight decay applies: to tensors of two or more dimensions that are neither bias nor norm.

    Source: `optimizer` in `lavis/runners/runner_base.py`. As there, query tokens, position embeddings and a trained
    codebook are decayed; the temperature is not.

    Args:
        name (`str`): Name of the parameter.
        parameter (`torch.Tensor`): The parameter.

    Returns:
        `bool`: Whether it is decayed.
    """
    parts = name.lower().split(".")
    is_norm = any("norm" in part or part in ("ln", "bn") or part.startswith(("ln_", "bn")) for part in parts)
    return parameter.ndim >= 2 and "bias" not in parts[-1] and not is_norm


def make_parameter_groups(
    model: nn.Module, weight_decay: float, learning_rate_multipliers: Mapping[str, float] | None = None
) -> list[dict]:
    """Sorts the trainable parameters by weight decay and learning rate.

    Args:
        model (`nn.Module`): Only its parameters with `requires_grad` are taken.
        weight_decay (`float`): Decay of the decayed ones, see [`is_decayed`].
        learning_rate_multipliers (`Mapping[str, float]`, *optional*): Factor on the learning rate by prefix of the
            parameter's name; the longest prefix that fits counts; 1 otherwise.

    Returns:
        `list[dict]`: Groups for `torch.optim.AdamW` with the further keys `multiplier` (`float`) and `names`
        (`list[str]`).

    Raises:
        ValueError: If nothing is trainable or a prefix fits no trainable parameter.
    """
    multipliers = dict(learning_rate_multipliers or {})
    groups: dict[tuple[float, float], dict] = {}
    unused = set(multipliers)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = max((prefix for prefix in multipliers if name.startswith(prefix)), key=len, default=None)
        unused.discard(prefix)
        decay, multiplier = weight_decay if is_decayed(name, parameter) else 0.0, multipliers.get(prefix, 1.0)
        empty = {"params": [], "weight_decay": decay, "multiplier": multiplier, "names": []}
        group = groups.setdefault((decay, multiplier), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError("model has no parameter with requires_grad=True: nothing to train.")
    if unused:
        raise ValueError(f"learning_rate_multipliers names {sorted(unused)}, but no trainable parameter starts so.")
    return list(groups.values())


def make_optimizer(
    model: nn.Module,
    args: RunArguments,
    device: torch.device,
    learning_rate_multipliers: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """Makes AdamW, fused where torch has it so.

    Args:
        model (`nn.Module`): Its parameters with `requires_grad` are trained.
        args ([`~seed_hf.trainer.arguments.RunArguments`]): Learning rate, decays and epsilon.
        device (`torch.device`): Where the model is going to be trained.
        learning_rate_multipliers (`Mapping[str, float]`, *optional*): See [`make_parameter_groups`].

    Returns:
        `torch.optim.AdamW`: The optimizer, not prepared.
    """
    return torch.optim.AdamW(
        make_parameter_groups(model, args.weight_decay, learning_rate_multipliers),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=device.type in _FUSED_DEVICES,
    )
