"""The licences of weights: which origin has which, in which words, and what a publisher may choose."""

from dataclasses import dataclass


# What the Hub accepts as `license` in a card. Source: https://huggingface.co/docs/hub/repositories-licenses
HUB_LICENCES = tuple(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
    cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr
    mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    grok2-community gemma unknown other
    """.split()
)
SEED_2_TERMS = (
    "Weights of SEED-2 come under the Apache License 2.0 **with a clause for research only** "
    "([License.txt](https://github.com/AILab-CVC/SEED/blob/main/License.txt) of the original, clause 10): solely "
    "academic research, scholarly work and non-commercial activities; any commercial use, also as a part of a product "
    "or service, is prohibited. The clause holds for everything made from these weights."
)


@dataclass(frozen=True)
class Licence:
    """
    A licence as cards and records of conversions state it.

    Args:
        id (`str`): Identifier of the Hub.
        text (`str`): The terms, as sentences for a card.
        name (`str`, *optional*): Name of the licence, needed with the identifier `"other"`.
        link (`str`, *optional*): Where it can be read, needed with the identifier `"other"`.
        summary (`str`, *optional*): The terms in a few words, for `conversion.json`.
    """

    id: str
    text: str
    name: str | None = None
    link: str | None = None
    summary: str | None = None


# By origin of the weights, the most restrictive first: the first that applies is the licence of the whole.
LICENCES = {
    "seed-2": Licence(
        "other",
        SEED_2_TERMS,
        name="seed-2-research-only",
        link="https://github.com/AILab-CVC/SEED/blob/main/License.txt",
        summary="Apache-2.0 with an added clause: research use only",
    ),
    "stable-diffusion-1": Licence(
        "creativeml-openrail-m", "Weights of Stable Diffusion 1 come under CreativeML Open RAIL-M, with limits of use."
    ),
    "stable-diffusion-2": Licence(
        "openrail++", "Weights of Stable Diffusion 2 come under CreativeML Open RAIL++-M, with limits of use."
    ),
    "blip-2": Licence(
        "bsd-3-clause",
        "Weights of BLIP-2 come under the BSD 3-Clause License, its ViT under MIT.",
        summary="BSD-3-Clause, the ViT MIT",
    ),
    "seed-1": Licence(
        "apache-2.0",
        "Weights of SEED-1 come under the Apache License 2.0 "
        "([branch v1](https://github.com/AILab-CVC/SEED/tree/v1) of the original).",
        summary="Apache-2.0",
    ),
}


def choose_licence(
    origins: list[str], licence: str | None, name: str | None = None, link: str | None = None
) -> Licence:
    r"""
    Says which licence weights have.

    Args:
        origins (`list[str]`): Names in `LICENCES`, the most restrictive first.
        licence (`str`, *optional*): Identifier of the Hub, for weights without a known origin; `"unknown"` is one.
        name (`str`, *optional*): Name of the licence, needed with `"other"`.
        link (`str`, *optional*): Where it can be read, needed with `"other"`.

    Returns:
        [`Licence`]: The most restrictive one, with the terms of all.

    Raises:
        ValueError: There is no origin and no `licence`, the Hub does not know `licence`, the origins allow another
            one only, or `"other"` lacks its name or link.
    """
    if licence is not None and licence not in HUB_LICENCES:
        raise ValueError(
            f"`licence` is {licence!r}; allowed: an identifier of the Hub, one of {sorted(HUB_LICENCES)}."
        )
    if not origins:
        if licence is None:
            raise ValueError(
                "`licence` is None, and the weights have no known origin; allowed: an identifier of the Hub "
                "(`--licence`)."
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


__all__ = ["HUB_LICENCES", "LICENCES", "Licence", "choose_licence"]
