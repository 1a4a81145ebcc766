"""The script that makes seed-mini's pipeline folder, on toy outputs of the training scripts."""

import importlib

import pytest
import torch
from safetensors import safe_open
from tiny.demo import build_seed
from tiny.pictures import (
    GENERATION_DIM,
    IMAGE_SIZE,
    NUM_GENERATION_TOKENS,
    build_codes,
    build_image_tokenizer,
    build_images,
    build_scheduler,
    build_unet,
    build_vae,
    generators,
)
from tiny.training_data import save_bert
from transformers import AutoTokenizer

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedImageTokenizer, SeedPipeline, SeedProcessor


@pytest.fixture
def script(monkeypatch):
    return importlib.import_module("assemble")


@pytest.fixture
def flags(tmp_path):
    """What the training scripts leave, at toy size."""
    stage2, decoder, vae = tmp_path / "stage2", tmp_path / "decoder", tmp_path / "vae"
    build_image_tokenizer().save_pretrained(stage2)
    SeedImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(stage2)
    bert = save_bert(tmp_path / "bert")
    AutoTokenizer.from_pretrained(bert).save_pretrained(stage2)
    build_unet().save_pretrained(decoder / "unet")
    build_scheduler().save_pretrained(decoder / "scheduler")
    build_vae().save_pretrained(vae)
    flags = {"image_tokenizer": stage2, "decoder": decoder, "vae": vae, "target_model": bert}
    return {**flags, "output": tmp_path / "pipeline", "num_inference_steps": 3, "guidance_scale": 2.5}


def run(script, flags):
    script.main([part for name, value in flags.items() for part in (f"--{name}", str(value))])
    pipeline = SeedPipeline.from_pretrained(flags["output"])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_folder(script, flags):
    pipeline = run(script, flags)
    assert pipeline.config.guidance_scale == 2.5
    assert pipeline.config.num_inference_steps == 3
    scheduler = pipeline.scheduler.config
    assert not scheduler.clip_sample
    assert (scheduler.timestep_spacing, scheduler.prediction_type) == ("trailing", "v_prediction")
    files = list(flags["output"].rglob("*.safetensors"))
    assert len(files) == 4
    for file in files:
        with safe_open(file, "pt") as weights:
            assert {weights.get_tensor(name).dtype for name in weights.keys()} <= {torch.float16, torch.int64}
    code = {file.relative_to(flags["output"]).as_posix() for file in flags["output"].rglob("*.py")}
    assert {"pipeline_seed.py", "image_tokenizer/modeling_seed_image_tokenizer.py"} <= code
    assert not [file for file in flags["output"].rglob("*.json") if str(flags["vae"].parent) in file.read_text()]

    empty = importlib.import_module("seed_hf.evaluation.text_encoders").TextTargetEncoder(
        flags["target_model"], NUM_GENERATION_TOKENS
    )([""])
    assert empty.shape == (1, NUM_GENERATION_TOKENS, GENERATION_DIM)
    assert torch.allclose(pipeline.empty_prompt(), empty, atol=1e-2)

    folder = flags["output"] / "image_tokenizer"
    ids = AutoTokenizer.from_pretrained(folder)("red apple").input_ids
    assert ids == AutoTokenizer.from_pretrained(flags["image_tokenizer"])("red apple").input_ids
    alone = SeedImageTokenizer.from_pretrained(flags["output"], subfolder="image_tokenizer")
    pixel_values = pipeline.image_processor(build_images(2), return_tensors="pt")["pixel_values"]
    assert torch.equal(pipeline.encode_image(build_images(2)), alone.encode(pixel_values))


def test_again_with_another_scheduler(script, flags):
    run(script, flags)
    (flags["output"] / "README.md").write_text("card")
    (flags["output"] / "unet" / "stale.json").write_text("{}")
    pipeline = run(script, {**flags, "scheduler": "DPMSolverMultistepScheduler"})
    assert (flags["output"] / "README.md").read_text() == "card"
    assert not (flags["output"] / "unet" / "stale.json").exists()
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    pixels = pipeline(codes=build_codes(), generator=generators(0), output_type="pt").images
    assert pixels.isfinite().all()


def test_weights_in_several_files(script, flags, tmp_path):
    """All parts load from them, in whichever layout: that of diffusers and that of transformers."""
    whole = run(script, flags)
    cut = run(script, {**flags, "output": tmp_path / "cut", "max_file_size": 0.04})
    for name in ("unet", "vae", "image_tokenizer"):
        files = sorted((tmp_path / "cut" / name).glob("*.safetensors"))
        assert len(files) > 1, name
        got, expected = getattr(cut, name).state_dict(), getattr(whole, name).state_dict()
        assert got.keys() == expected.keys() and all(torch.equal(got[key], expected[key]) for key in expected)
    for part in build_seed(SeedImageTokenizer.from_pretrained(flags["image_tokenizer"])):
        part.save_pretrained(tmp_path / "saved")
    script.save_language_model(tmp_path / "saved", tmp_path / "language_model", 0.02, "some/where")
    assert len(list((tmp_path / "language_model").glob("*.safetensors"))) > 1
    folders = (tmp_path / "saved", tmp_path / "language_model")
    assert SeedProcessor.from_pretrained(folders[1]).tokenizer.image_tokenizer_id == "some/where"
    before, after = (SeedForCausalLM.from_pretrained(folder, image_tokenizer=None) for folder in folders)
    for name, value in before.state_dict().items():
        # float16 in the files
        torch.testing.assert_close(after.state_dict()[name].float(), value, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="`--max_file_size` is -1 MB but a single tensor is larger: .*safetensors"):
        script.check_sizes(tmp_path / "cut", -1)


def test_refuses_to_replace_another_folder(script, flags):
    flags["output"].mkdir()
    (flags["output"] / "thesis.txt").write_text("do not delete")
    with pytest.raises(ValueError, match="`--output` is .* holds no pipeline"):
        run(script, flags)
    assert (flags["output"] / "thesis.txt").exists()


def test_weights_that_make_no_picture(script, flags):
    vae = build_vae()
    with torch.no_grad():
        vae.decoder.conv_out.bias.fill_(float("nan"))
    vae.save_pretrained(flags["vae"])
    with pytest.raises(ValueError, match="not finite"):
        run(script, flags)
