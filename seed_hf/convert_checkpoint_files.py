"""Checkpoint files of any kind, read lazily and written in shards: never more than one file's worth in memory."""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


# What a folder may hold, best first: index files name the shards.
FOLDER_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
# Under which name training checkpoints keep their weights beside optimizer, epoch and the like.
STATE_DICT_LEVELS = ("model", "state_dict")
MAX_SHARD_BYTES = 5 * 10**9


def checkpoint_files(path: str | os.PathLike) -> list[Path]:
    """The files behind a path: itself, the shards of an index, or what a folder of transformers or diffusers holds."""
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not found:
            raise ValueError(f"`path` is {str(path)!r}; allowed: a folder with one of {FOLDER_FILES}.")
        path = found[0]
    if path.name.endswith(".index.json"):
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [path.with_name(shard) for shard in shards]
    else:
        files = [path]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"`path` is {str(path)!r}, which needs {missing}; allowed: files that exist.")
    return files


def read_pickle(path: Path) -> dict:
    """What a pickle holds, with `weights_only=True`; tensors stay on the disk until they are used."""
    try:
        # only the zip format (torch >= 1.6) can be mapped; older files are read whole
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        # torch's own text would talk the reader into weights_only=False
        names = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        reason = f"it would run code of {', '.join(names)}" if names else "it holds something else than tensors"
        raise ValueError(
            f"`{path}` can not be read with weights_only=True: {reason}. Allowed: a pickle of tensors and plain "
            "containers, or safetensors. Nothing else is unpickled: have whoever made the file save its state dict."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` holds a {type(content).__name__}; allowed: a dict of tensors.")
    return content


@dataclass
class _File:
    """One open file: its tensors by name, and the reason for each entry that is no tensor."""

    tensors: Mapping[str, torch.Tensor]
    others: dict[str, str]


class _Safetensors(Mapping):
    """The tensors of a safetensors file, mapped from the disk when they are asked for."""

    def __init__(self, path: Path):
        try:
            self._file = safe_open(path, framework="pt")
        except Exception as error:  # safetensors' own exception derives from `Exception` only
            raise ValueError(f"`{path}` is no safetensors file: {error}.") from error
        self._names = list(self._file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _open(path: Path) -> _File:
    if path.suffix == ".safetensors":
        return _File(_Safetensors(path), {})
    content, others = read_pickle(path), {}
    for level in STATE_DICT_LEVELS:
        if isinstance(content.get(level), dict):
            others = {name: f"training state beside `{level}`, no weights" for name in content if name != level}
            content = content[level]
            break
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    others |= {name: "no tensor" for name in content if name not in tensors}
    return _File(tensors, {f"{path.name}: {name}": reason for name, reason in others.items()})


class Checkpoint(Mapping):
    r"""
    The weights of several files as one mapping, each read from the disk when it is asked for.

    One file is open at a time. Tensors are mapped, not copied: memory holds what was used of the open file.

    Args:
        paths (`list[str | os.PathLike]`): Pickles (`.pth`, `.pt`, `.bin`), safetensors, index files of shards, or
            folders with one of these. A name in several files counts where it comes last.
        prefix (`Callable[[Iterable[str]], str]`, *optional*): Given the names in a file, what to put before them.

    Attributes:
        meta (`dict[str, torch.Tensor]`): Name -> tensor on the meta device: shape and dtype.
        others (`dict[str, str]`): What else the files hold -> why it is not used.
        files (`list[Path]`): The files, shards resolved.

    Raises:
        ValueError: A file that does not exist or can not be read safely.

    Example:

    ```python
    >>> import tempfile, torch
    >>> from seed_hf.convert_checkpoint_files import Checkpoint
    >>> path = tempfile.mkdtemp() + "/stage.pth"
    >>> torch.save({"model": {"temp": torch.tensor(0.07)}, "epoch": 3}, path)
    >>> checkpoint = Checkpoint([path])
    >>> dict(checkpoint), checkpoint.others
    ({'temp': tensor(0.0700)}, {'stage.pth: epoch': 'training state beside `model`, no weights'})

    ```
    """

    def __init__(self, paths: list[str | os.PathLike], prefix: Callable[[Iterable[str]], str] | None = None):
        self.files = [file for path in paths for file in checkpoint_files(path)]
        self.meta: dict[str, torch.Tensor] = {}
        self.others: dict[str, str] = {}
        self._places: dict[str, tuple[Path, str]] = {}
        self._open_path: Path | None = None
        for path in self.files:
            file = self._switch_to(path)
            before = prefix(list(file.tensors)) if prefix else ""
            self.others |= file.others
            for name in file.tensors:
                if before + name in self._places:
                    earlier = self._places[before + name][0].name
                    self.others[f"{earlier}: {before}{name}"] = f"overridden by {path.name}"
                self._places[before + name] = (path, name)
                self.meta[before + name] = torch.empty_like(file.tensors[name], device="meta")

    def _switch_to(self, path: Path) -> _File:
        if path != self._open_path:
            self._file = None  # lets go of the old file before the new one is mapped
            self._open_path, self._file = path, _open(path)
        return self._file

    def __getitem__(self, name: str) -> torch.Tensor:
        path, own_name = self._places[name]
        return self._switch_to(path).tensors[own_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def file_of(self, name: str) -> Path:
        """The file that a tensor is read from."""
        return self._places[name][0]

    def copy(self, name: str) -> torch.Tensor:
        """One tensor in memory of its own; the pages that were read for it are given back."""
        tensor = self[name].clone()
        self.close()
        return tensor

    def close(self):
        """Lets go of the open file; the next access opens it again."""
        self._open_path = self._file = None

    @property
    def largest_file_bytes(self) -> int:
        """Size of the largest file: what memory is bounded by."""
        return max(file.stat().st_size for file in self.files)


@dataclass
class Shard:
    """Weights that are made, and written, together: `produce(names)` gives them when their turn comes."""

    produce: Callable[[list[str]], dict[str, torch.Tensor]]
    sizes: dict[str, int]


def plan_shards(
    checkpoint: Checkpoint,
    used: dict[str, list[str]],
    wanted: Mapping[str, torch.Tensor],
    make: Callable[[str, list[torch.Tensor]], torch.Tensor],
) -> list[Shard]:
    r"""
    One shard for each input file, so that one file at a time is mapped.

    Args:
        checkpoint ([`Checkpoint`]): The input.
        used (`dict[str, list[str]]`): Name to write -> names in the input.
        wanted (`Mapping[str, torch.Tensor]`): Name to write -> tensor of the shape that it will have.
        make (`Callable`): `make(name to write, input tensors) -> tensor`.

    Returns:
        `list[Shard]`: in the order of the files; nothing is read yet.
    """

    def produce(names: list[str]) -> dict[str, torch.Tensor]:
        return {name: make(name, [checkpoint[key] for key in used[name]]) for name in names}

    sizes = {file: {} for file in checkpoint.files}
    for name, keys in used.items():
        itemsize = checkpoint.meta[keys[-1]].element_size()
        sizes[checkpoint.file_of(keys[-1])][name] = wanted[name].numel() * itemsize
    return [Shard(produce, names) for names in sizes.values() if names]


def cut_shards(shards: list[Shard], max_bytes: int) -> list[Shard]:
    """Cuts shards above a size, between tensors."""
    result = []
    for shard in shards:
        part: dict[str, int] = {}
        for name, size in shard.sizes.items():
            if part and sum(part.values()) + size > max_bytes:
                result.append(Shard(shard.produce, part))
                part = {}
            part[name] = size
        if part:
            result.append(Shard(shard.produce, part))
    return result


def write_shards(folder: Path, shards: list[Shard], stem: str = "model", max_shard_bytes: int = MAX_SHARD_BYTES):
    r"""
    Writes safetensors one shard at a time, as transformers and diffusers name them, with an index of several.

    Args:
        folder (`Path`): Where to; made if missing.
        shards (`list[Shard]`): What to write; larger ones are cut.
        stem (`str`, defaults to `"model"`): `"diffusion_pytorch_model"` for diffusers.
        max_shard_bytes (`int`, defaults to `5 * 10 ** 9`): Largest file to write.
    """
    shards = cut_shards(shards, max_shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for index, shard in enumerate(shards):
        suffix = f"-{index + 1:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        filename = f"{stem}{suffix}.safetensors"
        # zero-copy: the pages of a mapped input go to the output as they are read
        save_file(_unshare(shard.produce(list(shard.sizes))), folder / filename, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard.sizes, filename)
    if len(shards) > 1:
        total = sum(size for shard in shards for size in shard.sizes.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        path = folder / f"{stem}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _unshare(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors, no two of them on the same memory, which safetensors refuses."""
    seen, result = set(), {}
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        tensor = tensor.clone(memory_format=torch.contiguous_format) if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
        result[name] = tensor.contiguous()
    return result


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Size of a tensor's values in bytes; the meta device is fine."""
    return tensor.numel() * tensor.element_size()


__all__ = ["Checkpoint", "Shard", "checkpoint_files", "cut_shards", "plan_shards", "tensor_bytes", "write_shards"]
