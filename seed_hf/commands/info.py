"""`seed-hf info`: what a folder or a repository on the Hub is, from [`~seed_hf.cards.facts.find_facts`]."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .flags import AsJson


EXAMPLES = """examples:
  seed-hf info
  seed-hf info out/stage3
  seed-hf info owner/seed-1 --json
"""


def run(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER", help="Folder of a model, adapter, pipeline or codes, or Hub id, which is downloaded."
        ),
    ] = "seed-mini",
    as_json: AsJson = False,
):
    """Prints what is known; seed-mini is two models."""
    from ..hub.fetch import MINI_NAME  # inside `run`, so that `--help` does not wait for it

    parts = ("pipeline", "language_model") if folder == MINI_NAME else ("pipeline",)
    for number, part in enumerate(parts):
        facts = describe_folder(folder, _find(folder, part))
        if as_json:
            print(json.dumps(facts, ensure_ascii=False))
        else:
            print(*[""] * (number > 0), *_lines(facts), sep="\n")


def _find(name: str, part: str) -> Path:
    """A folder or a model on the Hub, or else codes there."""
    from ..hub.fetch import find_folder

    try:
        return find_folder(name, part)
    except ValueError as error:
        try:
            return find_folder(name, is_data=True)
        except ValueError:
            raise error from None


def describe_folder(name: str, folder: Path) -> dict:
    """
    Describes a model, an adapter, a pipeline or codes.

    Args:
        name (`str`): Folder or Hub id that was asked for.
        folder (`Path`): Where it lies.

    Returns:
        `dict`: `name`, `kind`, `bytes`, `licence` and what is known about this kind.

    Raises:
        ValueError: It is a folder of no known kind.
    """
    from ..cards.facts import find_facts
    from ..hub.files import list_files
    from ..hub.json_files import read_json
    from ..hub.kinds import KINDS, repository_kind

    if (kind := repository_kind(folder)) is None:
        raise ValueError(f"{name!r} is a folder without model or codes; allowed: a folder or Hub id of {list(KINDS)}.")
    config = read_json(folder / "config.json")
    if kind == "language-model" and config.get("model_type") != "seed":
        # what `seed-hf export-lm` writes; as any plain model, it does not say which of its tokens are codes
        kind, plain = "exported-language-model", {key: config.get(key) for key in ("model_type", "vocab_size")}
    facts = {"name": name, "kind": kind, **(find_facts(kind, folder) if kind in KINDS else plain)}
    if kind == "pipeline":
        index, record = read_json(folder / "model_index.json"), read_json(folder / "conversion.json")
        parts = {part: (index.get(part) or [None, None])[1] for part in ("unet", "language_model")}
        facts |= {"decoder": record.get("decoder") or parts["unet"], "language_model": parts["language_model"]}
        facts |= {key: index.get(key) for key in ("num_inference_steps", "guidance_scale")}
    sizes = [path.stat().st_size for path in list_files(folder).values()]
    return facts | {"licence": _licence(name, folder), "bytes": sum(sizes)}


def _licence(name: str, folder: Path) -> str | None:
    """What the card says, or else what follows from the origin of the weights."""
    from huggingface_hub.repocard import metadata_load

    from ..cards.origins import find_origins
    from ..hub.fetch import MINI_NAME
    from ..licences import LICENCES

    card = folder / "README.md"
    if card.is_file() and (licence := (metadata_load(card) or {}).get("license")):
        return licence
    origins, _ = find_origins(folder, follow=False)
    if origins:
        return LICENCES[origins[0]].id
    return "apache-2.0" if name == MINI_NAME else None  # as its card says, which the installed folder has not


_LABELS = {
    "num_parameters": "parameters",
    "codebook_size": "number of codes",
    "num_query_tokens": "codes per image",
    "num_codes": "codes per image",
    "image_tokenizer_id": "image tokenizer",
}


def _lines(facts: dict) -> list[str]:
    lines = []
    for key, value in facts.items():
        if key == "splits":
            value = ", ".join(f"{split['name']} ({split['num_images']:,} images)" for split in value)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            text = f"{value:,}" if key in ("num_parameters", "bytes") else value
            lines.append(f"{_LABELS.get(key, key.replace('_', ' ')):24}{text}")
        elif key == "licence":
            lines.append(f"{key:24}not stated")
    return lines


__all__ = ["describe_folder", "run"]
