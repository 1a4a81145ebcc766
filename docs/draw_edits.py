"""Draws docs/images/edits.png: what `seed-hf edit` makes of two of the shipped drawings.

python docs/draw_edits.py
"""

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from seed_hf.commands import main as run_command
from seed_hf.mini import mini_image


TARGET = Path(__file__).parent / "images" / "edits.png"
FIRST, SECOND = mini_image("strawberry"), mini_image("guitar")
ROWS = {
    'edit continue --keep 4 --prompt "red apple"': ["continue", FIRST, "--keep", "4", "--prompt", "red apple"],
    "edit mix --at 16": ["mix", FIRST, SECOND],
    "edit vary --strength 0.9": ["vary", FIRST, "--count", "6", "--strength", "0.9"],
    "edit nearest --place 8": ["nearest", FIRST, "--place", "8"],
    "edit blend": ["blend", FIRST, SECOND],
    "edit first": ["first", FIRST],
}
TEXT = 26


def main() -> None:
    """Runs every edit and puts the strips below each other, each under its command."""
    strips = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, words in ROWS.items():
            file = Path(folder) / "strip.png"
            if run_command(["edit", *words, "--output", str(file)]):
                raise SystemExit(f"seed-hf {title} failed")
            strip = Image.open(file)
            strips[title] = strip.resize((strip.width * 3 // 2, strip.height * 3 // 2), Image.Resampling.LANCZOS)
    width, height = max(strip.width for strip in strips.values()), next(iter(strips.values())).height + TEXT
    sheet = Image.new("RGB", (width, height * len(strips)), "white")
    for number, (title, strip) in enumerate(strips.items()):
        words = f"seed-hf {title}"
        ImageDraw.Draw(sheet).text((4, number * height + 5), words, "black", ImageFont.load_default(15))
        sheet.paste(strip, (0, number * height + TEXT))
    TARGET.parent.mkdir(exist_ok=True)
    sheet.quantize(256).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
