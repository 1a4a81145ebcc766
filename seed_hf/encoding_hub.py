"""A data set of codes as a repository on the Hub: its card, and the upload."""

import json
import os
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from .encoded_data import count_encoded, part_paths


_TEXT = """\
# {title}

Pictures as {num_codes} discrete codes of [SEED](https://arxiv.org/abs/2307.08041) each, with their captions. The
pictures themselves are not here.

| split | images | skipped | encoded from | rows |
| --- | ---: | ---: | --- | --- |
{table}

- Image tokenizer: `{image_tokenizer}` (files `{weights}`, {dtype}). Codes mean nothing to another one.
- `codes`: integers in [0, {codebook_size}), in the order of the queries.{augmented}
- Skipped pictures could not be read; they are listed under `skipped/`.

```python
from datasets import load_dataset

codes = load_dataset("{repo_id}", split="{split}")["codes"][0]
```

Captions, and rights in the pictures that they describe, are those of the source.
"""


def write_dataset_card(folder: str | os.PathLike, repo_id: str) -> Path:
    """Writes the `README.md` of a folder of codes.

    Args:
        folder (`str` or `os.PathLike`): what [`~seed_hf.encoding_seed.encode_rows`] wrote.
        repo_id (`str`): where it is going to be.

    Returns:
        `Path`: the card.

    Raises:
        ValueError: if there are no codes in `folder`, or splits of different weights.
    """
    folder = Path(folder)
    described = folder.glob("encoding-*.json")
    splits = {path.stem.removeprefix("encoding-"): json.loads(path.read_text()) for path in described}
    if not splits:
        raise ValueError(f"`folder` is {str(folder)!r}; allowed: a folder with codes.")
    first = next(iter(splits.values()))
    if other := [split for split, found in splits.items() if found["weights"] != first["weights"]]:
        raise ValueError(f"`folder` {str(folder)!r} has splits of different weights: {other} and the others.")
    counts = {
        split: count_encoded(part_paths(folder, split, found["num_rows"], found["rows_per_file"]))
        for split, found in sorted(splits.items())
    }
    table = [
        f"| {split} | {images} | {skipped} | {splits[split]['source'] or '–'} | `{splits[split]['rows']}` |"
        for split, (images, skipped) in counts.items()
    ]
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in counts]
    data = DatasetCardData(
        configs=[{"config_name": "default", "data_files": files}],
        tags=["seed", "image-tokens", "seed_hf"],
        task_categories=["image-to-text", "text-to-image"],
    )
    augmented = " `augmented_codes`: those of mildly changed views." if first["augmented_views"] else ""
    text = _TEXT.format(
        title=repo_id.partition("/")[2] or repo_id,
        repo_id=repo_id,
        split=next(iter(counts)),
        table="\n".join(table),
        augmented=augmented,
        **{name: first[name] for name in ("image_tokenizer", "weights", "dtype", "num_codes", "codebook_size")},
    )
    path = folder / "README.md"
    DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(path)
    return path


def push_codes(folder: str | os.PathLike, repo_id: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Uploads a folder of codes, with a card, to a data set repository that is made if missing.

    Args:
        folder (`str` or `os.PathLike`): what [`~seed_hf.encoding_seed.encode_rows`] wrote.
        repo_id (`str`): `user/name`.
        private (`bool`, defaults to `False`): for a new repository.
        endpoint (`str`, *optional*): of a Hub other than the public one.

    Returns:
        `str`: URL of the commit.
    """
    write_dataset_card(folder, repo_id)
    api = HfApi(endpoint=endpoint)
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    info = api.upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=str(folder),
        # what a killed process left behind
        ignore_patterns=[".*", "*/.*"],
        commit_message="Codes",
    )
    return str(info.commit_url)


__all__ = ["push_codes", "write_dataset_card"]
