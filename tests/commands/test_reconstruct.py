"""`seed-hf reconstruct`: pictures of images and of codes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seed_hf import SeedImageTokenizer, SeedPipeline
from seed_hf.commands import main
from seed_hf.inference import check_places
from seed_hf.mini import mini_image, mini_pipeline_path


OWL, GUITAR = mini_image("owl"), mini_image("guitar")


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "owl.png").write_bytes(b"broken")
    assert main(["reconstruct", OWL, GUITAR, OWL, str(folder / "owl.png"), "--output", str(folder / "out")]) == 1
    return folder / "out"


def test_pictures_are_those_of_the_pipeline(drawn):
    pipeline = SeedPipeline.from_pretrained(mini_pipeline_path())
    assert sorted(path.name for path in drawn.iterdir()) == ["guitar.png", "owl-2.png", "owl.png"]
    settings = {"num_inference_steps": 12, "guidance_scale": 2.0}
    generator = torch.Generator().manual_seed(0)
    (picture,) = pipeline(codes=pipeline.encode_image(GUITAR), generator=generator, **settings).images
    # the same picture in a batch and alone, up to rounding
    assert np.abs(pixels(drawn / "guitar.png").astype(int) - np.asarray(picture)).max() <= 1
    assert np.array_equal(pixels(drawn / "owl.png"), pixels(drawn / "owl-2.png"))


def test_an_image_in_the_output_folder_stays(tmp_path):
    shutil.copyfile(OWL, tmp_path / "owl.png")
    assert main(["reconstruct", str(tmp_path), "--output", str(tmp_path), "--steps", "1"]) == 0
    assert (tmp_path / "owl.png").read_bytes() == Path(OWL).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["owl-2.png", "owl.png"]
    # nor does that happen to the images that codes came from
    (tmp_path / "owl-2.png").unlink()
    codes = str(tmp_path / "codes.jsonl")
    assert main(["tokenize", str(tmp_path), "--output", codes]) == 0
    assert main(["reconstruct", codes, "--output", str(tmp_path), "--steps", "1"]) == 0
    assert (tmp_path / "owl.png").read_bytes() == Path(OWL).read_bytes() and (tmp_path / "owl-2.png").is_file()


def test_codes_give_the_pictures_of_their_images(drawn, tmp_path, capsys):
    assert main(["tokenize", OWL, GUITAR, "--output", str(tmp_path / "codes.jsonl")]) == 0
    assert main(["reconstruct", str(tmp_path / "codes.jsonl"), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.endswith(f"wrote 2 pictures to {tmp_path / 'out'}\n")
    for name in ("owl.png", "guitar.png"):
        difference = np.abs(pixels(tmp_path / "out" / name).astype(int) - pixels(drawn / name))
        assert difference.max() <= 1


def test_seed_steps_and_guidance_count(drawn, tmp_path):
    for flags in (["--seed", "1"], ["--steps", "3"], ["--guidance", "1"]):
        assert main(["reconstruct", GUITAR, "--output", str(tmp_path), *flags]) == 0
        assert np.abs(pixels(tmp_path / "guitar.png").astype(int) - pixels(drawn / "guitar.png")).max() > 8


@pytest.mark.parametrize(
    "content", ["no json", '{"file": "a"}', "[1]", json.dumps({"file": "a", "codes": [8192] * 32})]
)
def test_a_wrong_file_of_codes_is_named(content, tmp_path, capsys):
    file = tmp_path / "codes.jsonl"
    file.write_text(content)
    assert main(["reconstruct", str(file), "--output", str(tmp_path / "out")]) == 1
    assert "codes" in capsys.readouterr().err.splitlines()[-1]


def test_a_code_in_the_place_of_another_is_refused(tmp_path, capsys):
    """seed-mini's place k has the codes from 128 k on; others would give a picture that means nothing."""
    codes = [128 * place for place in range(32)]
    file = tmp_path / "codes.jsonl"
    file.write_text(json.dumps({"file": "a", "codes": [*codes[:3], 0, *codes[4:]]}))
    assert main(["reconstruct", str(file), "--output", str(tmp_path / "out")]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("seed-hf reconstruct: ") and "holds 0 at place 3" in line and "[384, 512)" in line
    config = SeedImageTokenizer.config_class.from_pretrained(mini_pipeline_path(), subfolder="image_tokenizer")
    assert check_places(codes[:5], config).tolist() == [codes[:5]]


def test_a_model_that_cannot_draw(tmp_path, capsys):
    words = ["reconstruct", OWL, "--output", str(tmp_path), "--model", f"{mini_pipeline_path()}/image_tokenizer"]
    assert main(words) == 1
    assert "has no model_index.json; allowed: a pipeline" in capsys.readouterr().err
