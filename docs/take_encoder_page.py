"""Takes the picture of the page that encodes images in docs/images, with seed-mini, npm and a headless Chromium.

python docs/take_encoder_page.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from seed_hf.export import export_encoder
from seed_hf.mini import mini_image


FILE = Path(__file__).with_name("images") / "encoder-page.png"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PORT = 8765


def take(url: str, image: str) -> None:
    """Lets the page encode an image."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 800, "height": 420}, color_scheme="light")
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_selector("#file:enabled")
        page.set_input_files("#file", image)
        page.wait_for_selector("#codes li")
        page.screenshot(path=FILE, animations="disabled")
        browser.close()
    with Image.open(FILE) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(FILE, optimize=True)


def main() -> None:
    """Exports, serves the folder as its README says, and takes the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "page"
        export_encoder("seed-mini", folder, format="onnx", web=True)
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts"], cwd=folder, check=True)
        server = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(PORT)]
        with subprocess.Popen(server, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            process.stdout.readline()  # it serves once it says where
            take(f"http://127.0.0.1:{PORT}/", mini_image("strawberry"))
            process.terminate()


if __name__ == "__main__":
    main()
