"""What a number came from: versions, machine, and digests of weights and rows."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
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
        `dict[str, str]`: version by package; packages that are not installed are left out.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def describe_machine() -> str:
    """Says what a run computes on, such as `"cpu x86_64, 2 threads"`.

    Returns:
        `str`: accelerators of this process's machine and their number, or processor and threads.
    """
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"cpu {platform.machine()}, {torch.get_num_threads()} threads"


def weights_digest(*folders: Path) -> str:
    """Hashes the weights and settings in folders.

    Args:
        folders (`Path`): of an image tokenizer and its image processor.

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
    """Hashes names and captions of rows in their order; pictures are not read.

    Args:
        rows (`datasets.Dataset`): the rows.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    names = [name for name in ("key", "caption") if name in rows.column_names]
    for batch in rows.select_columns(names).iter(10_000):
        digest.update(json.dumps(batch).encode())
    return digest.hexdigest()[:16]


def describe_model(name: str | os.PathLike, *folders: Path, without: str | None = None) -> dict[str, str | None]:
    """Says which weights a model has.

    The hash is of names, types, shapes and contents of all tensors, however they are spread over files and folders:
    the same weights alone, in a pipeline, or with code files beside them have the same one.

    Args:
        name (`str` or `os.PathLike`): folder or Hub id that was asked for.
        folders (`Path`): what it was loaded from.
        without (`str`, *optional*): prefix of tensors to leave out.

    Returns:
        `dict`: `id`, `revision`, `sha256` and `config_sha256`, the hash of all JSON files.
    """
    folders = tuple(sorted({Path(folder) for folder in folders}))
    tensors = sorted(
        (key, digest)
        for folder in folders
        for path in folder.glob("*.safetensors")
        for key, digest in _tensor_digests(path)
        if not (without and key.startswith(without))
    )
    configs = sorted((path.name, path.read_text("utf-8")) for folder in folders for path in folder.glob("*.json"))
    hashes = [hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16] for content in (tensors, configs)]
    paths = [folder.parts for folder in folders]
    # in the cache of the Hub client: .../snapshots/<commit>/...
    commits = [parts[parts.index("snapshots") + 1] for parts in paths if "snapshots" in parts]
    found = {"id": str(name), "revision": commits[0] if commits else None}
    return found | dict(zip(("sha256", "config_sha256"), hashes, strict=True))


def weights_of(models: dict[str, dict[str, str | None]]) -> dict[str, list[str | None]]:
    """What decides the predictions of models, for the description of a work folder.

    Args:
        models (`dict[str, dict]`): from [`describe_model`].

    Returns:
        `dict[str, list]`: hashes by name.
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
    """Hashes everything in the rows but the pictures, whose files are hashed when they are read.

    Args:
        rows (`datasets.Dataset`): the rows.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    names = sorted(set(rows.column_names) - {"image", "shard"})
    for batch in rows.select_columns(names).iter(1000):
        digest.update(json.dumps(batch, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def content_digest(references: str, pictures: str) -> str:
    """Hash of a whole split.

    Args:
        references (`str`): from [`references_digest`].
        pictures (`str`): hash of all picture files.

    Returns:
        `str`: 64 hexadecimal digits.
    """
    return hashlib.sha256(f"{references} {pictures}".encode()).hexdigest()
