"""Training checkpoints: written atomically, rotated, strict when read."""

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import logging

from .training_sharding import shard_like


logger = logging.get_logger(__name__)

_PREFIX = "checkpoint-"
_PACKAGES = ("torch", "transformers", "accelerate", "diffusers", "peft", "datasets", "numpy", "seed_hf")
_MAY_DIFFER = (
    "resume",
    "output_dir",
    "max_minutes",
    "num_workers",
    "report_to",
    "log_every",
    "keep_checkpoints",
    "max_unreadable_share",
)


def list_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """Lists the complete checkpoints in a folder.

    Args:
        output_dir (`str` or `os.PathLike`): folder of the run.

    Returns:
        `list[Path]`: `checkpoint-<step>` folders, oldest first.
    """
    found = {}
    for path in Path(output_dir).glob(f"{_PREFIX}*"):
        if match := re.fullmatch(rf"{_PREFIX}(\d+)", path.name):
            found[int(match.group(1))] = path
    return [found[step] for step in sorted(found)]


def find_checkpoint(output_dir: str | os.PathLike, resume: str) -> Path | None:
    """Finds what to resume from.

    Args:
        output_dir (`str` or `os.PathLike`): folder of the run.
        resume (`str`): "auto" for the newest checkpoint in `output_dir` if there is one, "no" for a fresh start, or
            the path of a checkpoint.

    Returns:
        `Path` or `None`: the checkpoint folder, `None` for a fresh start.

    Raises:
        ValueError: if the path is no checkpoint, or if a fresh start would mix with an older run in `output_dir`.
    """
    existing = list_checkpoints(output_dir)
    if resume == "auto":
        return existing[-1] if existing else None
    if resume == "no":
        if existing:
            raise ValueError(
                f"output_dir={str(output_dir)!r} already holds {existing[-1].name}: use resume='auto' to go on from "
                "it, or another output_dir."
            )
        return None
    if not (Path(resume) / "training_state.json").is_file():
        raise ValueError(f"resume={resume!r} is no checkpoint folder. Allowed: 'auto', 'no', or a checkpoint's path.")
    return Path(resume)


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


def trainable_state(
    model: nn.Module, frozen: Sequence[nn.Module] = (), also_save: Sequence[str] = ()
) -> dict[str, torch.Tensor]:
    """Picks what training changes in a model: parameters with a gradient, and buffers.

    Args:
        model (`nn.Module`): the unwrapped model.
        frozen (`Sequence[nn.Module]`): sub-modules to leave out as a whole.
        also_save (`Sequence[str]`): prefixes of frozen parameters that change without a gradient (for example a
            codebook that follows a moving average).

    Returns:
        `dict[str, torch.Tensor]`: tensors by name, sharing memory with the model.
    """
    skipped = {id(tensor) for module in frozen for tensor in (*module.parameters(), *module.buffers())}
    state_names = model.state_dict().keys()
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or name.startswith(tuple(also_save)):
            state[name] = parameter.detach()
    for name, buffer in model.named_buffers():
        if name in state_names and id(buffer) not in skipped:
            state[name] = buffer
    return state


def save_checkpoint(
    output_dir: str | os.PathLike,
    step: int,
    model_state: dict[str, torch.Tensor],
    training_state: dict,
    description: dict,
    keep: int = 0,
) -> Path:
    """Writes a checkpoint so that a kill at any moment leaves either the whole of it or none of it.

    Args:
        output_dir (`str` or `os.PathLike`): folder of the run.
        step (`int`): optimizer updates done.
        model_state (`dict[str, torch.Tensor]`): what [`trainable_state`] gives.
        training_state (`dict`): optimizer and other states made of tensors and plain values.
        description (`dict`): what a person may want to read, as JSON.
        keep (`int`, defaults to 0): how many of the newest checkpoints stay; 0 keeps all.

    Returns:
        `Path`: the checkpoint folder.

    Raises:
        OSError: if it cannot be written (a full disk, say); earlier checkpoints are untouched.
    """
    folder = Path(output_dir) / f"{_PREFIX}{step}"
    temporary = Path(output_dir) / f".incomplete-{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in model_state.items()}, temporary / "model.safetensors")
        torch.save(training_state, temporary / "training_state.pt")
        (temporary / "training_state.json").write_text(json.dumps({"step": step, **description}, indent=2))
        for path in (*temporary.iterdir(), temporary):
            _flush_to_disk(path)
        if folder.exists():
            _remove(folder)
        os.rename(temporary, folder)
        _flush_to_disk(folder.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(f"{folder} could not be written: {error}") from error
    for old in list_checkpoints(output_dir)[:-keep] if keep else ():
        _remove(old)
    return folder


def _remove(folder: Path) -> None:
    """Under another name first, so that a kill leaves no half of it that looks whole."""
    hidden = folder.with_name(f".incomplete-old-{folder.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    os.rename(folder, hidden)
    shutil.rmtree(hidden)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_model_state(model_state: dict[str, torch.Tensor], checkpoint: str | os.PathLike) -> None:
    """Copies the weights of a checkpoint into a model, accounting for every name.

    Args:
        model_state (`dict[str, torch.Tensor]`): what [`trainable_state`] gives for the model to fill.
        checkpoint (`str` or `os.PathLike`): the checkpoint folder.

    Raises:
        ValueError: if names or shapes differ.
    """
    saved = load_file(Path(checkpoint) / "model.safetensors")
    missing, unexpected = sorted(model_state.keys() - saved.keys()), sorted(saved.keys() - model_state.keys())
    misshapen = [name for name in saved.keys() & model_state.keys() if saved[name].shape != model_state[name].shape]
    if missing or unexpected or misshapen:
        raise ValueError(
            f"The checkpoint {checkpoint} does not fit the model: missing {missing}, unexpected {unexpected}, "
            f"other shape {sorted(misshapen)}. The model and its trained parts must be those of the run that saved it."
        )
    with torch.no_grad():
        for name, tensor in saved.items():
            model_state[name].copy_(shard_like(tensor, model_state[name]))


def load_training_state(checkpoint: str | os.PathLike) -> tuple[dict, dict]:
    """Reads what a checkpoint holds beside the weights.

    Args:
        checkpoint (`str` or `os.PathLike`): the checkpoint folder.

    Returns:
        `tuple[dict, dict]`: the training state (tensors, on the CPU) and the description.
    """
    state = torch.load(Path(checkpoint) / "training_state.pt", map_location="cpu", weights_only=True)
    return state, json.loads((Path(checkpoint) / "training_state.json").read_text())


def check_same_run(checkpoint: str | os.PathLike, description: dict, identity: dict, arguments: Mapping) -> None:
    """Refuses to resume where the run would silently not go on as before, and tells of other differences.

    Args:
        checkpoint (`str` or `os.PathLike`): the checkpoint folder, for messages.
        description (`dict`): what [`load_training_state`] gives.
        identity (`dict`): what decides the order of the data in this run.
        arguments (`Mapping`): flags of this run; those that differ are logged.

    Raises:
        ValueError: if `identity` differs.
    """
    if description["identity"] != identity:
        raise ValueError(
            f"{checkpoint} was saved with {description['identity']}, this run has {identity}: it would not go on as "
            "before. Keep the seed and batch_size x gradient_accumulation_steps x processes (where micro_batches are "
            "named, also the second of them), or start in another output_dir."
        )
    before = {name: value for name, value in description["arguments"].items() if name not in _MAY_DIFFER}
    changed = {name: (value, arguments.get(name)) for name, value in before.items() if value != arguments.get(name)}
    if changed:
        logger.warning(f"Resuming with other arguments (before, now): {changed}")
