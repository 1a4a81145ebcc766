"""Finds folders by name: models here or on the Hub, seed-mini, and the emoji drawings that it was trained on."""

import os
from pathlib import Path

from huggingface_hub import snapshot_download


def find_image_tokenizer(name: str | os.PathLike, revision: str | None = None) -> tuple[Path, Path]:
    """Finds the weights of an image tokenizer, downloading them if need be.

    Args:
        name (`str` or `os.PathLike`): Folder or Hub id of an image tokenizer or of a pipeline.
        revision (`str`, *optional*): Branch, tag or commit of a repository on the Hub.

    Returns:
        `tuple[Path, Path]`: Folder of the model, and folder of its image processor.

    Raises:
        ValueError: There is no image tokenizer with its image processor.
    """
    folder = Path(name)
    if not folder.is_dir():
        others = ["unet/*", "vae/*", "text_encoder/*", "*.bin", "*.pth"]
        folder = Path(snapshot_download(str(name), revision=revision, ignore_patterns=others))
    is_pipeline = (folder / "image_tokenizer").is_dir()
    model, processor = (folder / "image_tokenizer", folder / "image_processor") if is_pipeline else (folder, folder)
    if not (model / "config.json").is_file() or not (processor / "preprocessor_config.json").is_file():
        raise ValueError(
            f"`image_tokenizer` is {str(name)!r}; allowed: a folder or Hub id with the config.json of an image "
            "tokenizer and the preprocessor_config.json of its image processor."
        )
    return model, processor


_PACKAGE = Path(__file__).parents[1]
MINI = _PACKAGE / "mini"
EMOJI = _PACKAGE.parent / "training" / "data" / "emoji"
# Its name on the command line and in evaluations; a folder of this name is given as `./seed-mini`.
MINI_NAME = "seed-mini"


def resolve_mini(name: str | os.PathLike, part: str) -> str | os.PathLike:
    """
    Replaces the name of the shipped model by its folder.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, a folder or a Hub id.
        part (`str`): `"pipeline"`, `"language_model"` or `"pictures"`.

    Returns:
        `str` or `os.PathLike`: The folder of that part of seed-mini, or `name`.
    """
    return str(MINI / part) if str(name) == MINI_NAME else name


def emoji_folder() -> Path:
    """
    Finds the folder of seed-mini's data, which the repository has and the installed package has not.

    Returns:
        `Path`: The folder, with a parquet file for each split.

    Raises:
        ValueError: The package is used without its repository.
    """
    if not EMOJI.is_dir():
        raise ValueError(
            "`dataset` is 'emoji', which only a checkout of the repository has; allowed: other data sets."
        )
    return EMOJI
