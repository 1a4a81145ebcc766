"""What a number came from: versions, machine, and digests of weights and rows."""

import functools
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open


if TYPE_CHECKING:
    from datasets import Dataset


_PACKAGES = ("torch", "transformers", "accelerate", "diffusers", "peft", "datasets", "numpy", "seed_hf")


def package_versions() -> dict[str, str]:
    """Names the versions of Python and of the packages that a run's numbers depend on.

    Returns:
        `dict[str, str]`: Version by package, without packages that are not installed.
    """
    found = {package: _version(package) for package in _PACKAGES}
    return {"python": platform.python_version()} | {name: value for name, value in found.items() if value is not None}


@functools.cache
def _version(package: str) -> str | None:
    """Read once: each takes milliseconds, and every checkpoint says them all."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_machine() -> str:
    """Says what a run computes on, such as `"cpu x86_64, 2 threads"`.

    Returns:
        `str`: The number and name of the machine's accelerators, or its processor and the number of threads.
    """
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"cpu {platform.machine()}, {threads} thread{'' if threads == 1 else 's'}"


def weights_digest(*folders: Path) -> str:
    """Hashes the weights and settings in folders.

    Args:
        folders (`Path`): Folders of an image tokenizer and of its image processor.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted({path for folder in folders for path in Path(folder).glob("*")}):
        if path.suffix == ".safetensors" or path.name in ("config.json", "preprocessor_config.json"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def rows_digest(rows: "Dataset") -> str:
    """Hashes names and captions of rows in their order; images are not read.

    Args:
        rows (`datasets.Dataset`): Rows as [`~seed_hf.data.load_rows`] returns them.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    names = [name for name in ("key", "caption") if name in rows.column_names]
    return _hash_columns(rows, names, 10_000)[:16]


def describe_model(name: str | os.PathLike, *folders: Path, without: str | None = None) -> dict[str, str | None]:
    """Says which weights a model has.

    The hash is of names, types, shapes and contents of all tensors, however they are spread over files and folders:
    the same weights alone, in a pipeline, or with code files beside them have the same one.

    Args:
        name (`str` or `os.PathLike`): Folder or Hub id that was asked for.
        folders (`Path`): Folders that it was loaded from.
        without (`str`, *optional*): Prefix of the names of tensors to leave out.

    Returns:
        `dict`: `id`, `revision`, `sha256` and `config_sha256`, the hash of all JSON files.
    """
    folders = tuple(sorted({Path(folder) for folder in folders}))
    tensors = sorted(
        (key, digest)
        for folder in folders
        for path in folder.glob("*.safetensors")
        if path.name != "original_only.safetensors"  # no weights of the model
        for key, digest in _tensor_digests(path)
        if not (without and key.startswith(without))
    )
    configs = sorted((path.name, path.read_text("utf-8")) for folder in folders for path in folder.glob("*.json"))
    hashes = [hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16] for content in (tensors, configs)]
    # in the cache of the Hub client: .../snapshots/<commit>/...
    commits = re.findall(r"/snapshots/([0-9a-f]{40})(?=/|$)", "\n".join(map(Path.as_posix, folders)), re.MULTILINE)
    origin = {"id": str(name), "revision": commits[0] if commits else None}
    return origin | dict(zip(("sha256", "config_sha256"), hashes, strict=True))


def weights_of(models: dict[str, dict[str, str | None]]) -> dict[str, list[str | None]]:
    """What decides the predictions of models, for the description of a work folder.

    Args:
        models (`dict[str, dict]`): What [`describe_model`] returned, by name.

    Returns:
        `dict[str, list]`: Hashes by name.
    """
    return {name: [model["sha256"], model["config_sha256"]] for name, model in models.items()}


def _tensor_digests(path: Path) -> Iterator[tuple[str, str]]:
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(key)
            digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)} ".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
            yield key, digest.hexdigest()


def references_digest(rows: "Dataset") -> str:
    """Hashes everything in the rows but the images, whose files are hashed when they are read.

    Args:
        rows (`datasets.Dataset`): Rows as [`~seed_hf.data.load_rows`] returns them.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    names = sorted(set(rows.column_names) - {"image", "shard"})
    return _hash_columns(rows, names, 1000, sort_keys=True, default=str)


def columns_digest(rows: "Dataset", names: Sequence[str]) -> str:
    """Hashes columns of rows in their order, in whatever form they are stored: nothing is decoded.

    Args:
        rows (`datasets.Dataset`): Rows.
        names (`Sequence[str]`): Columns.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for batch in rows.select_columns(list(names)).with_format("arrow").iter(10_000):
        digest.update(json.dumps(batch.to_pydict(), default=str).encode())
    return digest.hexdigest()[:16]


def _hash_columns(rows: "Dataset", names: list[str], batch_size: int, **json_settings) -> str:
    # batch sizes and settings are part of hashes that are on disk already
    digest = hashlib.sha256()
    for batch in rows.select_columns(names).iter(batch_size):
        digest.update(json.dumps(batch, **json_settings).encode())
    return digest.hexdigest()


def content_digest(references: str, images: str) -> str:
    """Hashes a whole split.

    Args:
        references (`str`): What [`references_digest`] returned.
        images (`str`): Hash of all image files.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    return hashlib.sha256(f"{references} {images}".encode()).hexdigest()
