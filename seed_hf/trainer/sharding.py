"""Checkpoints and saved models of runs whose states are spread over processes.

With FSDP2 they are whole in the file and shards in memory, so that a checkpoint depends neither on the number of
processes nor on whether the run was sharded at all. DeepSpeed's optimizer states are kept as it cuts them.
"""

import io
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from ..models.modeling_seed import SeedForCausalLM


def gather_shards(state: Any, keep: bool = True) -> Any:
    """Makes the sharded tensors in a nested state whole; every process has to call it.

    Args:
        state (`Any`): Dicts, lists and tuples of tensors and plain values.
        keep (`bool`, defaults to `True`): Whether this process is to have them; the others only take part, so that
            the memory of a machine holds them once.

    Returns:
        `Any`: The same with whole tensors, on the CPU, in place of `DTensor`s; without `keep`, `None` in their place.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(state, dict):
        return {key: gather_shards(value, keep) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(gather_shards(value, keep) for value in state)
    return state


def shard_like(tensor: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Spreads a whole tensor as another one is spread.

    Args:
        tensor (`torch.Tensor`): Whole, the same in every process.
        reference (`torch.Tensor`): A `DTensor` of the same shape, or any other tensor.

    Returns:
        `torch.Tensor`: A `DTensor` like `reference`, or `tensor` itself.
    """
    if not isinstance(reference, DTensor):
        return tensor
    mesh = reference.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, reference.placements)


@contextmanager
def own_heads(model: nn.Module) -> Iterator[None]:
    """Lets language models show their own head while the block runs, not the one over the whole vocabulary.

    Accelerate learns from `get_output_embeddings` which weights are tied and have to be sharded together.

    Args:
        model (`nn.Module`): Model that may be or hold a [`SeedForCausalLM`].
    """
    language_models = [module for module in model.modules() if isinstance(module, SeedForCausalLM)]
    for module in language_models:
        module.get_output_embeddings = module.language_model.get_output_embeddings
    try:
        yield
    finally:
        for module in language_models:
            del module.get_output_embeddings


@contextmanager
def whole_weights(model: nn.Module, keep: bool) -> Iterator[None]:
    """Puts whole weights, on the CPU, in place of sharded ones while the block runs; every process has to call it.

    Args:
        model (`nn.Module`): Sharded or not.
        keep (`bool`): Whether this process is to have them; the others only take part.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # an evaluation leaves some of them whole, and saving would put their shards back
    sharded = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if isinstance(parameter, DTensor)
    ]
    whole: dict[int, nn.Parameter] = {}
    try:
        for module, name, parameter in sharded:
            if id(parameter) not in whole:  # tied weights stay tied
                tensor = gather_shards(parameter.detach(), keep)
                whole[id(parameter)] = nn.Parameter(tensor, parameter.requires_grad) if keep else parameter
            module._parameters[name] = whole[id(parameter)]
        yield
    finally:
        for module, name, parameter in sharded:
            module._parameters[name] = parameter


def gather_optimizer_state(optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> dict:
    """State of an optimizer that may be spread over processes; every process has to call it.

    Args:
        optimizer (`torch.optim.Optimizer`): The prepared one.
        accelerator (`Accelerator`): Says how it is spread.

    Returns:
        `dict`: Complete on the main process.
    """
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return gather_shards(optimizer.state_dict(), keep=accelerator.is_main_process)
    # bytes, since DeepSpeed's states hold objects of its own, which a checkpoint may not
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    parts = [None] * accelerator.num_processes if accelerator.is_main_process else None
    torch.distributed.gather_object(buffer.getvalue(), parts)
    return {"deepspeed": [torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in parts or ()]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict, accelerator: Accelerator) -> None:
    """Loads what [`gather_optimizer_state`] gave, spread and grouped as this optimizer is, whose settings stay.

    Args:
        optimizer (`torch.optim.Optimizer`): The prepared one.
        state (`dict`): From a checkpoint of this package.
        accelerator (`Accelerator`): Says how the optimizer is spread.

    Raises:
        ValueError: If the state is of DeepSpeed and the run is not, or the other way round, or if it holds objects
            other than DeepSpeed's own.
    """
    is_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    if is_deepspeed != ("deepspeed" in state):
        kinds = ("with DeepSpeed", "without DeepSpeed")
        raise ValueError(
            f"The checkpoint was saved {kinds['deepspeed' not in state]}, this run is {kinds[not is_deepspeed]}: its "
            "optimizer state cannot be used. Launch the run as before, or start in another output_dir."
        )
    if is_deepspeed:
        contents = [io.BytesIO(part.numpy().tobytes()) for part in state["deepspeed"]]
        parts = [unpickle(content, _deepspeed_classes()) for content in contents]
        optimizer.optimizer.load_state_dict(parts, load_from_fp32_weights=True)
        return
    saved = {
        name: state["state"].get(index, {})
        for group in state["param_groups"]
        for name, index in zip(group["names"], group["params"], strict=True)
    }
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    moments = {}
    for group in groups:
        for name, index in zip(group["names"], group["params"], strict=True):
            moments[index] = {
                key: shard_like(value, parameters[index])
                if torch.is_tensor(value) and value.shape == parameters[index].shape
                else value
                for key, value in saved[name].items()
            }
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _deepspeed_classes() -> list[type]:
    """What the optimizer states of ZeRO 1 and 2 hold beside tensors and plain values."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def unpickle(file: io.BytesIO | Path, classes: Sequence[type] = (), mmap: bool = False) -> Any:
    """Reads what `torch.save` wrote; nothing but tensors, plain values and the named classes, so that no code runs.

    Args:
        file (`io.BytesIO` or `Path`): What to read.
        classes (`Sequence[type]`): That may occur.
        mmap (`bool`, defaults to `False`): Leave tensors in the file, which all processes of a machine share.

    Returns:
        `Any`: What was saved, on the CPU.

    Raises:
        ValueError: If there is anything else in it, or if it is damaged.
    """
    try:
        with torch.serialization.safe_globals(list(classes)):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # torch's own text would talk the reader into doing without weights_only
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        name = file if isinstance(file, Path) else "The optimizer state of the checkpoint"
        raise ValueError(
            f"{name} holds {refused[1] if refused else 'what cannot be read'}; allowed: tensors, plain values"
            f"{''.join(f', {item.__name__}' for item in classes)}."
        ) from error
