"""Folders as the Hub has them: what its client's cache holds after a download, and a repository of codes."""

import json
import shutil
from pathlib import Path

from datasets import Dataset


COMMIT = "0" * 40
CODES = [[1, 2, 3, 4], [5, 6, 7, 8]]


def cache_copy(folder: Path, cache: Path, repo_id: str) -> Path:
    """Copies a saved folder into a cache (`HF_HUB_CACHE`, or `cache_dir`) under an id; returns the snapshot."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    return snapshot


def write_codes_folder(folder: Path) -> Path:
    """Codes of two pictures, as `seed-hf encode` leaves them; returns the folder."""
    (folder / "data").mkdir(parents=True)
    rows = {"key": ["a", "b"], "caption": ["red", "blue"], "codes": CODES}
    Dataset.from_dict(rows).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    description = {"source": "cc3m", "rows": "ab12", "image_tokenizer": "owner/tokenizer", "weights": "cd34"}
    description |= {"dtype": "float32", "num_codes": 4, "codebook_size": 16, "augmented_views": 0}
    description |= {"num_rows": 2, "rows_per_file": 8192}
    (folder / "encoding-train.json").write_text(json.dumps(description))
    return folder
