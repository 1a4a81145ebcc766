"""The app in a real browser: every tab does its job, asks nobody else, and fits a telephone."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from tiny import BENCHMARKS
from tiny.browser import Watched, chromium

from seed_hf.mini import mini_image
from seed_hf.studio import Studio


# the scripts of benchmarks/ are no package
_spec = importlib.util.spec_from_file_location("app_load", BENCHMARKS / "app_load.py")
app_load = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(app_load)

# what each tab shows at once
FIRST_SIGHT = {
    "Reconstruct": "reconstruct-picture",
    "Mix": "mix-picture",
    "Chat": "chat",
    "Draw": "draw-pictures",
    "Search": "search-results",
    "Codebook": "codebook-results",
}


@pytest.fixture(scope="module")
def studio():
    studio = Studio.load("seed-mini", device="cpu")
    # quicker, and good enough to tell pictures apart
    studio.pipeline.register_to_config(num_inference_steps=2)
    return studio


@pytest.fixture(scope="module")
def url(studio):
    # at the top of the file its imports would cost every worker seconds
    pytest.importorskip("gradio", reason="the app needs gradio")
    from seed_hf.app import serve_page
    from seed_hf.app.limits import Limits

    # time enough for a machine that has much else to do
    with serve_page(studio, Limits(seconds=600, uploads_bytes=15 * 2**20)) as url:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        httpx.post(f"{url}gradio_api/upload", files={"files": ("x.png", b"secret")}).raise_for_status()
        assert [path.read_bytes() for path in folder.rglob("x.png")] == [b"secret"]
        yield url
    # what visitors uploaded is gone
    assert not folder.exists()


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


def open_tab(page, name: str):
    """Also where a narrow page has put the tab into a menu."""
    page.get_by_role("tab").first.wait_for()
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():
        page.click(".overflow-menu > button")
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def test_mix(wide, studio):
    page = wide.page
    open_tab(page, "Mix")
    page.wait_for_selector("#mix-picture img")
    slider = page.locator("#mix-border input[type=range]")
    left = chips(page, "mix-chips")
    wide.change_of("#mix-picture img", lambda: slider.press("Home"))
    right = chips(page, "mix-chips")
    half = studio.num_codes // 2
    # without codes of the first image all are of the second
    assert right[half:] == left[half:] and right[:half] != left[:half]
    assert page.locator("#mix-row img").count() == 5


def test_chat(wide):
    page, answers = wide.page, "#chat .bot.message"
    open_tab(page, "Chat")
    page.wait_for_selector(f"{answers} img")
    before = page.locator(answers).count()
    # without a message nothing happens, and nothing is covered
    page.press("#chat-box textarea", "Enter")
    page.wait_for_selector("text=Please write something, or add an image.")
    assert page.locator("#chat .error").count() == 0
    page.fill("#chat-box textarea", "draw red heart")
    page.press("#chat-box textarea", "Enter")
    page.wait_for_function("([s, n]) => document.querySelectorAll(s).length > n", arg=[f"{answers} img", 1])
    # an image with words, which are about it, and are no HTML
    asked, words = [], "What is this? <img src=/no-such-image onerror=alert(1)> & <b>"
    page.on("request", lambda request: asked.append(request.url))
    page.set_input_files("#chat-box input[type=file]", mini_image("owl"))
    page.wait_for_selector("#chat-box .thumbnail-item")
    page.fill("#chat-box textarea", words)
    # it is taken once the answer before is complete, and the field is empty then
    while page.input_value("#chat-box textarea"):
        page.press("#chat-box textarea", "Enter")
        page.wait_for_timeout(500)
    page.wait_for_function("([s, n]) => document.querySelectorAll(s).length === n", arg=[answers, before + 2])
    page.locator("#chat .user.message").get_by_text(words, exact=True).wait_for()
    assert asked and not any("no-such-image" in address for address in asked)


def test_draw(wide, studio):
    page = wide.page
    open_tab(page, "Draw")
    page.wait_for_selector("#draw-pictures img")
    page.fill("#draw-words textarea", "green apple")
    wide.change_of("#draw-pictures img", lambda: page.click("#draw-button"))
    assert chips(page, "draw-chips") == studio.write_codes(["green apple"])[0].tolist()
    assert page.locator("#draw-row img").count() > 4


def test_search_and_codebook(wide, studio):
    page = wide.page
    open_tab(page, "Search")
    page.wait_for_selector("#search-results img")
    page.fill("#search-words textarea", "green heart")
    wide.change_of("#search-results img", lambda: page.click("#search-button"))
    assert "green heart" in page.locator("#search-results .caption-label").first.inner_text()
    # the visitor's own images, for both tabs
    page.set_input_files("#search-files input[type=file]", [mini_image("owl"), mini_image("guitar")])
    page.wait_for_function("() => document.querySelector('#search-note').innerText.includes('2 images are ready')")
    open_tab(page, "Codebook")
    page.wait_for_selector("#codebook-results img")
    page.wait_for_function("() => document.querySelectorAll('#codebook-chips .chip').length <= 2")
    page.locator("#codebook-chips .chip").last.click()
    code = studio.encode([mini_image("owl"), mini_image("guitar")])[:, 0].max().item()
    heading = f"code {code} at place 1"
    page.wait_for_function("h => document.querySelector('#codebook-heading').innerText.includes(h)", arg=heading)


def test_telephone(wide, url):
    narrow = Watched(wide.page.context.browser, url, width=390, color_scheme="dark", has_touch=True)
    narrow.page.wait_for_selector("#reconstruct-strip img")
    for name, place in FIRST_SIGHT.items():
        open_tab(narrow.page, name)
        narrow.page.wait_for_selector(f"#{place} img")
        assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 390, name
        for row in narrow.page.locator(".strip:visible, .found:visible").all():
            # the label ends above the first image
            label, image = (row.locator(part).first.bounding_box() for part in ("[data-testid=block-label]", "img"))
            assert label["y"] + label["height"] <= image["y"], name
    assert narrow.errors == [] and narrow.foreign == []
    narrow.page.close()


# ------------------------------------------------------------------------------------------ limits
@pytest.mark.parametrize(
    ("tab", "name", "reason"),
    [
        ("Reconstruct", "reconstruct-image", "This file cannot be read as an image of at most 25,000,000 pixels."),
        ("Mix", "mix-first", "This file cannot be read as an image."),
    ],
)
def test_an_upload_that_is_no_image_is_taken_away(wide, tmp_path, tab, name, reason):
    page = wide.page
    open_tab(page, tab)
    before = chips(page, f"{tab.lower()}-chips")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    page.locator(f"#{name}").get_by_label("Remove Image").click()
    page.set_input_files(f"#{name} input[type=file]", tmp_path / "broken.png")
    page.get_by_text(reason, exact=True).first.wait_for()
    page.locator(f"#{name} img").wait_for(state="detached")
    assert chips(page, f"{tab.lower()}-chips") == before


def test_a_wish_that_cannot_be_met_is_refused_with_a_reason(wide):
    page = wide.page
    open_tab(page, "Draw")
    page.fill("#draw-words textarea", " ")
    page.click("#draw-button")
    page.wait_for_selector("text=Please say what to draw.")


def test_what_is_no_image_is_refused_with_a_reason(url):
    base = f"{url}gradio_api"
    answer = httpx.post(f"{base}/upload", files={"files": ("broken.png", b"\x89PNG\r\n\x1a\n" + bytes(40))})
    file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
    assert "cannot be read as an image" in app_load.ask(url, "reconstruct", [file, 32])["error"]


def test_too_much_is_refused(url):
    base = f"{url}gradio_api"
    assert httpx.post(f"{base}/call/search", content=bytes(2**20)).status_code == 413
    large = {"files": ("large.png", bytes(11 * 2**20))}
    assert httpx.post(f"{base}/upload", files=large).status_code == 413
    many = [("files", (f"many-{number}.png", bytes(8 * 2**20))) for number in range(2)]
    assert httpx.post(f"{base}/upload", files=many).status_code == 413
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("many-*"))
    assert httpx.post(f"{base}/process_recording", files=large).status_code == 404
    file = {"path": f"{url}config", "meta": {"_type": "gradio.FileData"}}
    answer = httpx.post(f"{base}/call/reconstruct", json={"data": [file, 32]})
    assert answer.status_code == 400 and "as a file" in answer.json()["detail"]
    file["path"] = "/etc/hostname"
    assert "error" in app_load.ask(url, "reconstruct", [file, 32])


@pytest.mark.parametrize("headers", [{"Host": "example.org"}, {"Origin": "http://example.org"}, {"Origin": "null"}])
def test_other_websites_are_refused(url, headers):
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    answers = [httpx.get(url, headers=headers), httpx.options(f"{url}gradio_api/upload", headers=preflight)]
    answers.append(httpx.post(f"{url}gradio_api/queue/join", headers=headers, json={}))
    assert {answer.status_code for answer in answers} == {403}
    assert not any("Access-Control-Allow-Origin" in answer.headers for answer in answers)


@pytest.mark.parametrize("meta", [{}, {"meta": None}, {"meta": {"_type": "gradio.FileData"}}])
def test_only_uploads_are_read(url, tmp_path, meta):
    link = Path(os.environ["GRADIO_TEMP_DIR"]) / "link.png"
    link.symlink_to(mini_image("owl"))
    answers = set()
    for path in (mini_image("owl"), tmp_path / "missing.png", link):
        answers.add(app_load.ask(url, "reconstruct", [{"path": str(path), **meta}, 32]).get("error"))
    link.unlink()
    # the same words, whether the file is there or not
    assert len(answers) == 1 and None not in answers and "owl" not in answers.pop()


def test_a_pipelines_own_settings_are_allowed_wherever_they_lie():
    pytest.importorskip("gradio", reason="the app needs gradio")
    from seed_hf.app.draw import Draw
    from seed_hf.app.limits import Desk

    for guidance, steps in ((0, 60), (0.5, 4), (30, 4)):
        config = SimpleNamespace(guidance_scale=guidance, num_inference_steps=steps)
        tab = Draw(Desk(SimpleNamespace(pipeline=SimpleNamespace(config=config))))
        assert tab.check("a", 2, 0, guidance, steps) == (2, 0, steps)
        assert tab.check("a", 2, 0, 20, 50) == (2, 0, 50)


def test_odd_values_are_refused_with_a_reason(url):
    upload = httpx.post(f"{url}gradio_api/upload", files={"files": Path(mini_image("owl")).read_bytes()}).json()[0]
    file = {"path": upload, "meta": {"_type": "gradio.FileData"}}
    wishes = [("reconstruct", [file, kept]) for kept in ("a", 2.5, -5, 10**9, None, [1])]
    wishes += [("draw", [words, 1, 0, 2, 4]) for words in (None, 5, {"a": 1})]
    wishes += [
        ("draw", ["a", *numbers]) for numbers in (("x", 0, 2, 4), (1, 0.5, 2, 4), (1, 0, "x", 4), (1, 0, 2, "x"))
    ]
    wishes += [("search", ["Example images", words, None]) for words in (None, 5, {"a": 1})]
    wishes += [("search", [name, "face", None]) for name in (["x"], "/etc", None)]
    answers = [app_load.ask(url, *wish)["error"] for wish in wishes]
    reasons = ("must be a whole number", "Please write some words", "The guidance goes", "Please choose one of these")
    odd = [
        (wish, answer) for wish, answer in zip(wishes, answers, strict=True) if not any(r in answer for r in reasons)
    ]
    assert odd == []


def test_many_visitors_are_answered_or_refused(url, capsys):
    # one of ten draws
    counts = app_load.visit(url, users=10, requests=1, pid=os.getpid())
    assert counts["answered"] + counts["refused"] == 10 and counts["answered"] >= 1
    assert counts["growth_mib"] < 300
