"""A folder as the Hub client's cache holds it, so that a repository id loads offline, as after a download."""

import shutil
from pathlib import Path


COMMIT = "0" * 40


def cache_copy(folder: Path, cache: Path, repo_id: str) -> Path:
    """Copies a saved folder into a cache (`HF_HUB_CACHE`, or `cache_dir`) under an id; returns the snapshot."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    return snapshot
