"""Draws docs/images/other-tokenizers.png: drawings, and what two image tokenizers make of them.

python docs/draw_other_tokenizers.py

One is seed-mini. The other is Janus' class of transformers with random weights: its codes differ where the image does,
as those of any convolutions would, but its decoder has learned nothing.
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import JanusVQVAE, JanusVQVAEConfig

from seed_hf.image_tokenizers import JanusAdapter, decode_images, encode_images, load_image_tokenizer
from seed_hf.mini import mini_image


TARGET = Path(__file__).parent / "images" / "other-tokenizers.png"
NAMES = ("strawberry", "guitar", "owl", "rainbow", "green-heart", "turtle")
SIDE, TEXT = 128, 24


def untrained_janus() -> JanusAdapter:
    """16 x 16 codes of 64; the codebook is taken from what the encoder gives, so that all codes are in use."""
    torch.manual_seed(0)
    sizes = {"base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1, "latent_channels": 32}
    model = JanusVQVAE(JanusVQVAEConfig(**sizes, num_patches=SIDE // 8, num_embeddings=64))
    adapter = JanusAdapter(model)
    latents = adapter.get_latents(adapter.prepare([mini_image(name) for name in NAMES])).flatten(0, 1)
    model.quantize.embedding.weight.data.copy_(latents[torch.randperm(len(latents))[:64]])
    return adapter


def code_maps(tokenizer: JanusAdapter, codes: torch.Tensor) -> list[Image.Image]:
    """Codes on their grid; codes whose vectors are near each other have colours that are alike."""
    vectors = tokenizer.get_code_vectors(torch.arange(tokenizer.codebook_size))
    colours = torch.pca_lowrank(vectors, q=3)[0]
    colours = (colours - colours.amin(0)) / (colours.amax(0) - colours.amin(0))
    grids = (255 * colours).byte()[codes.unflatten(1, (tokenizer.side, tokenizer.side))]
    return [Image.fromarray(grid.numpy()).resize((SIDE, SIDE), Image.Resampling.NEAREST) for grid in grids]


def main() -> None:
    """Puts the rows below each other, each under its title."""
    images = [Image.open(mini_image(name)).convert("RGB").resize((SIDE, SIDE)) for name in NAMES]
    seed, janus = load_image_tokenizer("seed-mini"), untrained_janus()
    codes = encode_images(janus, images)
    rows = {
        "drawings": images,
        f"seed-mini: again from {seed.num_codes} codes of {seed.codebook_size}": decode_images(
            seed, encode_images(seed, images)
        ),
        f"JanusVQVAE with random weights: {janus.num_codes} codes of {janus.codebook_size}": code_maps(janus, codes),
        "JanusVQVAE with random weights: again from its codes": decode_images(janus, codes),
    }
    sheet = Image.new("RGB", (SIDE * len(NAMES), (SIDE + TEXT) * len(rows)), "white")
    for number, (title, pictures) in enumerate(rows.items()):
        top = number * (SIDE + TEXT)
        ImageDraw.Draw(sheet).text((4, top + 4), title, "black", ImageFont.load_default(14))
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * SIDE, top + TEXT))
    TARGET.parent.mkdir(exist_ok=True)
    sheet.quantize(192).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
