"""The app in a real browser: every tab does its job, asks nobody else, and fits a telephone."""

import pytest


pytest.importorskip("gradio", reason="the app needs gradio")
from tiny.browser import Watched, chromium  # noqa: E402

from seed_hf.app import serve_page  # noqa: E402
from seed_hf.studio import Studio  # noqa: E402


@pytest.fixture(scope="module")
def studio():
    return Studio.load("seed-mini", device="cpu")


@pytest.fixture(scope="module")
def url(studio):
    with serve_page(studio) as url:
        yield url


@pytest.fixture(scope="module")
def wide(url):
    """One page for all tests of the tabs."""
    with chromium() as browser:
        watched = Watched(browser, url, width=1280)
        yield watched
        assert watched.errors == [] and watched.foreign == []


def chips(page, name: str = "reconstruct-chips") -> list[int]:
    """The codes that a grid of chips shows."""
    return [int(text.split()[-1]) for text in page.locator(f"#{name} .chip").all_inner_texts()]


def test_reconstruct(wide, studio):
    page, picture = wide.page, "#reconstruct-picture img"
    page.wait_for_selector(picture)
    page.wait_for_selector("#reconstruct-strip img")
    before = chips(page)
    assert len(before) == studio.num_codes
    # another place, and there one of the nearest codes
    page.click("#reconstruct-chips .chip >> nth=2")
    page.wait_for_selector("#reconstruct-chips .chip.chosen[data-number='2']")
    page.wait_for_function("() => document.querySelector('#reconstruct-heading').innerText.includes('place 3')")
    wide.change_of(picture, lambda: page.click("#reconstruct-neighbours .chip >> nth=1"))
    after = chips(page)
    assert [place for place in range(len(before)) if before[place] != after[place]] == [2]
    # the first codes alone
    wide.change_of(picture, lambda: page.press("#reconstruct-kept input[type=range]", "ArrowLeft"))
    assert page.locator("#reconstruct-chips .dropped").count() == 1
    # the image's codes again, then another image
    wide.change_of(picture, lambda: page.get_by_text("Undo all changes").click())
    assert chips(page) == before
    wide.change_of(picture, lambda: page.click("#reconstruct-examples button >> nth=3"))
    assert chips(page) != before
