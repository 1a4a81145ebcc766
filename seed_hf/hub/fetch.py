"""Finds folders by name: models here or on the Hub, seed-mini, and the emoji drawings that it was trained on."""

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download


def find_folder(
    name: str | os.PathLike, part: str = "pipeline", revision: str | None = None, left_out: Sequence[str] = ()
) -> Path:
    """Finds a model, downloading it if need be.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, a folder or a Hub id.
        part (`str`, defaults to `"pipeline"`): Part of seed-mini, see [`resolve_mini`].
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.
        left_out (`Sequence[str]`, defaults to `()`): Patterns of further files not to download.

    Returns:
        `Path`: The folder.
    """
    folder = Path(resolve_mini(name, part))
    if folder.is_dir():
        return folder
    other_formats = ["*.bin", "*.pth", "*.msgpack", "*.h5"]
    return Path(snapshot_download(str(name), revision=revision, ignore_patterns=[*other_formats, *left_out]))


def find_image_tokenizer(name: str | os.PathLike, revision: str | None = None) -> tuple[Path, Path]:
    """Finds the weights of an image tokenizer, downloading them if need be.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of an image tokenizer or a pipeline.
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.

    Returns:
        `tuple[Path, Path]`: Folder of the model, and folder of its image processor.

    Raises:
        ValueError: There is no image tokenizer with its image processor.
    """
    folder = find_folder(name, revision=revision, left_out=["unet/*", "vae/*", "text_encoder/*"])
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
