"""Finding folders by name: models here or on the Hub, seed-mini, and the emoji drawings that it learned from."""

import os
from pathlib import Path

from huggingface_hub import snapshot_download


def find_image_tokenizer(name: str | os.PathLike, revision: str | None = None) -> tuple[Path, Path]:
    """Finds the weights of an image tokenizer, downloading them if need be.

    Args:
        name (`str` or `os.PathLike`): folder or Hub id, of an image tokenizer or of a pipeline.
        revision (`str`, *optional*): for a Hub id.

    Returns:
        `tuple[Path, Path]`: folder of the model, folder of its image processor.

    Raises:
        ValueError: if there is no image tokenizer with its processor.
    """
    folder = Path(name)
    if not folder.is_dir():
        others = ["unet/*", "vae/*", "text_encoder/*", "*.bin", "*.pth"]
        folder = Path(snapshot_download(str(name), revision=revision, ignore_patterns=others))
    is_pipeline = (folder / "image_tokenizer").is_dir()
    found = (folder / "image_tokenizer", folder / "image_processor") if is_pipeline else (folder, folder)
    if not (found[0] / "config.json").is_file() or not (found[1] / "preprocessor_config.json").is_file():
        raise ValueError(
            f"`image_tokenizer` is {str(name)!r}; allowed: a folder or Hub id with the config.json of an image "
            "tokenizer and the preprocessor_config.json of its image processor."
        )
    return found


_PACKAGE = Path(__file__).parents[1]
MINI = _PACKAGE / "mini"
EMOJI = _PACKAGE.parent / "training" / "data" / "emoji"
# What the command line and evaluations call it; a folder of one's own of this name is `./seed-mini`.
MINI_NAME = "seed-mini"


def resolve_mini(name: str | os.PathLike, part: str) -> str | os.PathLike:
    """
    Replaces the name of the shipped model by its folder.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, a folder or a Hub id.
        part (`str`): `"pipeline"`, `"language_model"` or `"pictures"`.

    Returns:
        `str` or `os.PathLike`: the folder of that part of seed-mini, or `name`.
    """
    return str(MINI / part) if str(name) == MINI_NAME else name


def emoji_folder() -> Path:
    """
    The folder of seed-mini's data, which is a part of the repository and not of the installed package.

    Returns:
        `Path`: with a parquet file for each split.

    Raises:
        ValueError: The package is used without its repository.
    """
    if not EMOJI.is_dir():
        raise ValueError(
            "`dataset` is 'emoji', which only a checkout of the repository has; allowed: other data sets."
        )
    return EMOJI
