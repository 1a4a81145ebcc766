"""What the commands that draw pictures share."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..models.pipeline_seed import SeedPipeline


_AT_ONCE = 16


def draw_codes(
    pipeline: "SeedPipeline",
    codes: "torch.Tensor",
    seed: int,
    steps: int | None = None,
    guidance: float | None = None,
    count: int = 1,
) -> Iterator["Image.Image"]:
    """
    Draws pictures of codes.

    Args:
        pipeline ([`SeedPipeline`]): What draws.
        codes (`torch.LongTensor` of shape `(num_images, num_query_tokens)`): Codes.
        seed (`int`): Seed of the noise.
        steps (`int`, *optional*): Number of denoising steps; by default the model's.
        guidance (`float`, *optional*): Strength of guidance; by default the model's.
        count (`int`, defaults to 1): Number of pictures for each row of codes, from the noise of `seed`, `seed + 1`
            and so on: what a picture looks like does not depend on which others are drawn.

    Returns:
        `Iterator[PIL.Image.Image]`: All pictures of the first row of codes, then those of the second.

    Raises:
        ValueError: Codes that cannot be those of an image.
    """
    import torch

    from ..inference import check_places

    codes = check_places(codes, pipeline.image_tokenizer.config).repeat_interleave(count, dim=0)
    seeds = [seed + number % count for number in range(len(codes))]
    for start in range(0, len(codes), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        settings = {"num_inference_steps": steps, "guidance_scale": guidance}
        yield from pipeline(codes=codes[part], generator=generators, **settings).images


def free_name(text: str, taken: set[str]) -> str:
    """
    Makes the name of a file out of words.

    Args:
        text (`str`): Such as a prompt.
        taken (`set[str]`): Names that are used already; the new one is added.

    Returns:
        `str`: Name without an ending, `"red-apple"` or, if that is taken, `"red-apple-2"`.
    """
    stem = re.sub(r"[^\w.-]+", "-", text.strip()).strip("-.")[:80] or "picture"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name
