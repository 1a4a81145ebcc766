"""The report card of an image tokenizer: how its codes are used, and whether the model keeps its promises."""

from typing import Any

import torch
from PIL import Image

from .measures import describe_codes, find_faults, probe_model
from .page import write_page


def make_report(
    name: str,
    config: Any,
    codes: torch.LongTensor | None = None,
    model: Any = None,
    processor: Any = None,
    images: list[Image.Image] | None = None,
) -> dict[str, Any]:
    """
    Measures codes, and with a model and images the image tokenizer, too.

    Args:
        name (`str`): Title of the report.
        config ([`SeedImageTokenizerConfig`]): Says how many codes there are.
        codes (`torch.LongTensor` of shape `(num_images, num_codes)`, *optional*): Codes, if there is no model.
        model ([`SeedImageTokenizer`], *optional*): In float32 and evaluation mode.
        processor ([`SeedImageProcessor`], *optional*): Its own.
        images (`list[PIL.Image.Image]`, *optional*): RGB; two or more.

    Returns:
        `dict`: JSON-ready; see [`describe_codes`], [`probe_model`] and [`find_faults`].

    Raises:
        ValueError: Fewer than two images, or wrong codes.
    """
    probes = probe_model(model, processor, images) if model is not None else {"codes": codes}
    measured = describe_codes(probes["codes"], config.codebook_size, config.codebook_per_query)
    report = {"name": name, **measured, **probes, "codes": probes["codes"].tolist()}
    return report | {"faults": find_faults(report)}


__all__ = ["describe_codes", "find_faults", "make_report", "probe_model", "write_page"]
