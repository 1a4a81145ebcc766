"""`seed-hf draw`: pictures of words by seed-mini."""

import numpy as np
import pytest
import torch
from PIL import Image

from seed_hf import SeedPipeline
from seed_hf.commands import main
from seed_hf.mini import mini_image, mini_image_generation, mini_pipeline_path


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def pipeline(load_mini):
    model, processor = load_mini()
    return SeedPipeline.from_pretrained(mini_pipeline_path(), language_model=model, processor=processor)


def draw_apple(pipeline, steps: int) -> np.ndarray:
    settings = {"generation_kwargs": mini_image_generation(pipeline.processor), "guidance_scale": 2.0}
    generator = torch.Generator().manual_seed(3)
    (image,) = pipeline(prompt="red apple", generator=generator, num_inference_steps=steps, **settings).images
    return np.asarray(image).astype(int)


def test_the_picture_is_that_of_the_pipeline(pipeline, tmp_path, capsys):
    file, apple = tmp_path / "new" / "apple.png", draw_apple(pipeline, 12)
    assert main(["draw", "red apple", "--output", str(file), "--seed", "3"]) == 0
    assert np.array_equal(pixels(file), apple)
    assert capsys.readouterr().err.splitlines()[-1] == f"wrote {file}"


def test_several_pictures_go_to_a_folder(pipeline, tmp_path):
    words, apple = ["draw", "sad/face", "red apple", "--count", "2", "--steps", "2"], draw_apple(pipeline, 2)
    assert main([*words, "--output", str(tmp_path), "--seed", "2"]) == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["red-apple", "red-apple-2", "sad-face", "sad-face-2"]
    before = (tmp_path / "red-apple.png").read_bytes()
    assert main(["draw", "red apple", "--steps", "1", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "red-apple.png").read_bytes() == before and (tmp_path / "red-apple-3.png").is_file()
    # the second is from the next noise; in a batch, up to rounding
    assert np.abs(pixels(tmp_path / "red-apple-2.png") - apple).max() <= 1
    assert np.abs(pixels(tmp_path / "red-apple.png") - apple).max() > 8


def test_a_pipeline_saved_with_its_language_model(pipeline, tmp_path, capsys):
    pipeline.save_pretrained(tmp_path / "pipeline")
    words = ["draw", "red apple", "--output", str(tmp_path / "apple.png"), "--model", str(tmp_path / "pipeline")]
    assert main([*words, "--steps", "2"]) == 0
    assert pixels(tmp_path / "apple.png").shape == (64, 64, 3)
    assert main(["caption", mini_image("doughnut"), "--model", str(tmp_path / "pipeline")]) == 0
    assert capsys.readouterr().out == f"{mini_image('doughnut')}: doughnut\n"


@pytest.mark.parametrize(
    "flags, problem",
    [
        (["--count", "0"], "`--count` is 0; allowed: 1 or more"),
        (["--count", "2"], "is the file 'apple.png'; allowed for several pictures: a folder"),
        (["--model", mini_pipeline_path()], "is a pipeline without a language model; allowed: "),
        (["--", "apple " * 600], "`prompt` has 634 tokens; allowed: 512, the context of the language model."),
        (["--output", "out", "--", " "], "`prompt` is empty; allowed: some words"),
        (["--output", "apple.jpg"], "`--output` is 'apple.jpg'; allowed: a name that ends in .png, or a folder"),
    ],
)
def test_errors_are_one_line(flags, problem, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "--output", "apple.png", *flags, *([] if "--" in flags else ["red apple"])]) == 1
    assert problem in capsys.readouterr().err.splitlines()[-1] and not any(tmp_path.iterdir())
