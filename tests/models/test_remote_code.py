"""What is saved loads with its own code where the package is not installed: from a folder and from a repository id."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from rounding import assert_equal_up_to_rounding
from tiny import TESTS
from tiny.demo import build_seed, save_pipeline
from tiny.hub import cache_copy
from transformers import AutoModelForCausalLM, AutoProcessor

from seed_hf import SeedForCausalLM, SeedPipeline, SeedProcessor


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


def test_without_the_package(tmp_path):
    """All parts, from a folder and by id, in one process (starting one costs more than all of it)."""
    model, processor, adapted = save_language_model(tmp_path, "someone/pipeline")
    wanted = what_the_package_computes(model, processor, adapted, tmp_path / "pipeline")
    torch.save(wanted, tmp_path / "wanted.pt")
    cache = tmp_path / "cache"
    cache_copy(tmp_path / "pipeline", cache, "someone/pipeline")
    cache_copy(tmp_path / "lm", cache, "someone/lm")
    adapter_config = cache_copy(tmp_path / "adapter", cache, "someone/adapter") / "adapter_config.json"
    values = json.loads(adapter_config.read_text())
    assert values["base_model_name_or_path"] == str(tmp_path / "lm")
    adapter_config.write_text(json.dumps({**values, "base_model_name_or_path": "someone/lm"}))

    names = [str(tmp_path / "lm"), str(tmp_path / "adapter"), "someone/lm", "someone/adapter"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": str(cache)}
    command = [sys.executable, str(CHECKS), str(tmp_path / "wanted.pt"), str(tmp_path / "resaved"), *names]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    # what that process saved again still has all of its code, and is a model of the package
    assert {path.name for path in (tmp_path / "resaved").iterdir()} == {p.name for p in (tmp_path / "lm").iterdir()}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "resaved")
    assert type(again) is SeedForCausalLM
    assert_equal_up_to_rounding(again(wanted["ids"]).logits, wanted["logits"])
    assert type(AutoProcessor.from_pretrained(tmp_path / "resaved")) is SeedProcessor


def auto_maps(values):
    """Every `auto_map` of a configuration and its parts."""
    for name, value in values.items():
        if name == "auto_map":
            yield value
        elif isinstance(value, dict):
            yield from auto_maps(value)


def test_saved_references_name_saved_files(tmp_path):
    """Every entry of every `auto_map` is a class in a file beside it, also after a reload by the package."""
    save_language_model(tmp_path, "someone/pipeline")
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
