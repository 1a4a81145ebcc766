"""The image-span grammar in continuous batching, where a processor is given no ids but a number for each request."""

import torch
from transformers import LogitsProcessor

from .image_tokens_seed import ImageTokenLayout


try:
    from transformers.generation.continuous_batching.cb_logits_processors import (
        CLASSIC_TO_CB_PROCESSORS_MAP,
        ContinuousBatchingLogitsProcessor,
    )
except ImportError:  # an older transformers
    CLASSIC_TO_CB_PROCESSORS_MAP, ContinuousBatchingLogitsProcessor = None, object


class SeedContinuousBatchingSpanProcessor(ContinuousBatchingLogitsProcessor):
    """
    What stands for [`SeedImageSpanLogitsProcessor`] there; the number of a request is its state in the grammar.

    Args:
        processor ([`SeedImageSpanLogitsProcessor`]): Knows the states and what they allow.
    """

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, processor: LogitsProcessor):
        self.processor = processor

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """The first state, for rows without a request."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list) -> torch.Tensor:
        """The state of each request, an int32 vector."""
        states = [self._state_of(request.state) for request in requests_with_new_token]
        return torch.tensor(states, dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """`-inf` in `scores` `(num_requests, vocab_size)` where the grammar forbids an id."""
        return self.processor.mask_states(scores, tensor_arg[: scores.shape[0]].long())

    def _state_of(self, request) -> int:
        layout = self.processor.layout
        length = layout.num_query_tokens + 1
        tail = request.generated_tokens[-length:]
        tail = request.initial_tokens[-length:] + tail if len(tail) < length else tail
        num_tokens = _tokens_in_open_span(tail, layout)
        room = None if request.max_new_tokens is None else request.max_new_tokens - len(request.generated_tokens)
        return self.processor.state_of(num_tokens, room)


def _tokens_in_open_span(token_ids: list[int], layout: ImageTokenLayout) -> int | None:
    """How many ids follow an `<img>` that is not closed; `None` outside a span."""
    for count, token_id in enumerate(reversed(token_ids)):
        if token_id == layout.eoi_token_id or count > layout.num_query_tokens:
            return None
        if token_id == layout.boi_token_id:
            return count
    return None


__all__ = ["CLASSIC_TO_CB_PROCESSORS_MAP", "SeedContinuousBatchingSpanProcessor"]
