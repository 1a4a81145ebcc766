"""Grids of images with captions, to look at during training."""

import torch
from PIL import Image, ImageDraw, ImageFont

from ..data.captioned_images import open_image
from ..inference import text_features


SIDE, TEXT_WIDTH = 96, 200


def picture_grid(rows: list[list[Image.Image]], captions: list[str], headings: list[str]) -> Image.Image:
    """Draws a line for each caption and a column for each heading.

    Args:
        rows (`list[list[PIL.Image.Image]]`): Images of each line; shown as squares.
        captions (`list[str]`): Text on the left of each line.
        headings (`list[str]`): Texts over the columns; the last one may stand for several columns.

    Returns:
        `PIL.Image.Image`: The grid, RGB.
    """
    font = ImageFont.load_default(13)
    grid = Image.new("RGB", (TEXT_WIDTH + SIDE * max(map(len, rows)), 20 + SIDE * len(rows)), "white")
    pen = ImageDraw.Draw(grid)
    for column, heading in enumerate(headings):
        pen.text((TEXT_WIDTH + SIDE * column + 2, 2), heading, fill="black", font=font)
    for line, (images, caption) in enumerate(zip(rows, captions, strict=True)):
        top = 20 + SIDE * line
        pen.multiline_text((4, top + 4), _wrap(caption), fill="black", font=font)
        for column, image in enumerate(images):
            grid.paste(image.convert("RGB").resize((SIDE, SIDE)), (TEXT_WIDTH + SIDE * column, top))
    return grid


def _wrap(text: str, width: int = 28, lines: int = 5) -> str:
    words, wrapped = text.split(), [""]
    for word in words:
        if wrapped[-1] and len(wrapped[-1]) + len(word) >= width:
            wrapped.append("")
        wrapped[-1] = f"{wrapped[-1]} {word}".strip()[:width]
    return "\n".join(wrapped[:lines])


def spread(rows: list[dict], count: int) -> list[int]:
    """Numbers of at most `count` rows with different captions, from all over the list."""
    first = list({row["caption"]: number for number, row in reversed(list(enumerate(rows)))}.values())
    return sorted(first)[:: max(1, len(first) // count)][:count]


@torch.no_grad()
def retrieval_grid(model, tokenizer, image_features: torch.Tensor, rows: list[dict], max_text_tokens: int, depth=6):
    """Shows the images that fit some captions best.

    Args:
        model ([`SeedImageTokenizer`]): Model with a text tower.
        tokenizer: Tokenizer of the text tower.
        image_features (`torch.FloatTensor` of shape `(len(rows), projection_dim)`): Features of the images of `rows`.
        rows (`list[dict]`): Rows with `image` and `caption`.
        max_text_tokens (`int`): Captions are cut to it.
        depth (`int`, defaults to 6): Number of images for each caption.

    Returns:
        `PIL.Image.Image`: The grid.
    """
    numbers = spread(rows, 8)
    captions = [rows[number]["caption"] for number in numbers]
    similarity = text_features(model, tokenizer, captions, max_text_tokens).float() @ image_features.float().t()
    nearest = similarity.topk(min(depth, len(rows))).indices.tolist()
    images = [
        [open_image(rows[index]) for index in (number, *best)] for number, best in zip(numbers, nearest, strict=True)
    ]
    return picture_grid(images, captions, ["its own", "found with the caption, best first"])


def check_picture_decoder(folder: str) -> None:
    """Raises `ValueError` unless a folder or Hub id is that of a pipeline, which only the first evaluation loads."""
    from diffusers import DiffusionPipeline  # here, since most runs need no diffusers

    try:
        DiffusionPipeline.load_config(folder)
    except (OSError, ValueError) as error:  # the second where a path cannot be a Hub id
        raise ValueError(f"`picture_decoder` is {folder!r}; allowed: a folder or Hub id of a SeedPipeline.") from error
