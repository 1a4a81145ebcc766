"""Takes the pictures of `seed-hf app` in docs/images, with seed-mini and a headless Chromium.

python docs/take_screenshots.py
"""

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from seed_hf.app import serve_page
from seed_hf.studio import Studio


FOLDER = Path(__file__).with_name("images")
TABS = {
    "Reconstruct": "reconstruct-strip",
    "Mix": "mix-row",
    "Chat": "chat",
    "Draw": "draw-row",
    "Search": "search-results",
    "Codebook": "codebook-results",
}
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def change_a_code(page: Page) -> None:
    """Shows what the first tab is for: another code at one place."""
    place, other = 17, 3
    page.click(f"#reconstruct-chips .chip >> nth={place}")
    page.wait_for_selector(f"#reconstruct-chips .chosen[data-number='{place}']")
    before = page.get_attribute("#reconstruct-picture img", "src")
    page.click(f"#reconstruct-neighbours .chip >> nth={other}")
    page.wait_for_function("b => document.querySelector('#reconstruct-picture img').src !== b", arg=before)


def take(page: Page, name: str, suffix: str = "") -> None:
    """One tab, as small a file as it can be."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.wait_for_selector(f"#{TABS[name]} img")
    if name == "Reconstruct":
        change_a_code(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    file = FOLDER / f"app-{name.lower()}{suffix}.png"
    page.screenshot(path=file, full_page=True, animations="disabled")
    with Image.open(file) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Every tab in the light, and the first one in the dark."""
    FOLDER.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with serve_page(Studio.load("seed-mini", "cpu")) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        for scheme, suffix, names in (("light", "", TABS), ("dark", "-dark", list(TABS)[:1])):
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            page.set_default_timeout(120_000)
            page.goto(url)
            for name in names:
                take(page, name, suffix)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
