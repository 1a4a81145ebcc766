"""Collects the rows of a tensor from all processes, with or without a gradient (for the contrastive loss)."""

import torch
import torch.distributed


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward sums, over processes, what each of them wants changed in this process's rows."""

    @staticmethod
    def forward(context, rows):
        context.num_rows = rows.shape[0]
        gathered = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(context, gradient):
        gradient = gradient.clone()
        torch.distributed.all_reduce(gradient)
        start = torch.distributed.get_rank() * context.num_rows
        return gradient[start : start + context.num_rows]


def gather_with_gradient(rows: torch.Tensor) -> torch.Tensor:
    """Concatenates the rows of all processes so that gradients flow back to the process each row came from.

    With DistributedDataParallel, which averages gradients over processes, a contrastive loss of the local rows against
    the gathered ones then has the gradient of one process that holds the whole batch. Do not multiply the loss by the
    number of processes.

    Args:
        rows (`torch.FloatTensor` of shape `(batch_size, dim)`): features; the same `batch_size` on every process.

    Returns:
        `torch.FloatTensor` of shape `(num_processes * batch_size, dim)`: rows ordered by process; this process's own
        start at `process_index * batch_size`. `rows` itself when there is one process.
    """
    return _GatherRows.apply(rows) if _is_distributed() else rows


@torch.no_grad()
def gather_without_gradient(rows: torch.Tensor) -> torch.Tensor:
    """Concatenates the rows of all processes as constants: also this process's own rows carry no gradient.

    This is what SEED was published with: keys are detached, so only the local queries of the contrastive loss learn.

    Source: `concat_all_gather` in `SEED_Tokenizer/lavis/models/base_model.py` of AILab-CVC/SEED.

    Args:
        rows (`torch.Tensor` of shape `(batch_size, ...)`): the same shape on every process.

    Returns:
        `torch.Tensor` of shape `(num_processes * batch_size, ...)`: detached rows ordered by process.
    """
    if not _is_distributed():
        return rows.detach()
    gathered = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)
