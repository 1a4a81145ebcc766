"""JSON files of a folder that somebody else may have written."""

import json
from pathlib import Path


def is_json(path: Path) -> bool:
    """Whether a file is JSON in UTF-8."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # bad UTF-8 is a ValueError too
        return False
    return True


def read_json(path: Path) -> dict:
    """A JSON object, or an empty dict where there is no such file. `ValueError`: the file holds something else."""
    if not path.is_file():
        return {}
    values = json.loads(path.read_text(encoding="utf-8")) if is_json(path) else None
    if not isinstance(values, dict):
        raise ValueError(f"`{path}` is no JSON object, such as {{}}.")
    return values


__all__ = ["is_json", "read_json"]
