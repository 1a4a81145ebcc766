"""One JSON for each evaluation: the scores, and all that is needed to get the same ones again."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        models (`dict[str, dict]`): For each model `id`, `revision` (commit on the Hub, else `None`) and `sha256` (of
            weights and configuration).
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
        """
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


def describe_model(name: str | os.PathLike, *folders: Path) -> dict[str, str | None]:
    """Says which weights a model has.

    Args:
        name (`str` or `os.PathLike`): folder or Hub id that was asked for.
        folders (`Path`): what it was loaded from.

    Returns:
        `dict`: `id`, `revision` and `sha256`.
    """
    digest = hashlib.sha256()
    for path in sorted({path for folder in folders for path in Path(folder).glob("*")}):
        if path.suffix in (".safetensors", ".json") and path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    paths = [Path(folder).parts for folder in folders]
    # in the cache of the Hub client: .../snapshots/<commit>/...
    commits = [parts[parts.index("snapshots") + 1] for parts in paths if "snapshots" in parts]
    return {"id": str(name), "revision": commits[0] if commits else None, "sha256": digest.hexdigest()[:16]}


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
