"""Takes the picture docs/images/report.png of a page of `seed-hf report`, with a headless Chromium.

python docs/take_report.py runs/seed-mini/report.html
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


TARGET = Path(__file__).parent / "images" / "report.png"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
WIDTH, HEIGHT = 900, 1500


def main(page_file: str) -> None:
    """The top of the page, as small a file as it can be."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(Path(page_file).resolve().as_uri(), timeout=300_000)
        page.screenshot(path=TARGET, animations="disabled", timeout=300_000)
        browser.close()
    with Image.open(TARGET) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(TARGET, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
