"""Finds folders by name: models here or on the Hub, seed-mini, and the emoji drawings that it was trained on."""

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


def find_folder(
    name: str | os.PathLike,
    part: str = "pipeline",
    revision: str | None = None,
    left_out: Sequence[str] = (),
    is_data: bool = False,
) -> Path:
    """Finds a model, or a data set of codes, downloading it if need be.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, a folder or a Hub id.
        part (`str`, defaults to `"pipeline"`): Part of seed-mini, see [`resolve_mini`].
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.
        left_out (`Sequence[str]`, defaults to `()`): Patterns of further files not to download.
        is_data (`bool`, defaults to `False`): Whether a Hub id is that of a data set.

    Returns:
        `Path`: The folder.

    Raises:
        ValueError: There is no such folder, and the Hub has no such repository or could not be reached.
    """
    folder = Path(resolve_mini(name, part))
    if folder.is_dir():
        return folder
    other_formats = ["*.bin", "*.pth", "*.msgpack", "*.h5"]
    patterns = {"ignore_patterns": [*other_formats, *left_out]}
    return _download(str(name), revision, repo_type="dataset" if is_data else "model", **patterns)


def check_model_exists(name: str | os.PathLike, revision: str | None = None) -> None:
    """Refuses a name that is neither a folder nor a repository, for which libraries give advice on connections.

    Args:
        name (`str` or `os.PathLike`): `"seed-mini"`, a folder or a Hub id.
        revision (`str`, *optional*): Commit, branch or tag, for a Hub id.

    Raises:
        ValueError: There is no such folder, and the Hub has no such repository or could not be reached.
    """
    if str(name) != MINI_NAME and not Path(name).is_dir():
        _download(str(name), revision, allow_patterns=["*config.json", "model_index.json"])


def _download(name: str, revision: str | None, **settings) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, **settings))
    except HFValidationError:
        problem = "that is not the form of a Hub id, owner/name, either"
    except GatedRepoError as error:  # one of those that are not found
        problem = f"the Hub refused it ({str(error).splitlines()[-1]})"
    except RevisionNotFoundError:
        problem = f"the Hub's repository of that name has no revision {revision!r}"
    except RepositoryNotFoundError:
        problem = "the Hub has no repository of that name, or it is private (`hf auth login`)"
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        problem = "the Hub could not be reached and its cache has no such repository"
    except (HfHubHTTPError, HTTPError) as error:
        problem = f"the Hub could not be reached or refused it ({str(error).splitlines()[0]})"
    raise ValueError(f"no folder {name!r} exists, and {problem}; allowed: {MINI_NAME!r}, a folder or a Hub id.")


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
