"""A few small pictures with captions, written in the layouts that image-text data sets come in."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture_bytes(number: int, size: int = 24, image_format: str = "JPEG") -> bytes:
    """A picture of noise in one of many colours, as a file."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 60, (size, size + number % 5, 3)) + random.integers(0, 196, 3)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, image_format)
    return file.getvalue()


def sample(number: int, **parts: bytes | str | dict) -> tuple[str, dict[str, bytes]]:
    """Name and files of one sample of a shard; `None` leaves a file out."""
    parts = {"jpg": picture_bytes(number), "txt": f"picture {number}", **parts}
    encode = {str: str.encode, dict: lambda value: json.dumps(value).encode(), bytes: bytes}
    return f"{number:06d}", {name: encode[type(part)](part) for name, part in parts.items() if part is not None}


def write_shard(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> str:
    """Writes a tar file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, parts in samples:
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return str(path)


def write_shards(folder: Path, num_shards: int = 3, samples_per_shard: int = 8, split: str = "train", **parts) -> str:
    """Writes shards of numbered pictures; returns the pattern that names them for every split."""
    for shard in range(num_shards):
        numbers = range(shard * samples_per_shard, (shard + 1) * samples_per_shard)
        write_shard(folder / f"{split}-{shard:04d}.tar", [sample(number, **parts) for number in numbers])
    return str(folder / "{split}-*.tar")
