"""seed-mini exported: its README holds what it says, and the page gives the same codes in a real browser."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rounding import assert_codes_of_images
from tiny.browser import Watched, chromium
from tiny.export import check_batches, need_packages, node_modules, served

from seed_hf.commands import main
from seed_hf.export.formats import open_graph, write_graph
from seed_hf.export.graphs import trace
from seed_hf.export.readme import RUNS
from seed_hf.image_tokenizers import load_image_tokenizer
from seed_hf.mini import mini_image, mini_pictures_path


FILES = sorted(Path(mini_pictures_path()).glob("*.png"))


@pytest.fixture(scope="module")
def parts():
    loaded = load_image_tokenizer("seed-mini")
    return loaded.model, loaded.image_processor


@pytest.fixture(scope="module")
def model(parts):
    return parts[0]


@pytest.fixture(scope="module")
def pixel_values(parts):
    return parts[1]([str(file) for file in FILES], return_tensors="pt")["pixel_values"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    need_packages("onnx")
    folder = tmp_path_factory.mktemp("new") / "page"
    assert main(["export-encoder", "seed-mini", "--format", "onnx", "--web", "--output", str(folder)]) == 0
    return folder


def test_onnxruntime_gives_the_same_codes(model, pixel_values, folder):
    encode, decode = (open_graph(folder / f"{half}.onnx") for half in ("encode", "decode"))
    assert_codes_of_images(model, pixel_values, torch.from_numpy(encode(pixel_values.numpy())))
    check_batches(model, encode, decode, pixel_values)


# slow: see test_export.py
@pytest.mark.slow
def test_openvino_gives_the_same_codes(model, pixel_values, tmp_path):
    need_packages("openvino")
    file = write_graph(trace(model, "encode"), "encode", "openvino", tmp_path)
    codes = torch.from_numpy(open_graph(file)(pixel_values.numpy()))
    assert_codes_of_images(model, pixel_values, codes)


def test_the_readme_says_how_to_run_it(model, pixel_values, folder, monkeypatch):
    text = (folder / "README.md").read_text(encoding="utf-8")
    run, prepare = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert run.strip() == RUNS["onnx"] and len(run.splitlines()) == 3
    # rounding may choose between codes that are as near
    assert int(re.search(r"(\d+) of 384 codes", text)[1]) > 370
    monkeypatch.chdir(folder)
    Image.open(mini_image("owl")).save("image.png")
    names = {}
    exec(prepare + run, names)
    owl = pixel_values[[file.stem == "owl" for file in FILES]]
    assert_codes_of_images(model, owl, torch.from_numpy(names["codes"]))


@pytest.fixture(scope="module")
def watched(folder):
    """The page, in a browser."""
    modules = node_modules()
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert json.loads((modules / "onnxruntime-web" / "package.json").read_text())["version"] == wanted
    (folder / "node_modules").symlink_to(modules)
    with served(folder) as url, chromium() as browser:
        watched = Watched(browser, url, width=390)
        watched.page.wait_for_selector("#file:enabled")
        yield watched
        assert watched.errors == [] and watched.foreign == []


def codes_on_page(page, file: Path) -> list[int]:
    """What the page shows for a file."""
    page.set_input_files("#file", file)
    page.get_by_text(f"{file.name}: 32 codes").wait_for()
    return [int(text) for text in page.locator("#codes li").all_inner_texts()]


def test_the_page_gives_the_same_codes(model, pixel_values, watched):
    codes = [codes_on_page(watched.page, file) for file in FILES]
    assert_codes_of_images(model, pixel_values, torch.tensor(codes))
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_puts_transparency_on_white_and_reads_jpeg(parts, watched, tmp_path):
    model, processor = parts
    owl = Image.open(mini_image("owl")).resize((300, 211))
    owl.save(tmp_path / "owl.jpg", quality=90)
    owl.putalpha(Image.linear_gradient("L").resize(owl.size))
    owl.save(tmp_path / "owl.png")
    for file in sorted(tmp_path.glob("owl.*")):
        codes = torch.tensor([codes_on_page(watched.page, file)])
        # a browser may round values of a JPEG file, and of mixed colours, in another way
        expected = model.encode(processor(str(file), return_tensors="pt")["pixel_values"])
        assert (codes == expected).sum() > 26, file.name


@pytest.mark.parametrize(("width", "height"), [(300, 211), (7, 50), (3, 400)])
def test_the_page_resizes_as_pillow_does(watched, width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    script = "async ([rgb, ...sizes]) => Array.from((await import('./pixels.js')).resize(rgb, ...sizes))"
    resized = watched.page.evaluate(script, [pixels.flatten().tolist(), width, height, 64, 48])
    expected = np.asarray(Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC))
    assert resized == expected.flatten().tolist()


def test_the_page_says_what_is_no_image(watched, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    watched.page.set_input_files("#file", tmp_path / "broken.png")
    watched.page.get_by_text("broken.png cannot be read as an image").wait_for()
