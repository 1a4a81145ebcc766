"""Pictures beside pictures with a caption, to look at during training."""

import torch
from PIL import Image, ImageDraw, ImageFont

from seed_hf.data.captioned_images import open_image
from seed_hf.evaluation.retrieval import text_features


SIDE, TEXT_WIDTH = 96, 200


def picture_grid(rows: list[list[Image.Image]], captions: list[str], headings: list[str]) -> Image.Image:
    """One line for each caption, one column for each heading.

    Args:
        rows (`list[list[PIL.Image.Image]]`): pictures of each line; shown as squares.
        captions (`list[str]`): one for each line, on its left.
        headings (`list[str]`): over the columns; the last one may stand for several.
    """
    font = ImageFont.load_default(13)
    grid = Image.new("RGB", (TEXT_WIDTH + SIDE * max(map(len, rows)), 20 + SIDE * len(rows)), "white")
    pen = ImageDraw.Draw(grid)
    for column, heading in enumerate(headings):
        pen.text((TEXT_WIDTH + SIDE * column + 2, 2), heading, fill="black", font=font)
    for line, (pictures, caption) in enumerate(zip(rows, captions, strict=True)):
        top = 20 + SIDE * line
        pen.multiline_text((4, top + 4), _wrap(caption), fill="black", font=font)
        for column, picture in enumerate(pictures):
            grid.paste(picture.convert("RGB").resize((SIDE, SIDE)), (TEXT_WIDTH + SIDE * column, top))
    return grid


def _wrap(text: str, width: int = 28, lines: int = 5) -> str:
    words, wrapped = text.split(), [""]
    for word in words:
        if wrapped[-1] and len(wrapped[-1]) + len(word) >= width:
            wrapped.append("")
        wrapped[-1] = f"{wrapped[-1]} {word}".strip()[:width]
    return "\n".join(wrapped[:lines])


def spread(rows: list[dict], count: int) -> list[int]:
    """Numbers of so many rows with different captions, from all over the list."""
    first = list({row["caption"]: number for number, row in reversed(list(enumerate(rows)))}.values())
    return sorted(first)[:: max(1, len(first) // count)][:count]


@torch.no_grad()
def retrieval_grid(model, tokenizer, image_features: torch.Tensor, rows: list[dict], max_text_tokens: int, depth=6):
    """The pictures that fit some captions best.

    Args:
        model ([`SeedImageTokenizer`]): with a text tower.
        tokenizer: of the text tower.
        image_features (`torch.FloatTensor` of shape `(len(rows), projection_dim)`): of the pictures of `rows`.
        rows (`list[dict]`): with `image` and `caption`.
        max_text_tokens (`int`): captions are cut to it.
        depth (`int`, defaults to 6): how many pictures for each caption.
    """
    numbers = spread(rows, 8)
    captions = [rows[number]["caption"] for number in numbers]
    similarity = text_features(model, tokenizer, captions, max_text_tokens).float() @ image_features.float().t()
    found = similarity.topk(min(depth, len(rows))).indices.tolist()
    pictures = [
        [open_image(rows[index]) for index in (number, *best)] for number, best in zip(numbers, found, strict=True)
    ]
    return picture_grid(pictures, captions, ["its own", "found with the caption, best first"])
