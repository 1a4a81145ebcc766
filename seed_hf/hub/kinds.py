"""The kinds of repositories: how a folder of each is recognised, and what the Hub is told about it."""

import os
from dataclasses import dataclass
from pathlib import Path

from .json_files import read_json


@dataclass(frozen=True)
class RepositoryKind:
    """
    What the Hub is told about a kind of repository.

    Args:
        tags (`tuple[str, ...]`): Tags of its card.
        library (`str`, *optional*): Library that loads a model.
        task (`str`, *optional*): Pipeline tag of a model.
        base_model_relation (`str`, defaults to `"finetune"`): What a model is to the base model that it names.
        repo_type (`str`, defaults to `"model"`): `"model"` or `"dataset"`.
    """

    tags: tuple[str, ...]
    library: str | None = None
    task: str | None = None
    base_model_relation: str = "finetune"
    repo_type: str = "model"

    @property
    def is_data(self) -> bool:
        """Whether it is a data set."""
        return self.repo_type == "dataset"


KINDS = {
    "image-tokenizer": RepositoryKind(
        ("seed", "image-tokenizer", "custom_code"), "transformers", "image-feature-extraction"
    ),
    "language-model": RepositoryKind(
        ("seed", "image-to-text", "text-to-image", "custom_code"), "transformers", "any-to-any"
    ),
    "adapter": RepositoryKind(("seed", "lora", "custom_code"), "peft", "any-to-any", base_model_relation="adapter"),
    "pipeline": RepositoryKind(("seed", "image-tokenizer", "custom_code"), "diffusers", "text-to-image"),
    "codes": RepositoryKind(("seed", "image-tokens", "seed_hf"), repo_type="dataset"),
}


def repository_kind(folder: str | os.PathLike) -> str | None:
    r"""
    Says which kind of repository a folder is.

    Args:
        folder (`str` or `os.PathLike`): As `save_pretrained` or `seed-hf encode` wrote it.

    Returns:
        `str`: A name in `KINDS`; `None` for a part of a repository, such as a processor alone.
    """
    folder = Path(folder)
    if (folder / "model_index.json").is_file():
        return "pipeline"
    if any(folder.glob("encoding-*.json")):
        return "codes"
    has_weights = any(folder.glob("model*.safetensors"))
    if not has_weights:
        return "adapter" if (folder / "adapter_config.json").is_file() else None
    is_image_tokenizer = read_json(folder / "config.json").get("model_type") == "seed_image_tokenizer"
    return "image-tokenizer" if is_image_tokenizer else "language-model"


__all__ = ["KINDS", "RepositoryKind", "repository_kind"]
