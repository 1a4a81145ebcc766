"""Stable Diffusion folders as decoders: assembled with an image tokenizer into a repository of SeedPipeline."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny.checkpoints import assert_same_weights
from tiny.decoders import build_stable_diffusion, build_unclip
from tiny.hub import COMMIT, cache_copy
from tiny.pictures import IMAGE_SIZE, build_codes, build_image_tokenizer, build_images

from seed_hf import SeedPipeline
from seed_hf.commands import main
from seed_hf.convert.checkpoint_files import Checkpoint
from seed_hf.convert.pipeline import assemble_pipeline


OLD_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    folder, pipeline = tmp_path_factory.mktemp("sd"), build_stable_diffusion()
    pipeline.save_pretrained(folder)
    return folder, pipeline


@pytest.fixture(scope="module")
def image_tokenizer(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("image_tokenizer"), build_image_tokenizer()
    model.save_pretrained(folder, max_shard_size="200KB")
    (folder / "tokenizer.json").write_text("{}")  # of its text side
    return folder, model


def test_seed_1_draws_what_stable_diffusion_draws(stable_diffusion, image_tokenizer, tmp_path):
    """From the same embeddings and noise; the empty prompt stands for the text encoder that is left out."""
    reports = assemble_pipeline(image_tokenizer[0], stable_diffusion[0], tmp_path / "out")
    assert reports["unet"].dropped == reports["vae"].dropped == {}
    pipeline = SeedPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    assert (pipeline.config.guidance_scale, pipeline.config.num_inference_steps) == (7.5, 50)
    assert pipeline.image_processor.size == {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    codes = pipeline.encode_image(build_images(2))
    pixels = pipeline.image_processor(build_images(2), return_tensors="pt")["pixel_values"]
    assert torch.equal(codes, image_tokenizer[1].encode(pixels))
    embeds, latents = pipeline.decode_codes(build_codes()), torch.randn(1, 4, 8, 8)
    settings = {"latents": latents, "num_inference_steps": 3, "output_type": "pt"}
    actual = pipeline(generation_embeds=embeds, **settings).images
    expected = stable_diffusion[1](prompt_embeds=embeds, negative_prompt="", guidance_scale=7.5, **settings).images
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    record = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert record["left_out"] == ["text_encoder", "tokenizer"]
    assert (tmp_path / "out" / "image_tokenizer" / "tokenizer.json").read_text() == "{}"


def test_seed_2(tmp_path):
    """Normalizer and noising scheduler come along, image encoder and feature extractor stay behind."""
    unclip, model = build_unclip(), build_image_tokenizer("mlp")
    unclip.save_pretrained(tmp_path / "unclip")
    model.save_pretrained(tmp_path / "image_tokenizer")
    assemble_pipeline(tmp_path / "image_tokenizer", tmp_path / "unclip", tmp_path / "out")
    pipeline = SeedPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    assert (pipeline.config.guidance_scale, pipeline.config.num_inference_steps) == (10.0, 20)
    expected, _ = unclip.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)
    torch.testing.assert_close(pipeline.empty_prompt(1), expected)
    assert torch.equal(pipeline.image_normalizer.mean, unclip.image_normalizer.mean)
    assert pipeline.image_noising_scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert pipeline(codes=build_codes(), num_inference_steps=2, output_type="pt").images.isfinite().all()
    left_out = json.loads((tmp_path / "out" / "conversion.json").read_text())["left_out"]
    assert left_out == ["feature_extractor", "image_encoder", "text_encoder", "tokenizer"]


def test_old_pickled_folder(stable_diffusion, image_tokenizer, tmp_path):
    """Pickles, and the VAE's attention under the names of 2022: the same weights in the end."""
    build_stable_diffusion().save_pretrained(tmp_path / "old")
    for name in ("unet", "vae"):
        path = tmp_path / "old" / name / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        path.unlink()
        for new, old in OLD_NAMES.items() if name == "vae" else ():
            weights = {key.replace(new, old): value for key, value in weights.items()}
        torch.save(weights, path.with_suffix(".bin"))
    assert any(".query." in name for name in Checkpoint([tmp_path / "old" / "vae"]))
    assemble_pipeline(image_tokenizer[0], tmp_path / "old", tmp_path / "out")
    for name in ("unet", "vae"):
        expected = dict(Checkpoint([stable_diffusion[0] / name]))
        assert_same_weights(load_file(tmp_path / "out" / name / "diffusion_pytorch_model.safetensors"), expected)


def test_fallback_of_a_pinned_revision(stable_diffusion, image_tokenizer, tmp_path, monkeypatch, capsys):
    """The first repository cannot be had; the second is taken at its commit, and both facts are written down."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    cache_copy(stable_diffusion[0], tmp_path / "cache", "mirror/stable-diffusion")
    out = tmp_path / "out"
    command = ["convert", "pipeline", str(image_tokenizer[0]), "--output", str(out)]
    command += ["--decoder", "vendor/stable-diffusion@v1", "--fallback", f"mirror/stable-diffusion@{COMMIT}"]
    assert main(command) == 0, capsys.readouterr().err
    assert "unet: " in capsys.readouterr().out
    record = json.loads((out / "conversion.json").read_text())
    assert record["failed"][0].startswith("vendor/stable-diffusion@v1: ")
    taken = (record["decoder"], record["revision"], record["commit"])
    assert taken == ("mirror/stable-diffusion", COMMIT, COMMIT)
    assert SeedPipeline.from_pretrained(out).config.guidance_scale == 7.5


def test_no_place_has_it(image_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="cannot be had.*vendor/a@v1.*mirror/b@v2"):
        assemble_pipeline(image_tokenizer[0], "vendor/a@v1", tmp_path / "out", fallbacks=["mirror/b@v2"])


@pytest.mark.parametrize("places", (("vendor/a",), ("vendor/a@v1", "mirror/b")))
def test_revision_is_needed(places, image_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="allowed: a folder, or owner/name@revision"):
        assemble_pipeline(image_tokenizer[0], places[0], tmp_path / "out", fallbacks=places[1:])


def test_decoder_of_another_kind(stable_diffusion, tmp_path):
    """A SEED-2 image tokenizer needs stable unCLIP."""
    build_image_tokenizer("mlp").save_pretrained(tmp_path / "image_tokenizer")
    with pytest.raises(ValueError, match="has no .*image_normalizer"):
        assemble_pipeline(tmp_path / "image_tokenizer", stable_diffusion[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_left_over_key(image_tokenizer, tmp_path):
    build_stable_diffusion().save_pretrained(tmp_path / "sd")
    path = tmp_path / "sd" / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path) | {"loss.weight": torch.ones(2)}
    path.unlink()
    torch.save(weights, path.with_suffix(".bin"))
    with pytest.raises(ValueError, match="`vae`.*Unknown keys: .'loss.weight'"):
        assemble_pipeline(image_tokenizer[0], tmp_path / "sd", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    reports = assemble_pipeline(image_tokenizer[0], tmp_path / "sd", tmp_path / "out", allow_unknown=["loss.*"])
    assert reports["vae"].dropped == {"loss.weight": "unknown, allowed by the caller"}
