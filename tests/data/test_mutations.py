"""Damaged data sets give rows or a `ValueError`, whatever the damage."""

import random
from collections import Counter

import pytest
from fuzz.captions import KINDS, Captions


NUM_FILES = 40  # of each kind; `make fuzz` tries more


@pytest.mark.parametrize("write", KINDS)
def test_damaged_files(tmp_path, write):
    target, rng = Captions(tmp_path, (write,)), random.Random(write.__name__)
    outcomes = Counter(target.try_one(rng)[1] for _ in range(NUM_FILES))
    assert outcomes["read"] and outcomes.total() == NUM_FILES
