"""A headless Chromium, and a page that remembers what went wrong on it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync"""


@contextmanager
def chromium() -> Iterator:
    """Skips where there is no browser, except where CI is set: there it must not go unseen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs a Chromium, and the Python package playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS.split())
        yield browser
        browser.close()


class Watched:
    """A new page of an address: what its console says in anger, and which other hosts it asks."""

    def __init__(self, browser, url: str, width: int, **settings):
        self.errors, self.foreign = [], []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
        self.page.set_default_timeout(180_000)
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url, url))
        self.page.goto(url)

    def _note(self, address: str, url: str):
        if not address.startswith((url, "data:", "blob:")):
            self.foreign.append(address)

    def change_of(self, selector: str, action, attribute: str = "src") -> str:
        """Waits until an action has changed an attribute of an element; returns the new value."""
        before = self.page.get_attribute(selector, attribute)
        action()
        script = (
            f"([s, b]) => {{const e = document.querySelector(s); return e && e.getAttribute('{attribute}') !== b}}"
        )
        self.page.wait_for_function(script, arg=[selector, before])
        return self.page.get_attribute(selector, attribute)
