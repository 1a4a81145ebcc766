"""Logits processors by which the rows of a batch differ: how they are sampled, and which codes are given."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from ..models.image_tokens_seed import ImageTokenLayout


class RowSampling(LogitsProcessor):
    """
    Samples each row with a temperature and random numbers of its own, so that it does not depend on the others.

    Adds Gumbel noise, after which the largest score is a sample: `generate()` decodes greedily.

    Args:
        temperatures (`Sequence[float]`): One for each row; 0 leaves the row as it is.
        top_ps (`Sequence[float]`): Share of the probability that may be drawn, in (0, 1].
        seeds (`Sequence[int]`): Seeds of the rows.
    """

    # after guidance and the grammar; see `SeedGenerationMixin._get_logits_processor`
    runs_last = True

    def __init__(self, temperatures: Sequence[float], top_ps: Sequence[float], seeds: Sequence[int]):
        self.temperatures, self.top_ps = temperatures, top_ps
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Gives `scores` `(num_rows, vocab_size)` with noise in the rows that are sampled."""
        rows = zip(scores, self.temperatures, self.top_ps, self.generators, strict=True)
        return torch.stack([row if not warmth else _sampled(row, warmth, *rest) for row, warmth, *rest in rows])


def _sampled(scores: torch.Tensor, temperature: float, top_p: float, generator: torch.Generator) -> torch.Tensor:
    logits = scores.float() / temperature
    if top_p < 1:
        probabilities, order = logits.softmax(-1).sort(descending=True)
        # the first one whose sum reaches `top_p` is still in
        is_out = probabilities.cumsum(-1) - probabilities >= top_p
        logits = logits.index_fill(0, order[is_out], -float("inf"))
    noise = torch.empty(logits.shape).exponential_(generator=generator).log().neg()
    return (logits + noise.to(logits.device)).to(scores.dtype)


class FirstCodes(LogitsProcessor):
    """
    Makes images begin with given codes.

    Args:
        layout ([`ImageTokenLayout`]): Which ids are image tokens.
        codes (`Sequence[Sequence[int]]`): For each row the first codes of its image, which may be none.
    """

    def __init__(self, layout: ImageTokenLayout, codes: Sequence[Sequence[int]]):
        self.layout, self.codes = layout, codes

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Gives `scores` `(num_rows, vocab_size)` with `-inf` for all but the given code, where there is one."""
        scores = scores.clone()
        is_open, places = (values.tolist() for values in self.layout.span_state(input_ids))
        for row, codes in enumerate(self.codes):
            if is_open[row] and places[row] < len(codes):
                scores[row] = -float("inf")
                scores[row, codes[places[row]] + self.layout.first_image_token_id] = 0
        return scores


__all__ = ["FirstCodes", "RowSampling"]
