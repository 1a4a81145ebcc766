"""Training checkpoints: written atomically, rotated, strict when read."""

import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.utils import logging

from ..sealed_files import DamagedFileError, file_digest, read_record, write_record
from .sharding import shard_like, unpickle


logger = logging.get_logger(__name__)

_PREFIX = "checkpoint-"
# the record is written last, and holds the hashes of the others and of itself
_WEIGHTS, _STATE, _RECORD = "model.safetensors", "training_state.pt", "training_state.json"
_MAY_DIFFER = (
    "resume",
    "output_dir",
    "max_minutes",
    "stop_at",
    "num_workers",
    "report_to",
    "log_every",
    "keep_checkpoints",
    "max_unreadable_share",
)


def list_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """Lists the complete checkpoints in a folder.

    Args:
        output_dir (`str` or `os.PathLike`): Folder of the run.

    Returns:
        `list[Path]`: `checkpoint-<step>` folders, oldest first.
    """
    folders = Path(output_dir).glob(f"{_PREFIX}*")
    return sorted((path for path in folders if re.fullmatch(rf"{_PREFIX}\d+", path.name)), key=_step_of)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(_PREFIX))


def find_checkpoint(output_dir: str | os.PathLike, resume: str) -> Path | None:
    """Finds what to resume from.

    Args:
        output_dir (`str` or `os.PathLike`): Folder of the run.
        resume (`str`): "auto" for the newest checkpoint in `output_dir` if there is one, "no" for a fresh start, or
            the path of a checkpoint.

    Returns:
        `Path` or `None`: The checkpoint folder, `None` for a fresh start. With "auto" damaged ones are passed over,
        which is logged.

    Raises:
        ValueError: If the path is no checkpoint, if no checkpoint is whole, or if a fresh start would mix with an
            older run in `output_dir`.
    """
    existing = list_checkpoints(output_dir)
    if resume == "auto":
        return _newest_whole(existing)
    if resume == "no":
        if existing:
            raise ValueError(
                f"output_dir={str(output_dir)!r} already holds {existing[-1].name}: use resume='auto' to go on from "
                "it, or another output_dir."
            )
        return None
    if not (Path(resume) / _RECORD).is_file():
        raise ValueError(f"resume={resume!r} is no checkpoint folder. Allowed: 'auto', 'no', or a checkpoint's path.")
    if problem := checkpoint_problem(resume):
        raise ValueError(f"resume={resume!r} cannot be gone on from: {problem}.")
    return Path(resume)


def _newest_whole(checkpoints: Sequence[Path]) -> Path | None:
    problems = []
    for checkpoint in reversed(checkpoints):
        problem = checkpoint_problem(checkpoint)
        if problem is None:
            if problems:
                logger.warning(f"{'; '.join(problems)}. The run goes on from {checkpoint.name}, the newest whole one.")
            return checkpoint
        problems.append(f"{checkpoint.name}: {problem}")
    if problems:
        raise ValueError(
            f"resume='auto' finds no whole checkpoint in {str(checkpoints[0].parent)!r}: {'; '.join(problems)}. "
            "Restore one of them from a copy, or start in another output_dir."
        )
    return None


def checkpoint_problem(checkpoint: str | os.PathLike) -> str | None:
    """Says what is wrong with a checkpoint, after reading all of it.

    Args:
        checkpoint (`str` or `os.PathLike`): The checkpoint folder.

    Returns:
        `str` or `None`: The damaged file and how it is damaged; `None` for a whole checkpoint.
    """
    folder = Path(checkpoint)
    try:
        record, _ = read_record(folder / _RECORD)
        for name in (_WEIGHTS, _STATE):
            if "sha256" in record and file_digest(folder / name) != record["sha256"].get(name):
                return f"{name} is damaged: its hash is not the one in {_RECORD}"
        if "sha256" not in record:
            logger.warning(f"{folder} is of an older version, without hashes: flipped bits may not be noticed.")
            with zipfile.ZipFile(folder / _STATE) as archive:
                if archive.testzip():
                    return f"{_STATE} is damaged: a checksum in it is wrong"
        if names := _nan_names_of_file(folder / _WEIGHTS):
            return f"{_WEIGHTS} holds NaN in {names[:4]}"
    except DamagedFileError as error:
        return str(error)
    except zipfile.BadZipFile as error:
        return f"{_STATE} is damaged: {error}"
    except SafetensorError as error:
        return f"{_WEIGHTS} is damaged: {error}"
    except OSError as error:
        return f"a file cannot be read: {error}"
    return None


def _nan_names_of_file(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return [name for name in file.keys() if nan_names({name: file.get_tensor(name)})]  # noqa: SIM118


def nan_names(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names the tensors with a NaN; of sharded ones only this process's part is looked at.

    Args:
        state (`Mapping[str, torch.Tensor]`): Tensors by name.

    Returns:
        `list[str]`: Their names.
    """
    local = {name: tensor.to_local() if isinstance(tensor, DTensor) else tensor for name, tensor in state.items()}
    return [name for name, tensor in local.items() if tensor.is_floating_point() and tensor.isnan().any()]


def refuse_nan(state: Mapping[str, torch.Tensor], where: str, output_dir: str | os.PathLike) -> None:
    """Stops where weights are NaN, which no further step mends; every process has to call it.

    Args:
        state (`Mapping[str, torch.Tensor]`): What [`trainable_state`] gives.
        where (`str`): Where that is, for the message.
        output_dir (`str` or `os.PathLike`): Folder of the run.

    Raises:
        FloatingPointError: If there is a NaN.
    """
    if names := sorted(set(gather_object(nan_names(state)))):  # shards of other processes count
        raise FloatingPointError(f"The weights {names[:4]} are NaN{where}; {describe_newest(output_dir)}.")


def describe_newest(output_dir: str | os.PathLike) -> str:
    """Names the newest checkpoint, for messages.

    Args:
        output_dir (`str` or `os.PathLike`): Folder of the run.

    Returns:
        `str`: Part of a sentence.
    """
    newest = list_checkpoints(output_dir)[-1:]
    return f"the newest checkpoint in {output_dir} is {newest[0].name if newest else 'none'}"


def choose_checkpoint(output_dir: str | os.PathLike, resume: str, accelerator: Accelerator) -> Path | None:
    """As [`find_checkpoint`], once for all processes: they must not go on from different ones.

    Args:
        output_dir (`str` or `os.PathLike`): Folder of the run, which is tidied up.
        resume (`str`): See [`find_checkpoint`].
        accelerator (`Accelerator`): That of the run.

    Returns:
        `Path` or `None`: The same in every process.

    Raises:
        ValueError: As [`find_checkpoint`], in every process.
    """
    choice: list[Path | ValueError | None] = [None]
    if accelerator.is_main_process:
        try:
            choice = [find_checkpoint(output_dir, resume)]
            if resume not in ("auto", "no"):
                _put_newer_aside(output_dir, choice[0])
            remove_leftovers(output_dir)
        except ValueError as error:
            choice = [error]
    broadcast_object_list(choice)
    if isinstance(choice[0], ValueError):
        raise choice[0]
    return choice[0]


def _put_newer_aside(output_dir: str | os.PathLike, checkpoint: Path) -> None:
    """Else `resume="auto"` would go on from what somebody went back from."""
    for newer in list_checkpoints(output_dir):
        if _step_of(newer) > _step_of(checkpoint):
            aside = newer.with_name(f"superseded-{newer.name}-{uuid.uuid4().hex[:8]}")
            newer.rename(aside)
            logger.warning(f"{newer.name} is newer than {checkpoint.name}, and is now {aside}.")


def remove_leftovers(output_dir: str | os.PathLike) -> None:
    """Removes what a kill while writing or rotating checkpoints left behind.

    Args:
        output_dir (`str` or `os.PathLike`): Folder of the run.
    """
    for path in Path(output_dir).glob(".incomplete-*"):
        if re.fullmatch(rf"\.incomplete-(old-)?{_PREFIX}\d+", path.name):
            shutil.rmtree(path, ignore_errors=True)


def trainable_state(
    model: nn.Module, frozen: Sequence[nn.Module] = (), also_save: Sequence[str] = ()
) -> dict[str, torch.Tensor]:
    """Picks what training changes in a model: parameters with a gradient, and buffers.

    Args:
        model (`nn.Module`): The unwrapped model.
        frozen (`Sequence[nn.Module]`): Sub-modules to leave out as a whole.
        also_save (`Sequence[str]`): Prefixes of frozen parameters that change without a gradient (for example a
            codebook that follows a moving average).

    Returns:
        `dict[str, torch.Tensor]`: Tensors by name, sharing memory with the model.
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
        output_dir (`str` or `os.PathLike`): Folder of the run.
        step (`int`): Number of optimizer updates made.
        model_state (`dict[str, torch.Tensor]`): What [`trainable_state`] gives.
        training_state (`dict`): Optimizer and other states made of tensors and plain values.
        description (`dict`): What a person may want to read, as JSON.
        keep (`int`, defaults to 0): Number of the newest checkpoints that stay; 0 keeps all.

    Returns:
        `Path`: The checkpoint folder.

    Raises:
        OSError: If it cannot be written (a full disk, say); earlier checkpoints are untouched.
    """
    folder = Path(output_dir) / f"{_PREFIX}{step}"
    temporary = Path(output_dir) / f".incomplete-{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in model_state.items()}, temporary / _WEIGHTS)
        torch.save(training_state, temporary / _STATE)
        hashes = {name: file_digest(temporary / name) for name in (_WEIGHTS, _STATE)}
        write_record(temporary / _RECORD, {"step": step, **description, "sha256": hashes})
        for path in (*temporary.iterdir(), temporary):
            _flush_to_disk(path)
        if folder.exists():
            _remove(folder)
        os.rename(temporary, folder)
        _flush_to_disk(folder.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(f"{folder} could not be written: {error}") from error
    # newer ones are damaged ones that the run did not go on from, and do not count
    known = [path for path in list_checkpoints(output_dir) if _step_of(path) <= step]
    for old in known[:-keep] if keep else ():
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
        model_state (`dict[str, torch.Tensor]`): What [`trainable_state`] gives for the model to fill.
        checkpoint (`str` or `os.PathLike`): The checkpoint folder.

    Raises:
        ValueError: If names or shapes differ.
    """
    saved = load_file(Path(checkpoint) / _WEIGHTS)
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


def load_training_state(checkpoint: str | os.PathLike, mmap: bool = False) -> tuple[dict, dict]:
    """Reads what a checkpoint holds beside the weights.

    Args:
        checkpoint (`str` or `os.PathLike`): The checkpoint folder.
        mmap (`bool`, defaults to `False`): Leave tensors in the file until they are used.

    Returns:
        `tuple[dict, dict]`: The training state (tensors, on the CPU) and the description.

    Raises:
        ValueError: If a file is damaged or holds objects other than tensors and plain values.
    """
    return unpickle(Path(checkpoint) / _STATE, mmap=mmap), read_record(Path(checkpoint) / _RECORD)[0]


def check_same_run(checkpoint: str | os.PathLike, description: dict, identity: dict, arguments: Mapping) -> None:
    """Refuses to resume where the run would silently not go on as before, and tells of other differences.

    Args:
        checkpoint (`str` or `os.PathLike`): The checkpoint folder, for messages.
        description (`dict`): What [`load_training_state`] gives.
        identity (`dict`): What decides the order of the data in this run.
        arguments (`Mapping`): Flags of this run; those that differ are logged.

    Raises:
        ValueError: If `identity` differs.
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
