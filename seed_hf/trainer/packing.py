"""Short samples side by side in full rows, each attending only to itself: the padded batch's loss without padding."""

from collections.abc import Sequence

import torch


def fit_into_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Distributes samples over rows (best fit, longest first).

    Args:
        lengths (`Sequence[int]`): Tokens of each sample.
        row_length (`int`): Tokens that a row holds; a longer sample gets a row of its own.

    Returns:
        `list[list[int]]`: For each row the indices of its samples.

    Example:
        ```python
        >>> from seed_hf.trainer.packing import fit_into_rows

        >>> fit_into_rows([3, 5, 2, 6], row_length=8)
        [[3, 2], [1, 0]]

        ```
    """
    rows: list[list[int]] = []
    space: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [row for row in range(len(rows)) if space[row] >= lengths[index]]
        if fitting:
            row = min(fitting, key=lambda r: space[r])
        else:
            row = len(rows)
            rows.append([])
            space.append(row_length)
        rows[row].append(index)
        space[row] -= lengths[index]
    return rows


def collate_samples(samples: Sequence[dict], pad_token_id: int, row_length: int = 0) -> dict[str, torch.Tensor]:
    """Makes one batch of samples: padded on the right, or packed.

    Args:
        samples (`Sequence[dict]`): `input_ids` and `labels` (`list[int]` of the same length; the first label of a
            sample is never a target, since nothing comes before it), and `is_image_task` (`bool`).
        pad_token_id (`int`): Fills the ends of rows.
        row_length (`int`, defaults to 0): See [`fit_into_rows`]; 0 gives each sample a row of its own.

    Returns:
        `dict[str, torch.Tensor]`: All of shape `(rows, length)`: `input_ids`, `labels` (-100: no target), `is_image`
        (token of a sample whose target is an image) and `sample_ids` (1, 2, ... within a row; 0 at padding); with
        `row_length` also `position_ids`, which begin at 0 in each sample.
    """
    lengths = [len(sample["input_ids"]) for sample in samples]
    rows = fit_into_rows(lengths, row_length) if row_length else [[index] for index in range(len(samples))]
    shape = (len(rows), max(sum(lengths[index] for index in row) for row in rows))
    batch = {"input_ids": torch.full(shape, pad_token_id), "labels": torch.full(shape, -100)}
    batch |= {name: torch.zeros(shape, dtype=torch.long) for name in ("sample_ids", "position_ids")}
    batch["is_image"] = torch.zeros(shape, dtype=torch.bool)
    for row, indices in enumerate(rows):
        start = 0
        for number, index in enumerate(indices, start=1):
            place = (row, slice(start, start + lengths[index]))
            batch["input_ids"][place] = torch.tensor(samples[index]["input_ids"])
            batch["labels"][place] = torch.tensor(samples[index]["labels"])
            batch["labels"][row, start] = -100
            batch["sample_ids"][place] = number
            batch["position_ids"][place] = torch.arange(lengths[index])
            batch["is_image"][place] = samples[index]["is_image_task"]
            start += lengths[index]
    if not row_length:
        del batch["position_ids"]
    return batch


def model_inputs(
    batch: dict[str, torch.Tensor], attn_implementation: str = "sdpa", dtype: torch.dtype = torch.float32
) -> dict:
    """What a language model is called with.

    Args:
        batch (`dict[str, torch.Tensor]`): What [`collate_samples`] gives.
        attn_implementation (`str`, defaults to `"sdpa"`): "sdpa" or "eager"; for a batch that is not packed, any.
        dtype (`torch.dtype`, defaults to `torch.float32`): Dtype of the computation, where autocast does not set it.

    Returns:
        `dict`: `input_ids`, `labels`, `attention_mask` and, for a packed batch, `position_ids`.

    Raises:
        ValueError: If the attention cannot take a mask of its own for each row.
    """
    inputs = {name: batch[name] for name in ("input_ids", "labels", "position_ids") if name in batch}
    if "position_ids" not in batch:
        return inputs | {"attention_mask": (batch["sample_ids"] > 0).long()}
    # Built here, since not every model of transformers finds the borders of samples in `position_ids` (OPT does not)
    allowed = packed_attention_mask(batch["sample_ids"])
    if attn_implementation == "eager":
        device = allowed.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
        allowed = torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
    elif attn_implementation != "sdpa":
        raise ValueError(f"attn_implementation={attn_implementation!r} cannot be packed; allowed: 'sdpa', 'eager'.")
    return inputs | {"attention_mask": allowed}


def packed_attention_mask(sample_ids: torch.Tensor) -> torch.Tensor:
    """Who may look at whom: earlier tokens of the same sample, and itself.

    Args:
        sample_ids (`torch.LongTensor` of shape `(rows, length)`): See [`collate_samples`].

    Returns:
        `torch.BoolTensor` of shape `(rows, 1, length, length)`: Row, head, from, to.
    """
    same = sample_ids[:, None, :, None] == sample_ids[:, None, None, :]
    return same & torch.ones_like(same[0, 0]).tril()


@torch.no_grad()
def check_packing(model, samples: Sequence[dict], pad_token_id: int, attn_implementation: str) -> None:
    """Makes sure that a model keeps packed samples apart, by changing one and looking at its neighbour.

    Args:
        model (`PreTrainedModel`): In eval mode.
        samples (`Sequence[dict]`): Two samples, as [`collate_samples`] takes them.
        pad_token_id (`int`): See [`collate_samples`].
        attn_implementation (`str`): See [`model_inputs`].

    Raises:
        ValueError: If the neighbour's logits change, or if they are not those that it has alone.
    """
    # the longer one comes first in a row, and only later tokens look back
    first, second = sorted(samples, key=lambda sample: -len(sample["input_ids"]))
    first = {**first, "labels": [-100] * len(first["input_ids"])}
    other = {**first, "input_ids": first["input_ids"][::-1]}

    def logits(*samples, row_length):
        batch = collate_samples(samples, pad_token_id, row_length)
        batch = {name: value.to(model.device) for name, value in batch.items()}
        inputs = model_inputs(batch, attn_implementation, model.dtype)
        return model(**inputs, target_logits_only=True, use_cache=False).logits.float()

    length = len(first["input_ids"]) + len(second["input_ids"])
    beside, beside_other, alone = (
        logits(first, second, row_length=length),
        logits(other, second, row_length=length),
        logits(second, row_length=0),
    )
    scale = alone.abs().max()
    changed = ((beside - beside_other).abs().max() / scale).item()
    differs = ((beside - alone).abs().max() / scale).item()
    precision = torch.finfo(model.dtype).eps
    if changed > 10 * precision or differs > 1000 * precision:
        raise ValueError(
            "pack_length: this language model does not keep packed samples apart (relative change of logits by a "
            f"neighbour {changed:.1e}, by packing {differs:.1e}). Use pack_length=0."
        )
