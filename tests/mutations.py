"""Damage of the kinds that files suffer or are given; `mutate` makes a damaged copy."""

import random
from pathlib import Path


# Values at which sizes and counts overflow or turn negative.
_EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_HEADER_BYTES = 256  # where most of what decoders trust stands


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 4, 32])):
        data[_position(data, rng)] ^= 1 << rng.randrange(8)


def _set_integer(data: bytearray, rng: random.Random) -> None:
    size = rng.choice([1, 2, 4])
    value = rng.choice(_EDGES) & (256**size - 1)
    at = _position(data, rng)
    data[at : at + size] = value.to_bytes(size, rng.choice(["big", "little"]))


def _overwrite(data: bytearray, rng: random.Random) -> None:
    at = _position(data, rng)
    size = rng.randrange(1, 64)
    data[at : at + size] = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[_position(data, rng) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = _position(data, rng)
    del data[at : at + rng.randrange(1, 64)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at, size = _position(data, rng), rng.randrange(1, 256)
    data[at:at] = data[at : at + size] * rng.choice([1, 2, 16])


def _append(data: bytearray, rng: random.Random) -> None:
    data += rng.randbytes(rng.randrange(1, 256))


_KINDS = (_flip_bits, _set_integer, _overwrite, _cut, _remove, _repeat, _append)


def _position(data: bytearray, rng: random.Random) -> int:
    """Half of the time in the header."""
    return rng.randrange(min(len(data), rng.choice([_HEADER_BYTES, len(data)])))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A copy of a file with one to three faults.

    Args:
        data: The file; an empty one stays as it is.
        rng: Decides everything, so that the same seed gives the same faults.
    """
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        if result:
            rng.choice(_KINDS)(result, rng)
    return bytes(result)


def damage_file(path: Path, rng: random.Random) -> str:
    """Damages a file on disk as disks, copies and hands do; returns how.

    Args:
        path: The file.
        rng: Decides everything.
    """
    kind = rng.choice(["bit", "bit", "bit", "truncated", "mutated", "page of zeros", "empty", "gone"])
    content = bytearray(path.read_bytes())
    if kind == "gone":
        path.unlink()
        return kind
    if kind == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "mutated":
        content = mutate(content, rng)
    elif kind == "page of zeros":
        at = rng.randrange(len(content))
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    else:
        del content[rng.randrange(len(content)) if kind == "truncated" else 0 :]
    path.write_bytes(content)
    return kind
