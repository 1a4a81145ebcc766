"""The report card of an image tokenizer: how its codes are used, and whether the model keeps its promises."""

from typing import Any

import torch
from PIL import Image

from .compare import reconstruct, write_comparison
from .measures import ask_language_model, describe_codes, find_faults, probe_model
from .page import write_page


def make_report(
    name: str,
    config: Any,
    codes: torch.LongTensor | None = None,
    model: Any = None,
    processor: Any = None,
    images: list[Image.Image] | None = None,
    language_model: tuple[Any, Any] | None = None,
) -> dict[str, Any]:
    """
    Measures codes, and with a model and images the image tokenizer, too.

    Args:
        name (`str`): Title of the report.
        config ([`SeedImageTokenizerConfig`] or [`ImageTokenizer`]): Says how many codes there are.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`, *optional*): Codes, if there are no images.
        model ([`SeedImageTokenizer`] or [`ImageTokenizer`], *optional*): In float32 and evaluation mode.
        processor ([`SeedImageProcessor`], *optional*): That of a [`SeedImageTokenizer`]; others have their own.
        images (`list[PIL.Image.Image]`, *optional*): RGB; two or more.
        language_model (`tuple[SeedForCausalLM, SeedProcessor]`, *optional*): Says what a code tells when those before
            it are known; needs `model`.

    Returns:
        `dict`: JSON-ready; see [`describe_codes`], [`probe_model`], [`ask_language_model`] and [`find_faults`].

    Raises:
        ValueError: Fewer than two images, wrong codes, or a language model of other codes.
    """
    probes = probe_model(model, processor, images) if images is not None else {"codes": codes}
    measured = describe_codes(probes["codes"], config.codebook_size, config.codebook_per_query)
    report = {"name": name, **measured, **probes, "codes": probes["codes"].tolist()}
    if language_model is not None:
        report["language_model"] = ask_language_model(*language_model, model, probes["codes"])
    return report | {"faults": find_faults(report)}


__all__ = [
    "ask_language_model",
    "describe_codes",
    "find_faults",
    "make_report",
    "probe_model",
    "reconstruct",
    "write_comparison",
    "write_page",
]
