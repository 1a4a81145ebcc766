"""A Space on the Hub that shows the app: its files, and their upload."""

import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from .. import __version__
from ..hub.fetch import MINI_NAME


_APP = '''"""Shows a SEED model in a browser. Made by `seed-hf app --push-to-hub`."""

from seed_hf.app import run_app


run_app({model!r}, on_start=print)
'''
_CARD = """---
title: SEED, images as words
emoji: 🌱
colorFrom: green
colorTo: indigo
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
license: apache-2.0
short_description: Images as 32 codes to change, mix, talk about and search
{models}---

# SEED, images as words

Every image becomes a few discrete codes, from which it is drawn again. Change the codes, mix those of two images, talk
with a language model that reads and writes them, and search images by their codes alone. Model: {name}. What visitors
upload or write is deleted after an hour at the latest.

Made by `seed-hf app --push-to-hub`, of the Python package `seed_hf`.
"""


def space_files(model: str = "seed-mini", requirement: str | None = None) -> dict[str, str]:
    """
    Writes the files of a Space.

    Args:
        model (`str`, defaults to `"seed-mini"`): `"seed-mini"`, or the Hub id of a model.
        requirement (`str`, *optional*): Line of requirements.txt that brings this package; by default this version.

    Returns:
        `dict[str, str]`: Content by file name: app.py, README.md and requirements.txt.

    Raises:
        ValueError: `model` is a folder of this machine.
    """
    import gradio  # takes seconds

    if Path(model).exists() or model.count("/") > 1 or (model != MINI_NAME and "/" not in model):
        raise ValueError(f"`model` is {model!r}; allowed for a Space: 'seed-mini', or the Hub id of a model.")
    models = "" if model == MINI_NAME else f"models:\n- {model}\n"
    return {
        "app.py": _APP.format(model=model),
        "README.md": _CARD.format(gradio=gradio.__version__, models=models, name=model),
        "requirements.txt": f"{requirement or f'seed_hf[app]=={__version__}'}\n",
    }


def write_space(folder: str | os.PathLike, model: str = "seed-mini", requirement: str | None = None) -> None:
    """
    Writes the files of a Space into a folder.

    Args:
        folder (`str` or `os.PathLike`): Made if missing.
        model (`str`, defaults to `"seed-mini"`): See [`space_files`].
        requirement (`str`, *optional*): See [`space_files`].

    Raises:
        ValueError: `model` is a folder of this machine.
    """
    files = space_files(model, requirement)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (Path(folder) / name).write_text(content, encoding="utf-8")


def push_space(
    repo_id: str,
    model: str = "seed-mini",
    requirement: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> str:
    """
    Makes a Space that shows the app, or brings one up to date, in one commit.

    Args:
        repo_id (`str`): `owner/name`.
        model (`str`, defaults to `"seed-mini"`): See [`space_files`].
        requirement (`str`, *optional*): See [`space_files`].
        private (`bool`, defaults to `False`): Whether a new Space is private.
        token (`str`, *optional*): Token for the Hub; by default the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        `str`: Address of the Space.

    Raises:
        ValueError: `model` is a folder of this machine, or `repo_id` has no owner.
        OSError: The server refused, or the connection broke.
    """
    if repo_id.count("/") != 1:
        raise ValueError(f"`repo_id` is {repo_id!r}; allowed: owner/name.")
    files = space_files(model, requirement)
    api = HfApi(token=token, library_name="seed_hf")
    url = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private or None, exist_ok=True)
    operations = [CommitOperationAdd(name, content.encode()) for name, content in files.items()]
    api.create_commit(repo_id, operations, commit_message="seed-hf app", repo_type="space")
    return str(url)


__all__ = ["push_space", "space_files", "write_space"]
