"""Loading seed-mini's language model from its two forms, at toy size."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tiny.demo import build_seed, save_all, save_pipeline
from tiny.language import build_language_model
from tiny.pictures import build_images

from seed_hf.commands import main
from seed_hf.hub.fetch import resolve_mini
from seed_hf.mini import (
    mini_image,
    mini_language_model,
    mini_language_model_path,
    mini_pictures_path,
    mini_pipeline_path,
)


PEFT_ASKS_BY_THE_OLD_NAME = "ignore:.*is_gradient_checkpointing:FutureWarning"


def test_whole_model(tmp_path):
    save_all(tmp_path)
    model, processor = mini_language_model(tmp_path / "language_model", tmp_path / "pipeline")
    prompts = [processor.caption_prompt] * 2
    inputs = processor(images=build_images(2), text=prompts, padding=True, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=3)
    assert ids.shape[1] <= inputs["input_ids"].shape[1] + 3
    codes = model.get_image_codes(inputs["pixel_values"])
    assert torch.equal(ids[:, 1:5], model.config.first_image_token_id + codes)
    # the tokenizer decodes through the pipeline it was loaded with, wherever that lies now
    assert processor.tokenizer.decode_image(codes)[0].size == (16, 16)


@pytest.mark.filterwarnings(PEFT_ASKS_BY_THE_OLD_NAME)
def test_adapter(tmp_path):
    image_tokenizer = save_pipeline(tmp_path / "pipeline")
    model, processor = build_seed(image_tokenizer)
    config = LoraConfig(
        r=2, target_modules=model.lora_target_modules(), modules_to_save=["image_embeddings"], init_lora_weights=False
    )
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    processor.save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, model.config.boi_token_id, model.config.first_image_token_id + 3]])
    expected = adapted.eval()(input_ids=ids).logits

    loaded, _ = mini_language_model(tmp_path / "adapter", tmp_path / "pipeline", base_model=build_language_model())
    torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert (loaded(input_ids=ids).logits - build_seed(image_tokenizer)[0](input_ids=ids).logits).abs().max() > 0.1


def test_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="`folder` is .*nothing"):
        mini_language_model(tmp_path / "nothing", tmp_path)
    with pytest.raises(ValueError, match="`pipeline_folder` is .*nothing"):
        mini_language_model(tmp_path, tmp_path / "nothing")


def test_shipped_images_by_name():
    shipped = sorted(path.stem for path in Path(mini_pictures_path()).glob("*.png"))
    assert len(shipped) >= 12 and [Path(mini_image(name)).stem for name in shipped] == shipped
    assert Image.open(mini_image("strawberry")).size[0] > 0
    for name in ("banana", "strawberry.png", "../pictures/strawberry", ""):
        with pytest.raises(ValueError, match=rf"`name` is {re.escape(repr(name))}; allowed: .*'strawberry'"):
            mini_image(name)


def test_name_of_the_shipped_model():
    assert resolve_mini("seed-mini", "pipeline") == mini_pipeline_path()
    assert resolve_mini("seed-mini", "language_model") == mini_language_model_path()
    assert [resolve_mini(name, "pipeline") for name in ("./seed-mini", "owner/seed-mini")] == [
        "./seed-mini", "owner/seed-mini",
    ]  # fmt: skip


def test_commands_take_the_name(tmp_path, monkeypatch, capsys):
    """`eval` and `export-lm` with it are in test_evaluation.py and package_checks.py."""
    monkeypatch.chdir(tmp_path)
    shipped = {path: path.stat().st_mtime_ns for path in Path(mini_pipeline_path()).rglob("*")}
    (tmp_path / "images").mkdir()
    for name in ("strawberry", "rainbow"):
        shutil.copy(mini_image(name), tmp_path / "images")
    (tmp_path / "images" / "metadata.csv").write_text(
        "file_name,text\nstrawberry.png,strawberry\nrainbow.png,rainbow\n"
    )
    assert main(["encode", "seed-mini", "images", "codes"]) == 0
    # by its name, and not by where it is installed, which would be published
    assert json.loads((tmp_path / "codes" / "encoding-train.json").read_text())["image_tokenizer"] == "seed-mini"
    assert main(["card", "seed-mini", "owner/seed-mini"]) == 1
    assert "`--output` is missing" in capsys.readouterr().err
    assert main(["card", "seed-mini", "owner/seed-mini", "--licence", "apache-2.0", "--output", "card"]) == 0
    assert "owner/seed-mini" in (tmp_path / "card" / "README.md").read_text()
    assert {path: path.stat().st_mtime_ns for path in Path(mini_pipeline_path()).rglob("*")} == shipped
