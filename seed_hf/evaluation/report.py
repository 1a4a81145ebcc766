"""One JSON for each evaluation: the scores, and all that is needed to get the same ones again."""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..data.resumable import write_whole
from ..provenance import describe_machine, package_versions


_MAPPINGS = ("scores", "not_measured", "models", "data", "settings", "versions")


@dataclass
class EvaluationReport:
    r"""
    What one run measured, on what, with what.

    Args:
        task (`str`): `"retrieval"`, `"reconstruction"`, `"caption"` or `"vqa"`.
        scores (`dict[str, float]`): Scores by name, each as its metric defines it, in percent unless the name says
            otherwise.
        not_measured (`dict[str, str]`): Scores that are left out, and why.
        models (`dict[str, dict]`): For each model `id`, `revision` (commit on the Hub, else `None`), `sha256` (of
            all tensors) and `config_sha256`.
        data (`dict`): `dataset`, `split`, counts, and `sha256` of references and image files.
        settings (`dict`): Prompt, generation settings, batch size, seed and what else decides the scores.
        seconds (`float`): Duration of this call; a resumed run counts only what was left.
        started (`str`): UTC, ISO 8601.
        versions (`dict[str, str]`): Versions of Python and of the packages.
        machine (`str`): Machine that it ran on.

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
            path (`str` or `os.PathLike`): The file; its folder is made.
        """
        with write_whole(Path(path)) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EvaluationReport":
        """Reads what [`save`] wrote.

        Args:
            path (`str` or `os.PathLike`): The file.

        Returns:
            [`EvaluationReport`].

        Raises:
            ValueError: If the file is not a report.
        """
        try:
            report = cls(**json.loads(Path(path).read_text(encoding="utf-8")))
            if wrong := [name for name in _MAPPINGS if not isinstance(getattr(report, name), dict)]:
                raise ValueError(f"{wrong} are not objects")
            return report
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"`path` {str(path)!r} is not a report of `seed-hf eval`: {error}") from error


__all__ = ["EvaluationReport"]
