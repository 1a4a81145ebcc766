"""Toy models, data and servers that tests share: real classes at toy size, no mocks."""

from pathlib import Path


TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
TRAINING = ROOT / "training"
BENCHMARKS = ROOT / "benchmarks"
EMOJI = TRAINING / "data" / "emoji"
