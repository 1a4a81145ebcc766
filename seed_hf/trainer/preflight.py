"""What a run asks of the hardware, checked before it starts: a wrong setting fails late, or is slow in silence."""

import argparse
import re
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend


_VOLTA_WHEEL = 'pip install "torch==2.13.*" --index-url https://download.pytorch.org/whl/cu126'


def find_hardware_problems(
    capability: tuple[int, int] | None,
    architectures: Sequence[str] = (),
    mixed_precision: str = "no",
    attn_implementation: str | None = None,
    compiled: bool = False,
) -> list[str]:
    """Names the settings that a device can not do, each with what to set instead.

    Args:
        capability (`tuple[int, int]`, *optional*): CUDA compute capability, `(7, 0)` for V100; `None` for CPUs.
        architectures (`Sequence[str]`, *optional*): what this build of torch holds kernels for, as
            `torch.cuda.get_arch_list()` says.
        mixed_precision (`str`, defaults to `"no"`): "no", "fp16" or "bf16".
        attn_implementation (`str`, *optional*): as in transformers.
        compiled (`bool`, defaults to `False`): whether `torch.compile` is asked for.

    Returns:
        `list[str]`: one sentence by problem; empty if there is none.

    Source: torch's release notes and wheels, flash-attention's and Triton's requirements; collected in
    training/README.md.

    Example:
        ```python
        >>> from seed_hf.trainer.preflight import find_hardware_problems

        >>> find_hardware_problems((8, 0), ["sm_80"], "bf16")
        []
        >>> len(find_hardware_problems((7, 0), ["sm_80"], "bf16", "flash_attention_2", compiled=True))
        4

        ```
    """
    flash = (attn_implementation or "").startswith("flash_attention")
    if capability is None:
        problems = {
            "mixed_precision='fp16' would silently do nothing on a CPU. Allowed: 'no', 'bf16'.": (
                mixed_precision == "fp16"
            ),
            f"attn_implementation={attn_implementation!r} needs a GPU. Allowed: 'sdpa', 'eager'.": flash,
        }
        return [problem for problem, found in problems.items() if found]
    name = f"compute capability {capability[0]}.{capability[1]}"
    # torch says that it supports bfloat16 on any GPU, since it emulates it
    problems = {
        f"This build of torch has no kernels for {name} (it has {', '.join(architectures)}). For V100: "
        f"{_VOLTA_WHEEL}; torch 2.15 and later have none.": not _has_kernels(capability, architectures),
        f"mixed_precision='bf16' is only emulated, slowly, on {name}. Set --mixed_precision fp16, or launch with "
        "training/accelerate/eight_nodes_v100.yaml.": mixed_precision == "bf16" and capability < (8, 0),
        f"attn_implementation={attn_implementation!r} needs compute capability 8.0, not {name}. Set "
        "--attn_implementation sdpa.": flash and capability < (8, 0),
        f"torch.compile needs Triton, which needs compute capability 8.0, not {name}. Set dynamo_backend: 'NO' in the "
        "launch settings.": compiled and capability < (8, 0),
    }
    return [problem for problem, found in problems.items() if found]


def _has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Machine code (`sm_`) runs on the same major version from its minor on, PTX (`compute_`) on everything later."""
    for architecture in architectures:
        kind, major, minor = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", architecture).groups()
        built_for = (int(major), int(minor))
        if built_for <= capability and (kind == "compute" or built_for[0] == capability[0]):
            return True
    return False


def check_hardware(accelerator: Accelerator, args: argparse.Namespace) -> None:
    """Refuses a run whose settings this process's device can not do.

    Args:
        accelerator (`Accelerator`): device and settings, also those that `accelerate launch` has given.
        args (`argparse.Namespace`): flags; of those only `attn_implementation` is read, where a script has it.

    Raises:
        ValueError: naming every problem and what to set instead.
    """
    on_gpu = accelerator.device.type == "cuda"
    if torch.version.hip or not (on_gpu or accelerator.device.type == "cpu"):
        return
    problems = find_hardware_problems(
        torch.cuda.get_device_capability(accelerator.device) if on_gpu else None,
        torch.cuda.get_arch_list() if on_gpu else (),
        # on a CPU, Accelerate leaves fp16 out in silence; what was asked for is in the flags only
        args.mixed_precision or accelerator.mixed_precision,
        getattr(args, "attn_implementation", None),
        accelerator.state.dynamo_plugin.backend != DynamoBackend.NO,
    )
    if problems:
        raise ValueError(" ".join(problems))
