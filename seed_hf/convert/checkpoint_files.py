"""Checkpoint files of any kind, read lazily and written in shards, so that memory holds at most one of them."""

import json
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..hub.secrets import hide_credentials


# What a folder may hold, the best first: index files name the shards.
FOLDER_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
# The names under which training checkpoints keep their weights, beside optimizer, epoch and the like.
STATE_DICT_LEVELS = ("model", "state_dict")
MAX_SHARD_BYTES = 5 * 10**9
# Opening a file takes longer than copying small tensors from it.
COPIED_AT_ONCE = 16 * 2**20
# Before the values of the old format: magic number, protocol, system, content, keys of the storages.
NUM_PICKLES = 5
# A byte of a pickle can ask for an object (an empty set is the largest) or for any number of equal values. Honest
# files stay far below these limits; whoever has one that does not can set them here before converting.
OBJECT_BYTES = 216
MAX_OBJECTS_BYTES = 512 * 2**20  # or twice the size of the file, if that is more
MAX_SIZE_RATIO = 8  # of all tensors together to their file: some are stored once and used several times


def checkpoint_files(path: str | os.PathLike) -> list[Path]:
    """The files that a path names: itself, the shards of an index, or the weights in a folder."""
    path = Path(path)
    if path.is_dir():
        present = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not present:
            raise ValueError(f"`path` is {str(path)!r}; allowed: a folder with one of {FOLDER_FILES}.")
        path = present[0]
    if path.name.endswith(".index.json"):
        shards = sorted(set(_read_weight_map(path).values()))
        files = [path.with_name(shard) for shard in shards]
    else:
        files = [path]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            hide_credentials(f"`path` is {str(path)!r}: no such file {missing}; allowed: files that exist.")
        )
    return files


def _read_weight_map(path: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if all(isinstance(shard, str) for shard in weight_map.values()):
            return weight_map
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # one message for all that it may be instead
    raise ValueError(f"`{path}` is no index of weights: a JSON object whose `weight_map` has the file of each weight.")


def read_pickle(path: Path) -> dict:
    """Reads a pickle with `weights_only=True`; tensors stay on the disk until they are used."""
    _check_pickle_size(path)
    try:
        # only the zip format (torch >= 1.6) can be mapped; older files are read whole
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except OSError:
        raise
    except Exception as error:  # torch's unpickler raises errors of any type on broken files
        # torch's own message recommends weights_only=False
        names = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        reason = f"it would run code of {', '.join(names)}" if names else "it holds other things than tensors"
        raise ValueError(
            f"`{path}` cannot be read with weights_only=True: {reason}. Allowed: a pickle of tensors and plain "
            "containers, or safetensors. Nothing else is unpickled: ask whoever made the file to save its state dict."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` holds a {type(content).__name__}; allowed: a dict of tensors.")
    return content


def _check_pickle_size(path: Path):
    """Refuses a pickle that would take much more memory than the file has bytes, before anything is loaded."""
    size = path.stat().st_size
    max_objects = max(2 * size, MAX_OBJECTS_BYTES) // OBJECT_BYTES
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            num_objects = _count_objects(file, max_objects)
    else:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > size:
                raise ValueError(f"`{path}` has {size:,} bytes and unpacks to {unpacked:,}; allowed: no compression.")
            pickles = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
            num_objects = sum(_count_objects(archive.open(info), max_objects) for info in pickles)
    if num_objects > max_objects:
        raise ValueError(
            f"`{path}` has {size:,} bytes and asks for more than {max_objects:,} objects; allowed: that many, or a "
            "larger `seed_hf.convert.checkpoint_files.MAX_OBJECTS_BYTES`."
        )


def _count_objects(file: IO[bytes], max_objects: int) -> int:
    """Steps of the pickles at the start of a file, each of which makes at most one object; stops beyond the limit."""
    count = 0
    # what is no pickle, such as the raw values behind them in old files, is for `torch.load` to judge
    with suppress(Exception):
        for _ in range(NUM_PICKLES):
            for _ in pickletools.genops(file):
                count += 1
                if count > max_objects:
                    return count
    return count


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
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and _is_dense(value)}
    others |= {name: "no dense tensor with a name" for name in content if name not in tensors}
    _check_tensor_sizes(path, tensors)
    return _File(tensors, {f"{path.name}: {name}": reason for name, reason in others.items()})


def _is_dense(value) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


def _check_tensor_sizes(path: Path, tensors: dict[str, torch.Tensor]):
    """Refuses views that present one stored value as any number of them."""
    size, declared = path.stat().st_size, sum(map(tensor_bytes, tensors.values()))
    if declared > MAX_SIZE_RATIO * size + 2**20:
        raise ValueError(
            f"`{path}` has {size:,} bytes and tensors of {declared:,}; allowed: {MAX_SIZE_RATIO} times its size, or a "
            "larger `seed_hf.convert.checkpoint_files.MAX_SIZE_RATIO`."
        )


class Checkpoint(Mapping):
    r"""
    The weights of several files as one mapping, each read from the disk when it is asked for.

    One file is open at a time. Tensors are mapped and not copied, so memory holds the used part of the open file.

    Args:
        paths (`list[str | os.PathLike]`): Pickles (`.pth`, `.pt`, `.bin`), safetensors, index files of shards, or
            folders with one of these. A name in several files counts where it comes last.
        prefix (`Callable[[Iterable[str]], str]`, *optional*): Returns the prefix for the names in a file.

    Attributes:
        meta (`dict[str, torch.Tensor]`): Tensors on the meta device by name, for their shape and dtype.
        others (`dict[str, str]`): Why the other entries of the files are not used, by entry.
        files (`list[Path]`): The files, with shards in place of their index.

    Raises:
        ValueError: A file does not exist or cannot be read safely.

    Example:

    ```python
    >>> import tempfile, torch
    >>> from seed_hf.convert.checkpoint_files import Checkpoint
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
        self._copied_bytes = 0
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
        """One tensor in memory of its own; the pages that were read are given back now and then."""
        tensor = self[name].clone()
        self._copied_bytes += tensor.nbytes
        if self._copied_bytes > COPIED_AT_ONCE:
            self.close()
        return tensor

    def close(self):
        """Lets go of the open file; the next access opens it again."""
        self._open_path = self._file = None
        self._copied_bytes = 0

    @property
    def largest_file_bytes(self) -> int:
        """Size of the largest file, which bounds memory."""
        return max(file.stat().st_size for file in self.files)


@dataclass
class Shard:
    """Weights that are made and written together; `produce(names)` makes them when their turn comes."""

    produce: Callable[[list[str]], dict[str, torch.Tensor]]
    sizes: dict[str, int]


def plan_shards(
    checkpoint: Checkpoint,
    used: dict[str, list[str]],
    target: Mapping[str, torch.Tensor],
    make: Callable[[str, list[torch.Tensor]], torch.Tensor],
) -> list[Shard]:
    r"""
    Plans one shard for each input file, so that one file at a time is mapped.

    Args:
        checkpoint ([`Checkpoint`]): The input.
        used (`dict[str, list[str]]`): Names in the input by the name to write.
        target (`Mapping[str, torch.Tensor]`): Tensors of the final shapes by the name to write.
        make (`Callable`): Makes the tensor to write from its name and a list of input tensors.

    Returns:
        `list[Shard]`: Shards in the order of the files; nothing is read yet.
    """

    def produce(names: list[str]) -> dict[str, torch.Tensor]:
        return {name: make(name, [checkpoint[key] for key in used[name]]) for name in names}

    sizes = {file: {} for file in checkpoint.files}
    for name, keys in used.items():
        itemsize = checkpoint.meta[keys[-1]].element_size()
        sizes[checkpoint.file_of(keys[-1])][name] = target[name].numel() * itemsize
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
    Writes safetensors one shard at a time, named as in transformers and diffusers, with an index for several.

    Args:
        folder (`Path`): Folder to write, made if missing.
        shards (`list[Shard]`): What to write; shards that are too large are cut.
        stem (`str`, defaults to `"model"`): Beginning of the file names; `"diffusion_pytorch_model"` for diffusers.
        max_shard_bytes (`int`, defaults to `5 * 10 ** 9`): Size of the largest file to write.
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
    """Contiguous tensors of which no two share memory, which safetensors refuses."""
    seen, result = set(), {}
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        tensor = tensor.clone(memory_format=torch.contiguous_format) if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
        result[name] = tensor.contiguous()
    return result


def tensor_bytes(tensor: torch.Tensor) -> int:
    """Size of a tensor's values in bytes, also on the meta device."""
    return tensor.numel() * tensor.element_size()


__all__ = ["Checkpoint", "Shard", "checkpoint_files", "cut_shards", "plan_shards", "tensor_bytes", "write_shards"]
