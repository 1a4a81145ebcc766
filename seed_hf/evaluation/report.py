"""One JSON for each evaluation: the scores, and all that is needed to get the same ones again."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from ..training_checkpoint import describe_machine, package_versions


if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class EvaluationReport:
    r"""
    What one run measured, on what, with what.

    Args:
        task (`str`): `"retrieval"`, `"reconstruction"`, `"caption"` or `"vqa"`.
        scores (`dict[str, float]`): By name, each as its metric defines it (percent unless the name says otherwise).
        not_measured (`dict[str, str]`): Scores that are left out, and why.
        models (`dict[str, dict]`): For each model `id`, `revision` (commit on the Hub, else `None`), `sha256` (of
            all tensors) and `config_sha256`.
        data (`dict`): `dataset`, `split`, counts, and `sha256` of references and picture files.
        settings (`dict`): Prompt, generation settings, batch size, seed and what else decides the scores.
        seconds (`float`): Of this call; a resumed run counts only what was left.
        started (`str`): UTC, ISO 8601.
        versions (`dict[str, str]`): Of Python and of the packages.
        machine (`str`): What it ran on.

    Example:

    ```python
    >>> from seed_hf.evaluation import EvaluationReport
    >>> report = EvaluationReport("vqa", {"accuracy": 50.0}, {}, {}, {}, {"seed": 0}, 1.5)
    >>> report.scores["accuracy"]
    50.0

    ```
    """

    task: str
    scores: dict[str, float]
    not_measured: dict[str, str]
    models: dict[str, dict[str, str | None]]
    data: dict[str, Any]
    settings: dict[str, Any]
    seconds: float
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    versions: dict[str, str] = field(default_factory=package_versions)
    machine: str = field(default_factory=describe_machine)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the JSON, whole or not at all.

        Args:
            path (`str` or `os.PathLike`): the file; its folder is made.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.incomplete")
        temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EvaluationReport":
        """Reads what [`save`] wrote.

        Args:
            path (`str` or `os.PathLike`): the file.

        Returns:
            [`EvaluationReport`].

        Raises:
            ValueError: if the file is no report.
        """
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"`path` {str(path)!r} is no report of `seed-hf eval`: {error}") from error


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


__all__ = ["EvaluationReport", "describe_model"]
