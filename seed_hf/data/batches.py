"""Endless batches that are a function of (seed, step, process), so that a resumed run needs no loader state."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from .reading import SkippedSamples, UnreadableSampleError
from .seeds import derive_seed


# Number of blocks (shards) that are shuffled into each other: enough to mix, few enough to stay in a page cache.
BLOCKS_PER_WINDOW = 16


def sample_positions(
    num_samples: int,
    batch_size: int,
    *,
    seed: int,
    step: int,
    num_processes: int = 1,
    process_index: int = 0,
    accumulation_steps: int = 1,
    blocks: torch.Tensor | None = None,
) -> list[list[tuple[int, int]]]:
    """Names the samples that one process reads for one optimizer update.

    An epoch is a seeded order of the data set cut into global batches; what is left at its end is left out. Which
    samples make up a global batch depends only on its size: the same run on another number of processes, with
    accumulation making up the difference, sees the same samples at the same step.

    Args:
        num_samples (`int`): Length of the data set.
        batch_size (`int`): Samples per process and micro-batch.
        seed (`int`): Run seed.
        step (`int`): Optimizer update, counted from 0.
        num_processes (`int`, defaults to 1): Processes that share the global batch.
        process_index (`int`, defaults to 0): This process.
        accumulation_steps (`int`, defaults to 1): Micro-batches per optimizer update.
        blocks (`torch.LongTensor` of shape `(num_samples,)`, *optional*): See [`epoch_order`].

    Returns:
        `list[list[tuple[int, int]]]`: For each micro-batch the `(epoch, index)` of its samples.

    Raises:
        ValueError: If the data set is smaller than one global batch.
    """
    global_batch_size = batch_size * num_processes * accumulation_steps
    epoch, batch_in_epoch = divmod(step, num_batches_per_epoch(num_samples, global_batch_size))
    order = epoch_order(num_samples, seed, epoch, blocks)
    micro_batches = []
    for micro_step in range(accumulation_steps):
        start = batch_in_epoch * global_batch_size + (micro_step * num_processes + process_index) * batch_size
        micro_batches.append([(epoch, int(index)) for index in order[start : start + batch_size]])
    return micro_batches


def num_batches_per_epoch(num_samples: int, global_batch_size: int) -> int:
    """Counts the optimizer updates of one pass over the data.

    Args:
        num_samples (`int`): Length of the data set.
        global_batch_size (`int`): Samples per optimizer update over all processes.

    Returns:
        `int`: Full global batches in the data set.

    Raises:
        ValueError: If there is not even one.
    """
    if num_samples < global_batch_size:
        raise ValueError(
            f"The data set has {num_samples} samples, fewer than one optimizer update reads ({global_batch_size} = "
            "batch_size x processes x gradient_accumulation_steps). Use a smaller batch or more data."
        )
    return num_samples // global_batch_size


_last_order: tuple[tuple[int, int, int], torch.Tensor | None, torch.Tensor] | None = None


def epoch_order(num_samples: int, seed: int, epoch: int, blocks: torch.Tensor | None = None) -> torch.Tensor:
    """Orders the samples of one epoch at random.

    With `blocks`, such as the shards of a large data set, whole blocks are shuffled and then the samples within each
    window of `BLOCKS_PER_WINDOW` blocks, so that what is read at about the same time lies in a few files.

    Args:
        num_samples (`int`): Length of the data set.
        seed (`int`): Run seed.
        epoch (`int`): Counted from 0.
        blocks (`torch.LongTensor` of shape `(num_samples,)`, *optional*): Block of each sample, counted from 0.

    Returns:
        `torch.LongTensor` of shape `(num_samples,)`: Every index once.
    """
    # One entry is kept: at 5M samples an order takes 40 MB and is read thousands of times in a row.
    global _last_order
    key = (num_samples, seed, epoch)
    if _last_order is None or _last_order[0] != key or _last_order[1] is not blocks:
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
        if blocks is None:
            order = torch.randperm(num_samples, generator=generator)
        else:
            window = torch.randperm(int(blocks.max()) + 1, generator=generator) // BLOCKS_PER_WINDOW
            order = (window[blocks] + torch.rand(num_samples, dtype=torch.float64, generator=generator)).argsort()
        _last_order = (key, blocks, order)
    return _last_order[2]


class SeededDataset(Dataset):
    """Gives each sample of each epoch its own random generator, whichever worker or process reads it.

    A sample that cannot be read is counted, logged and replaced by one that this epoch leaves out (any other where it
    leaves out none), so that batches keep their size. Which one follows from seed, epoch and index alone, so that a
    resumed run sees the same; two unreadable samples of an epoch can get the same.

    Args:
        dataset (`Dataset`): Any map-style data set (also a plain list or a `datasets.Dataset`). If it has a method
            `draw(index, generator)`, that reads a sample; else `dataset[index]` does.
        transform (`Callable[[Any, torch.Generator], Any]`, *optional*): Turns a sample into what is collated. Draw
            every random choice from the generator; for numpy or `random`, seed with `generator.initial_seed()`. It,
            or the data set, raises [`~seed_hf.data.reading.UnreadableSampleError`] for a sample to skip.
        seed (`int`, defaults to 0): Run seed.
        global_batch_size (`int`, defaults to 1): Samples per optimizer update; says what an epoch leaves out.
        blocks (`torch.LongTensor` of shape `(num_samples,)`, *optional*): See [`epoch_order`].
        skipped (`SkippedSamples`, *optional*): Counts, logs and sets the limit; 1 % and no file by default.
    """

    def __init__(
        self,
        dataset: Sequence,
        transform: Callable[[Any, torch.Generator], Any] | None = None,
        seed: int = 0,
        *,
        global_batch_size: int = 1,
        blocks: torch.Tensor | None = None,
        skipped: SkippedSamples | None = None,
    ):
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.global_batch_size = global_batch_size
        self.blocks = blocks
        self.skipped = skipped or SkippedSamples()

    def __len__(self) -> int:
        """Length of the wrapped data set."""
        return len(self.dataset)

    def __getitem__(self, position: tuple[int, int]) -> Any:
        """Reads the sample at `(epoch, index)`, or the one in its place."""
        epoch, index = position
        tried = [index]
        while True:
            self.skipped.num_read += 1
            try:
                return self._read(epoch, tried[-1])
            except UnreadableSampleError as error:
                self.skipped.add(error, epoch=epoch, index=tried[-1])
                tried.append(self._spare(epoch, tried))

    def _read(self, epoch: int, index: int) -> Any:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, index))
        draws = hasattr(self.dataset, "draw")
        sample = self.dataset.draw(index, generator) if draws else self.dataset[index]
        return sample if self.transform is None else self.transform(sample, generator)

    def _spare(self, epoch: int, tried: list[int]) -> int:
        """The sample to read instead of unreadable ones."""
        order = epoch_order(len(self), self.seed, epoch, self.blocks)
        left_out = order[len(self) // self.global_batch_size * self.global_batch_size :]
        for candidates in (left_out, order):
            candidates = candidates[~torch.isin(candidates, torch.tensor(tried))]
            if len(candidates):
                generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, *tried))
                return int(candidates[torch.randint(len(candidates), (1,), generator=generator)])
        raise ValueError(f"None of the {len(self)} samples of the data set can be read.")


def make_batches(
    dataset: Sequence,
    batch_size: int,
    *,
    seed: int,
    start_step: int = 0,
    num_processes: int = 1,
    process_index: int = 0,
    accumulation_steps: int = 1,
    transform: Callable[[Any, torch.Generator], Any] | None = None,
    collate_fn: Callable[[list], Any] | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
    skipped: SkippedSamples | None = None,
) -> Iterator[Any]:
    """Reads a map-style data set endlessly, starting at any optimizer update.

    Never pass the result through `Accelerator.prepare`: it is already this process's share and would be split again,
    so that half of the data is silently never seen.

    Args:
        dataset (`Sequence`): Map-style data set. If it has an attribute `blocks`, see [`epoch_order`].
        batch_size (`int`): Samples per process and micro-batch.
        seed (`int`): Run seed.
        start_step (`int`, defaults to 0): Optimizer update to start at.
        num_processes (`int`, defaults to 1): Processes that share the data.
        process_index (`int`, defaults to 0): This process.
        accumulation_steps (`int`, defaults to 1): Micro-batches per optimizer update.
        transform (`Callable[[Any, torch.Generator], Any]`, *optional*): See [`SeededDataset`].
        collate_fn (`Callable[[list], Any]`, *optional*): Makes a batch of a list of samples; torch's otherwise.
        num_workers (`int`, defaults to 0): Reader processes; batches do not depend on it.
        pin_memory (`bool`, defaults to `False`): Use page-locked memory, for copies to a GPU.
        skipped (`SkippedSamples`, *optional*): What to do with samples that cannot be read; see [`SeededDataset`].

    Returns:
        `Iterator`: micro-batches on the CPU; `accumulation_steps` of them make up one optimizer update.

    Raises:
        ValueError: If the data set is smaller than one global batch.
        TooManyUnreadableSamplesError: While reading, from here or from a worker.

    Example:
        ```python
        >>> from seed_hf.data.batches import make_batches

        >>> batches = make_batches(list(range(6)), batch_size=3, seed=0)
        >>> sorted([*next(batches).tolist(), *next(batches).tolist()])
        [0, 1, 2, 3, 4, 5]

        ```
    """
    global_batch_size = batch_size * num_processes * accumulation_steps
    num_batches_per_epoch(len(dataset), global_batch_size)
    blocks = getattr(dataset, "blocks", None)

    def positions():
        step = start_step
        while True:
            yield from sample_positions(
                len(dataset),
                batch_size,
                seed=seed,
                step=step,
                num_processes=num_processes,
                process_index=process_index,
                accumulation_steps=accumulation_steps,
                blocks=blocks,
            )
            step += 1

    loader = DataLoader(
        SeededDataset(dataset, transform, seed, global_batch_size=global_batch_size, blocks=blocks, skipped=skipped),
        batch_sampler=positions(),
        collate_fn=collate_fn or default_collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        # A generator of its own: the loader's seed for its workers must not be drawn from the model's random numbers.
        generator=torch.Generator().manual_seed(derive_seed(seed, start_step)),
    )
    return iter(loader)
