"""Licences of weights by where they come from."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..hub.files import is_hub_id, read_json


# flags of the training scripts that name weights to start from
STARTING_POINTS = (
    "init_model", "language_model", "image_tokenizer", "init_adapter", "init_unet", "vae", "target_model",
)  # fmt: skip
SEED_2_TERMS = (
    "Weights of SEED-2 come under the Apache License 2.0 **with a clause for research only** "
    "([License.txt](https://github.com/AILab-CVC/SEED/blob/main/License.txt) of the original, clause 10): solely "
    "academic research, scholarly work and non-commercial activities; any commercial use, also as a part of a product "
    "or service, is prohibited. The clause holds for everything made from these weights."
)


@dataclass(frozen=True)
class Licence:
    """What a card says of a licence: the Hub's identifier, for `"other"` name and link, and terms in words."""

    id: str
    text: str
    name: str | None = None
    link: str | None = None


# the more restrictive first: the first that applies is the licence of the whole
LICENCES = {
    "seed-2": Licence(
        "other", SEED_2_TERMS, "seed-2-research-only", "https://github.com/AILab-CVC/SEED/blob/main/License.txt"
    ),
    "stable-diffusion-1": Licence(
        "creativeml-openrail-m", "Weights of Stable Diffusion 1 come under CreativeML Open RAIL-M, with limits of use."
    ),
    "stable-diffusion-2": Licence(
        "openrail++", "Weights of Stable Diffusion 2 come under CreativeML Open RAIL++-M, with limits of use."
    ),
    "blip-2": Licence("bsd-3-clause", "Weights of BLIP-2 come under the BSD 3-Clause License, its ViT under MIT."),
    "seed-1": Licence(
        "apache-2.0",
        "Weights of SEED-1 come under the Apache License 2.0 "
        "([branch v1](https://github.com/AILab-CVC/SEED/tree/v1) of the original).",
    ),
}
# `kind` in conversion.json -> origin; weights of SEED-LLaMA were released with SEED-2
_KINDS = {"seed-1": "seed-1", "seed-2": "seed-2", "seed-llama": "seed-2", "blip-2": "blip-2"}


def find_origins(*folders: str | os.PathLike) -> tuple[list[str], list[str]]:
    r"""
    Follows weights back to where they come from, through conversions and training runs.

    Args:
        folders (`str` or `os.PathLike`): Of models and training runs.

    Returns:
        `tuple[list[str], list[str]]`: Names in `LICENCES`, the most restrictive first; and repositories on the Hub
        that training started from, whose licences are only known there.
    """
    origins, repositories, seen = set(), set(), set()
    pending = [Path(folder) for folder in folders]
    while pending:
        folder = pending.pop()
        if folder.resolve() in seen or not folder.is_dir():
            continue
        seen.add(folder.resolve())
        for path in folder.rglob("conversion.json"):
            origins |= _origins_of(read_json(path))
        arguments = read_json(folder / "training_arguments.json")
        for name in (arguments[flag] for flag in STARTING_POINTS if isinstance(arguments.get(flag), str)):
            if Path(name).is_dir():
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


def choose_licence(
    origins: list[str], licence: str | None, name: str | None = None, link: str | None = None
) -> Licence:
    r"""
    Says what licence weights have.

    Args:
        origins (`list[str]`): Of [`find_origins`].
        licence (`str`, *optional*): Identifier of the Hub, for weights without a known origin; `"unknown"` is one.
        name (`str`, *optional*): With `"other"`.
        link (`str`, *optional*): With `"other"`.

    Returns:
        [`Licence`]: The most restrictive one, with the terms of all.

    Raises:
        ValueError: No origin and no `licence`; another `licence` than the origins leave; `"other"` without name, link.
    """
    if not origins:
        if licence is None:
            raise ValueError(
                "`licence` is None, and the weights have no known origin; allowed: an identifier of the Hub."
            )
        if licence == "other" and not (name and link):
            raise ValueError("`licence` is 'other' without a name and a link; allowed: both with it.")
        if licence == "unknown":
            return Licence(licence, "The publisher names none: rights are those of what this was made from.")
        terms = f"[{name}]({link})" if licence == "other" else f"`{licence}`"
        return Licence(licence, f"Chosen by the publisher of these weights: {terms}.", name, link)
    strictest = LICENCES[origins[0]]
    if licence not in (None, strictest.id):
        raise ValueError(
            f"`licence` is {licence!r}; allowed for weights made from {', '.join(origins)}: {strictest.id!r}."
        )
    text = "\n\n".join(LICENCES[origin].text for origin in origins)
    return Licence(strictest.id, text, strictest.name, strictest.link)


__all__ = ["LICENCES", "Licence", "choose_licence", "find_origins"]
