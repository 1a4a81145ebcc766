"""Checkpoints of models whose weights are spread over processes (FSDP2): whole in the file, shards in memory.

So a checkpoint does not depend on the number of processes, nor on whether the run was sharded at all.
"""

from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def gather_shards(state: Any) -> Any:
    """Makes the sharded tensors in a nested state whole; every process has to call it.

    Args:
        state (`Any`): dicts, lists and tuples of tensors and plain values.

    Returns:
        `Any`: the same with whole tensors, on the CPU, in place of `DTensor`s.
    """
    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: gather_shards(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(gather_shards(value) for value in state)
    return state


def shard_like(tensor: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Spreads a whole tensor as another one is spread.

    Args:
        tensor (`torch.Tensor`): whole, the same in every process.
        reference (`torch.Tensor`): a `DTensor` of the same shape, or any other tensor.

    Returns:
        `torch.Tensor`: a `DTensor` like `reference`, or `tensor` itself.
    """
    if not isinstance(reference, DTensor):
        return tensor
    mesh = reference.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, reference.placements)


def shard_optimizer_state(state: dict, optimizer: torch.optim.Optimizer) -> dict:
    """Spreads the moments of a whole optimizer state like the parameters that they belong to.

    Args:
        state (`dict`): what `optimizer.state_dict()` gave, after [`gather_shards`].
        optimizer (`torch.optim.Optimizer`): the one to load it into.

    Returns:
        `dict`: for `optimizer.load_state_dict`.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {}
    for index, values in state["state"].items():
        parameter = parameters[index]
        moments[index] = {
            name: shard_like(value, parameter) if torch.is_tensor(value) and value.shape == parameter.shape else value
            for name, value in values.items()
        }
    return {**state, "state": moments}
