"""Follows weights through conversions and training runs, back to what was released."""

import os
from pathlib import Path

from ..hub.files import is_hub_id
from ..hub.json_files import read_json
from ..licences import LICENCES


# flags of the training scripts that name weights to start from
STARTING_POINTS = (
    "init_model", "language_model", "image_tokenizer", "init_adapter", "init_unet", "vae", "target_model", "codes",
)  # fmt: skip
# `kind` in conversion.json -> origin; weights of SEED-LLaMA were released with SEED-2
_KINDS = {"seed-1": "seed-1", "seed-2": "seed-2", "seed-llama": "seed-2", "blip-2": "blip-2"}


def find_origins(*folders: str | os.PathLike, follow: bool = True) -> tuple[list[str], list[str]]:
    r"""
    Follows weights back to where they come from, through conversions and training runs.

    Args:
        folders (`str` or `os.PathLike`): Folders of models, of training runs and of codes.
        follow (`bool`, defaults to `True`): Whether to go on in the folders that a training run names. What somebody
            else made has no say in what is read here.

    Returns:
        `tuple[list[str], list[str]]`: Names in `LICENCES`, the most restrictive first, and the repositories on the Hub
        that training started from, whose licences are known there only.
    """
    origins, repositories, seen = set(), set(), set()
    pending = [Path(folder) for folder in folders]
    while pending:
        folder = pending.pop()
        if folder.resolve() in seen or not folder.is_dir():
            continue
        seen.add(folder.resolve())
        for path in (*folder.glob("conversion.json"), *folder.glob("*/conversion.json")):
            origins |= _origins_of(read_json(path))
        records = [read_json(path) for path in (folder / "training_arguments.json", *folder.glob("encoding-*.json"))]
        names = (record.get(flag) for record in records for flag in STARTING_POINTS)
        for name in filter(lambda name: isinstance(name, str), names):
            if follow and Path(name).is_dir():
                pending.append(Path(name))
            elif "/" in name and is_hub_id(name):
                repositories.add(name)
    return [name for name in LICENCES if name in origins], sorted(repositories)


def _origins_of(record: dict) -> set[str]:
    """Origins in the record of a conversion."""
    kind = str(record.get("kind"))
    origins = {_KINDS[kind]} if kind in _KINDS else set()
    decoder = str(record.get("decoder") or "").lower()
    if decoder:
        is_second = "unclip" in decoder or "stable-diffusion-2" in decoder
        origins.add("stable-diffusion-2" if is_second else "stable-diffusion-1")
    return origins


__all__ = ["find_origins"]
