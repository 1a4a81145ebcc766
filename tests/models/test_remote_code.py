"""What is saved loads with its own code where the package is not installed: from a folder and from a repository id."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from PIL import Image
from rounding import assert_codes_of_images, assert_codes_of_prompt, assert_equal_up_to_rounding
from tiny import TESTS
from tiny.demo import build_seed, save_pipeline
from tiny.hub import cache_copy
from tiny.pictures import build_prompt_pipeline, distance, draw
from transformers import AutoModelForCausalLM, AutoProcessor

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedPipeline, SeedProcessor


CHECKS = TESTS / "remote_code_checks.py"
# PEFT asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def save_language_model(folder: Path, pipeline_id: str):
    """A language model repository with its image tokenizer inside, and an adapter of it beside."""
    image_tokenizer = save_pipeline(folder / "pipeline")
    model, processor = build_seed(image_tokenizer)
    model.attach_image_tokenizer(image_tokenizer)
    processor.tokenizer.image_tokenizer_id = pipeline_id
    model.save_pretrained(folder / "lm")
    processor.save_pretrained(folder / "lm")
    base = SeedForCausalLM.from_pretrained(folder / "lm")
    settings = {"r": 2, "init_lora_weights": False, "task_type": "CAUSAL_LM", **model.lora_settings()}
    adapted = get_peft_model(base, LoraConfig(**settings)).eval()
    adapted.save_pretrained(folder / "adapter")
    return model, processor, adapted


def what_the_package_computes(model, processor, adapted, pipeline_folder) -> dict:
    layout, image = processor.tokenizer.image_token_layout, Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 50)
    codes = torch.tensor([[3, 5, 7, 9]])
    ids = torch.tensor([[5, 6, *layout.span(codes), 8]])
    text = "a photo" + processor.tokenizer.codes_to_text(codes) + " of"
    inputs = processor(images=image, text=processor.caption_prompt, return_tensors="pt")
    pipeline = SeedPipeline.from_pretrained(pipeline_folder)
    encoded = pipeline.encode_image(image)
    output = pipeline(codes=encoded, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return {
            "ids": ids,
            "logits": model(ids).logits,
            "adapter_logits": adapted(ids).logits,
            "text": text,
            "text_ids": processor.tokenizer(text)["input_ids"],
            "image": image,
            "generated": model.generate(**inputs, max_new_tokens=4),
            "codes": encoded,
            "picture": output.images[0],
        }


@pytest.fixture(scope="module")
def drawing():
    """A pipeline with its language model."""
    return build_prompt_pipeline()


@pytest.fixture(scope="module")
def saved(drawing, tmp_path_factory):
    """A folder with all that is saved, and with what a process without the package made of it.

    One process for everything, from folders and by id: starting it costs more than all that it does.
    """
    folder = tmp_path_factory.mktemp("saved")
    model, processor, adapted = save_language_model(folder, "someone/pipeline")
    torch.save(what_the_package_computes(model, processor, adapted, folder / "pipeline"), folder / "wanted.pt")
    cache = folder / "cache"
    cache_copy(folder / "pipeline", cache, "someone/pipeline")
    cache_copy(folder / "lm", cache, "someone/lm")
    adapter_config = cache_copy(folder / "adapter", cache, "someone/adapter") / "adapter_config.json"
    values = json.loads(adapter_config.read_text())
    assert values["base_model_name_or_path"] == str(folder / "lm")
    adapter_config.write_text(json.dumps({**values, "base_model_name_or_path": "someone/lm"}))
    drawing.save_pretrained(folder / "drawing")
    save_image_processor(folder)

    names = [str(folder / "lm"), str(folder / "adapter"), "someone/lm", "someone/adapter"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(folder / "home"), "HF_HUB_CACHE": str(cache)}
    command = [sys.executable, str(CHECKS), str(folder), *names]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def save_image_processor(folder: Path):
    """A repository with nothing but an image processor, and a photo whose every pixel differs."""
    class_name = SeedImageProcessor._auto_class
    SeedImageProcessor.register_for_auto_class()
    try:
        SeedImageProcessor(size=16).save_pretrained(folder / "image_processor")
    finally:
        SeedImageProcessor._auto_class = class_name
    values = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "photo.png")


def test_language_model_without_the_package(saved):
    """What that process saved again still has all of its code, and is a model of the package."""
    wanted = torch.load(saved / "wanted.pt", weights_only=False)
    assert {path.name for path in (saved / "resaved").iterdir()} == {path.name for path in (saved / "lm").iterdir()}
    again = AutoModelForCausalLM.from_pretrained(saved / "resaved")
    assert type(again) is SeedForCausalLM
    assert_equal_up_to_rounding(again(wanted["ids"]).logits, wanted["logits"])
    assert type(AutoProcessor.from_pretrained(saved / "resaved")) is SeedProcessor


def test_pipeline_without_the_package(saved, drawing):
    images, codes, drawn, written, *later = torch.load(saved / "drawn.pt")
    image = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)
    pixel_values = drawing.image_processor(image, return_tensors="pt")["pixel_values"]
    for seen in (codes, later[0]):
        assert_codes_of_images(drawing.image_tokenizer, pixel_values, seen)
    for prompted in (written, later[1]):
        assert_codes_of_prompt(drawing, "a cat", prompted)
    for pictures, shown in ((images, codes), (drawn, written)):
        assert distance(pictures, draw(drawing, 0, codes=shown)) < 1e-5
    loaded = SeedPipeline.from_pretrained(saved / "drawing_again")
    assert distance(draw(loaded, codes=codes), draw(drawing, codes=codes)) < 1e-5
    first, again = (
        sorted(path.relative_to(saved / name) for path in (saved / name).rglob("*.py"))
        for name in ("drawing", "drawing_again")
    )
    assert first == again
    generic = DiffusionPipeline.from_pretrained(saved / "drawing_again", trust_remote_code=True)
    assert type(generic).__name__ == "SeedPipeline"


def test_image_processor_without_the_package(saved):
    expected = SeedImageProcessor(size=16)(str(saved / "photo.png"), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(np.load(saved / "pixels.npy"), expected, atol=1e-6)


def auto_maps(values):
    """Every `auto_map` of a configuration and its parts."""
    for name, value in values.items():
        if name == "auto_map":
            yield value
        elif isinstance(value, dict):
            yield from auto_maps(value)


def test_saved_references_name_saved_files(saved, tmp_path):
    """Every entry of every `auto_map` is a class in a file beside it, also after a reload by the package."""
    for name in ("lm", "pipeline"):
        shutil.copytree(saved / name, tmp_path / name)
    SeedForCausalLM.from_pretrained(tmp_path / "lm").save_pretrained(tmp_path / "again")
    SeedProcessor.from_pretrained(tmp_path / "lm").save_pretrained(tmp_path / "again")
    SeedPipeline.from_pretrained(tmp_path / "pipeline").save_pretrained(tmp_path / "pipeline_again")
    files = [path for path in tmp_path.glob("*/**/*config.json") if '"auto_map"' in path.read_text()]
    assert len(files) == 2 * 3 + 2 * 2
    for path in files:
        for auto_map in auto_maps(json.loads(path.read_text())):
            for reference in auto_map.values():
                reference = reference[0] if isinstance(reference, list) else reference
                module, name = reference.split(".")
                assert f"class {name}(" in (path.parent / f"{module}.py").read_text(), (path, reference)
    assert len(json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"]) == 5
