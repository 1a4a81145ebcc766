"""Samples of several lengths, to be packed into rows."""

import torch


LENGTHS = (9, 14, 7, 11, 20, 5)


def make_samples(seed=0):
    """Half of each sample is a target."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for number, length in enumerate(LENGTHS):
        ids = torch.randint(1, 300, (length,), generator=generator).tolist()
        labels = [-100] * (length // 2) + ids[length // 2 :]
        samples.append({"input_ids": ids, "labels": labels, "is_image_task": number % 2 == 0})
    return samples
