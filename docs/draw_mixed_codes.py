"""Draws docs/images/mixed-codes.jpg: what seed-mini draws while the codes of one image turn into another's.

    python docs/draw_mixed_codes.py

The same noise is used for all pictures, so that only the codes make them different.
"""

from pathlib import Path

import torch
from PIL import Image

from seed_hf import SeedPipeline
from seed_hf.mini import mini_image, mini_pipeline_path


FIGURE = Path(__file__).parent / "images" / "mixed-codes.jpg"
PAIRS = [("strawberry", "green-heart"), ("doughnut", "rainbow"), ("crown", "guitar")]
KEPT = (32, 28, 24, 20, 16, 12, 8, 4, 0)
TILE, GAP = 96, 8


def main() -> None:
    """Writes the figure."""
    pipeline = SeedPipeline.from_pretrained(mini_pipeline_path())
    width, height = (count * (TILE + GAP) - GAP for count in (len(KEPT) + 2, len(PAIRS)))
    figure = Image.new("RGB", (width, height), "white")
    for row, pair in enumerate(PAIRS):
        first, second = (Image.open(mini_image(name)).convert("RGB") for name in pair)
        left, right = pipeline.encode_image([first, second])[:, None]
        codes = torch.cat([torch.cat([left[:, :kept], right[:, kept:]], dim=1) for kept in KEPT])
        noise = [torch.Generator().manual_seed(0) for _ in KEPT]
        for column, image in enumerate([first, *pipeline(codes=codes, generator=noise).images, second]):
            figure.paste(image.resize((TILE, TILE)), (column * (TILE + GAP), row * (TILE + GAP)))
    figure.save(FIGURE, quality=88)


if __name__ == "__main__":
    main()
