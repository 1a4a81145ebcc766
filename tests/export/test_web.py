"""seed-mini exported: its README holds what it says, and the page gives the same codes in a real browser."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from rounding import assert_codes_of_images
from tiny.browser import Watched, chromium
from tiny.export import need_packages, node_modules, served

from seed_hf.commands import main
from seed_hf.export.formats import open_graph, write_graph
from seed_hf.export.graphs import trace
from seed_hf.hub.fetch import find_image_tokenizer
from seed_hf.loading import load_image_tokenizer
from seed_hf.mini import mini_image, mini_pictures_path
from seed_hf.models.image_processing_seed import SeedImageProcessor


FILES = sorted(Path(mini_pictures_path()).glob("*.png"))


@pytest.fixture(scope="module")
def model():
    return load_image_tokenizer("seed-mini", "cpu")[0]


@pytest.fixture(scope="module")
def pixel_values():
    processor = SeedImageProcessor.from_pretrained(find_image_tokenizer("seed-mini")[1])
    return processor([str(file) for file in FILES], return_tensors="pt")["pixel_values"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    need_packages("onnx")
    folder = tmp_path_factory.mktemp("new") / "page"
    assert main(["export-encoder", "seed-mini", "--format", "onnx", "--web", "--output", str(folder)]) == 0
    return folder


def test_onnxruntime_gives_the_same_codes(model, pixel_values, folder):
    codes = torch.from_numpy(open_graph(folder / "encode.onnx")(pixel_values.numpy()))
    assert_codes_of_images(model, pixel_values, codes)


def test_openvino_gives_the_same_codes(model, pixel_values, tmp_path):
    need_packages("openvino")
    file = write_graph(trace(model, "encode"), "encode", "openvino", tmp_path)
    codes = torch.from_numpy(open_graph(file)(pixel_values.numpy()))
    assert_codes_of_images(model, pixel_values, codes)


def test_the_readme_says_how_to_run_it(model, pixel_values, folder, monkeypatch):
    text = (folder / "README.md").read_text(encoding="utf-8")
    run, prepare = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(run.splitlines()) == 3
    # rounding may choose between codes that are as near
    assert int(re.search(r"(\d+) of 384 codes", text)[1]) > 370
    monkeypatch.chdir(folder)
    Image.open(mini_image("owl")).save("image.png")
    names = {}
    exec(prepare + run, names)
    owl = pixel_values[[file.stem == "owl" for file in FILES]]
    assert_codes_of_images(model, owl, torch.from_numpy(names["codes"]))


def test_the_page_gives_the_same_codes(model, pixel_values, folder):
    modules = node_modules()
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert json.loads((modules / "onnxruntime-web" / "package.json").read_text())["version"] == wanted
    (folder / "node_modules").symlink_to(modules)
    with served(folder) as url, chromium() as browser:
        watched = Watched(browser, url, width=390)
        page = watched.page
        page.wait_for_selector("#file:enabled")
        codes = []
        for file in FILES:
            page.set_input_files("#file", file)
            page.get_by_text(f"{file.name}: 32 codes").wait_for()
            codes.append([int(text) for text in page.locator("#codes li").all_inner_texts()])
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
        page.set_input_files("#file", folder / "broken.png")
        page.get_by_text("broken.png cannot be read as an image").wait_for()
        assert watched.errors == [] and watched.foreign == []
    assert_codes_of_images(model, pixel_values, torch.tensor(codes))
