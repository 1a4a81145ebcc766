"""How a training run meets its machine: the `Accelerator`, and checks on the hardware.

The hardware is checked before a run starts: there, a wrong setting fails late, or is slow without a word.
"""

import importlib.util
import os
import re
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DynamoBackend
from accelerate.utils.other import is_repeated_blocks
from torch import nn

from .arguments import RunArguments, accumulation_steps


_VOLTA_WHEEL = 'pip install "torch==2.13.*" --index-url https://download.pytorch.org/whl/cu126'


def choose_precision(asked: str | None) -> str | None:
    """What `auto` means here: bfloat16 where the processor has units for it, without which it is far slower."""
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "no"
    return "bf16" if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported() else "no"


def make_accelerator(args: RunArguments) -> Accelerator:
    """Makes the `Accelerator` of a run and checks that it is as parallel as it was launched.

    Args:
        args ([`~seed_hf.trainer.arguments.RunArguments`]): Arguments of the run.

    Returns:
        `Accelerator`: Set up for this package's loop.

    Raises:
        RuntimeError: If several processes were launched that do not know of each other.
        ValueError: If a tracker is not installed, the hardware cannot do what is asked, or the global batch cannot be
            divided.
    """
    if args.report_to in ("tensorboard", "wandb") and importlib.util.find_spec(args.report_to) is None:
        raise ValueError(f"report_to={args.report_to!r} is not installed. Allowed: 'none', 'all' (what there is).")
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" and not torch.accelerator.is_available():
        # Accelerate would fall back to plain data parallelism without a word
        raise ValueError("`config_file` asks for DeepSpeed, but there is no accelerator; allowed: only with one.")
    accelerator = Accelerator(
        # Without this hint Accelerate starts processes on CPUs that do not know of each other.
        cpu=launched > 1 and not torch.accelerator.is_available(),
        mixed_precision=choose_precision(args.mixed_precision),
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


def find_hardware_problems(
    capability: tuple[int, int] | None,
    architectures: Sequence[str] = (),
    mixed_precision: str = "no",
    attn_implementation: str | None = None,
    compiled: bool = False,
) -> list[str]:
    """Names the settings that a device cannot do, each with what to set instead.

    Args:
        capability (`tuple[int, int]`, *optional*): CUDA compute capability, `(7, 0)` for V100; `None` for CPUs.
        architectures (`Sequence[str]`, *optional*): What this build of torch holds kernels for, as
            `torch.cuda.get_arch_list()` says.
        mixed_precision (`str`, defaults to `"no"`): "no", "fp16" or "bf16".
        attn_implementation (`str`, *optional*): As in transformers.
        compiled (`bool`, defaults to `False`): Whether `torch.compile` is asked for.

    Returns:
        `list[str]`: One sentence for each problem; empty if there is none.

    Source: torch's release notes and wheels, flash-attention's and Triton's requirements; collected in
    training/README.md.

    Example:
        ```python
        >>> from seed_hf.trainer.launch import find_hardware_problems

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
        return [problem for problem, is_present in problems.items() if is_present]
    name = f"compute capability {capability[0]}.{capability[1]}"
    # torch says that it supports bfloat16 on any GPU, since it emulates it
    problems = {
        f"This build of torch has no kernels for {name} (it has {', '.join(architectures)}). For V100: "
        f"{_VOLTA_WHEEL}; torch 2.15 and later have none.": not _has_kernels(capability, architectures),
        f"mixed_precision='bf16' is only emulated, slowly, on {name}. Set --mixed_precision fp16, or launch with "
        "training/accelerate/eight_nodes_v100.yaml.": mixed_precision == "bf16" and capability < (8, 0),
        f"attn_implementation={attn_implementation!r} needs compute capability 8.0, not {name}. Set "
        "--attn_implementation sdpa.": flash and capability < (8, 0),
        f"torch.compile needs Triton, which needs compute capability 8.0, not {name}. Leave out --torch_compile, or "
        "set dynamo_backend: 'NO' in the launch settings.": compiled and capability < (8, 0),
    }
    return [problem for problem, is_present in problems.items() if is_present]


def _has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Machine code (`sm_`) runs on the same major version from its minor on, PTX (`compute_`) on everything later."""
    for architecture in architectures:
        kind, major, minor = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", architecture).groups()
        built_for = (int(major), int(minor))
        if built_for <= capability and (kind == "compute" or built_for[0] == capability[0]):
            return True
    return False


def check_hardware(accelerator: Accelerator, args: RunArguments) -> None:
    """Refuses a run whose settings this process's device cannot do.

    Args:
        accelerator (`Accelerator`): Device and settings, also those that `accelerate launch` has given.
        args ([`~seed_hf.trainer.arguments.RunArguments`]): Arguments of the run; those of some scripts have an
            `attn_implementation` and a `torch_compile`.

    Raises:
        ValueError: Naming every problem and what to set instead.
    """
    on_gpu = accelerator.device.type == "cuda"
    if torch.version.hip or not (on_gpu or accelerator.device.type == "cpu"):
        return
    problems = find_hardware_problems(
        torch.cuda.get_device_capability(accelerator.device) if on_gpu else None,
        torch.cuda.get_arch_list() if on_gpu else (),
        # on a CPU, Accelerate leaves fp16 out in silence; what was asked for is in the flags only
        choose_precision(args.mixed_precision) or accelerator.mixed_precision,
        getattr(args, "attn_implementation", None),
        accelerator.state.dynamo_plugin.backend != DynamoBackend.NO or getattr(args, "torch_compile", False),
    )
    if problems:
        raise ValueError(" ".join(problems))


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compiles each of the repeated blocks of a model in place, one graph for all blocks that are alike.

    Names in the state dict stay as they are, and the first step waits for one block in place of the whole model.

    Args:
        model (`nn.Module`): A frozen ViT or a language model, say, before `Accelerator.prepare`.
        backend (`str`, defaults to `"inductor"`): As in `torch.compile`.

    Raises:
        ValueError: If the model has no repeated blocks.
    """
    stacks = [module for module in model.modules() if is_repeated_blocks(module)]
    if not stacks:
        raise ValueError(f"model is a {type(model).__name__} without repeated blocks; allowed: one with a ModuleList.")
    for stack in stacks:
        for block in stack:
            block.compile(backend=backend)
