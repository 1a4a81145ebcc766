"""What the picture decoder learns to draw from, what it predicts, and what each sample's loss counts."""

import copy
from types import SimpleNamespace

import diffusers
import pytest
import torch
from datasets import Dataset
from diffusers import DDIMScheduler
from tiny.image_tokenizer import tiny_image_tokenizer
from tiny.pictures import build_codes, build_pipeline, build_unet, generators

from seed_hf import SeedImageTokenizer
from seed_hf.mini.pictures import Pictures
from seed_hf.trainer.settings import ConditionSettings
from seed_hf.trainer.stages.decoder import (
    PROMPTS,
    DecoderStage,
    blend_names,
    build_scheduler,
    check_prediction_type,
    decode_codes_by_caption,
    make_grid,
    min_snr_weights,
    replace_codes,
)


PREDICTIONS = ("v_prediction", "epsilon")


@pytest.fixture
def stage():
    """Only what the loss needs."""

    def build(**settings):
        stage = object.__new__(DecoderStage)
        stage.settings = ConditionSettings(**settings)
        stage.scheduler = build_scheduler(stage.settings.prediction_type)
        return stage

    return build


class Knowing:
    """Predicts without error what the stage wants predicted, since it knows the latents; adds `error` to it."""

    def __init__(self, latents, prediction_type, error=0.0):
        self.latents, self.is_noise, self.error = latents, prediction_type == "epsilon", error
        self.alphas = build_scheduler(prediction_type).alphas_cumprod

    def __call__(self, noisy, steps, *args, **kwargs):
        alphas = self.alphas[steps].view(-1, 1, 1, 1)
        noise = (noisy - alphas.sqrt() * self.latents) / (1 - alphas).sqrt()
        velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * self.latents
        sample = (noise if self.is_noise else velocity) + self.error
        return SimpleNamespace(sample=sample) if kwargs.get("return_dict", True) else (sample,)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_the_loss_is_zero_for_what_the_saved_scheduler_samples_back(stage, tmp_path, prediction_type):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    knowing, learning = Knowing(latents, prediction_type), stage(prediction_type=prediction_type)
    # float32 noise of the smallest noise level, from which the true noise is divided out
    assert learning.denoising_loss(knowing, latents.expand(200, -1, -1, -1), None) < 1e-5
    learning.scheduler.save_pretrained(tmp_path / "scheduler")
    unet = build_unet()
    unet.forward = knowing
    pipeline = build_pipeline(unet=unet)
    drawing = {"codes": build_codes(), "num_inference_steps": 5, "output_type": "latent"}
    for name in ("DDIMScheduler", "DPMSolverMultistepScheduler"):
        config = DDIMScheduler.load_config(tmp_path / "scheduler")
        pipeline.scheduler = getattr(diffusers, name).from_config(config)
        drawn = pipeline(**drawing, generator=generators(0)).images
        torch.testing.assert_close(drawn, latents, atol=1e-3, rtol=0)
    other = next(kind for kind in PREDICTIONS if kind != prediction_type)
    pipeline.scheduler = build_scheduler(other)
    assert (pipeline(**drawing, generator=generators(0)).images - latents).abs().max() > 0.1
    check_prediction_type(str(tmp_path / "unet"), prediction_type)
    with pytest.raises(ValueError, match=f"`prediction_type` is '{other}'; allowed: '{prediction_type}'"):
        check_prediction_type(str(tmp_path / "unet"), other)


def test_the_largest_random_number_is_a_step_of_the_schedule(stage, monkeypatch):
    latents = torch.zeros(1, 4, 8, 8)
    monkeypatch.setattr(torch, "rand", lambda count, generator: torch.full((count,), 1 - 2**-24))
    learning = stage(prediction_type="epsilon", high_noise=3)
    assert learning.denoising_loss(Knowing(latents, "epsilon"), latents, None) < 1e-3


def test_min_snr_weights_are_those_of_the_paper():
    steps = torch.arange(1000)
    for prediction_type in PREDICTIONS:
        scheduler = build_scheduler(prediction_type)
        alphas = scheduler.alphas_cumprod.double()
        snr = alphas / (1 - alphas)
        of_picture = torch.minimum(snr, torch.tensor(5.0))
        # how much of an error of the prediction one of the picture is, squared, from x0 = a x - s v = (x - s e) / a
        share = (1 - alphas) if prediction_type == "v_prediction" else (1 - alphas) / alphas
        # the square root and the square of float32 lose some digits where the ratio is largest
        torch.testing.assert_close(
            min_snr_weights(scheduler, steps, 5.0).double(), of_picture * share, rtol=2e-3, atol=1e-7
        )
    assert min_snr_weights(build_scheduler(), steps, 5.0)[-1] == 0


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_the_weighted_loss_weights_every_sample_by_its_own_step(stage, prediction_type):
    latents = torch.zeros(16, 4, 8, 8)
    wrong = Knowing(latents, prediction_type, error=1.0)  # the same error at every step
    learning = stage(prediction_type=prediction_type, high_noise=2.0)
    seen = []
    probe = copy.copy(wrong)
    loss = learning.denoising_loss(
        lambda noisy, steps, condition: seen.append(steps) or probe(noisy, steps),
        latents,
        None,
        torch.Generator().manual_seed(0),
        snr_gamma=5.0,
    )
    expected = min_snr_weights(learning.scheduler, seen[0], 5.0).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    plain = learning.denoising_loss(wrong, latents, None, torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain, torch.tensor(1.0), rtol=1e-4, atol=0)


def test_a_look_at_fewer_pictures_than_a_row_holds(stage):
    drawing, few = stage(), torch.full((3, 3, 4, 4), 255, dtype=torch.uint8)
    pictures = Pictures(few, list("abc"), [[]] * 3)
    drawing.data, drawing.held_out = SimpleNamespace(pictures=pictures), SimpleNamespace(pixels=few[:2])
    drawing.encoder, drawing.held_out_condition = (lambda texts: torch.zeros(len(texts), 1, 2)), torch.zeros(2, 1, 2)
    drawing.draw = lambda condition: torch.zeros(len(condition), 3, 4, 4)
    rows = drawing._samples()
    assert [len(row) for row in rows] == [3, 3, 2, 2, len(PROMPTS)]
    grid = make_grid(rows)
    assert grid.size == (8 * len(PROMPTS), 8 * 5)
    # what is drawn is black, and the rest of the row is white
    assert [grid.getpixel((8 * column, 8 * 3))[0] for column in range(4)] == [0, 0, 255, 255]


def test_blended_names():
    names = torch.nn.functional.normalize(torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0)).flatten(1))
    names = names.view(5, 2, 6)
    torch.testing.assert_close(blend_names(names, names, 0.02), names, atol=1e-3, rtol=0)
    torch.manual_seed(0)
    unsure = blend_names(names[:1].expand(4000, -1, -1), names, 1e4).mean(0)
    torch.testing.assert_close(unsure, names.mean(0), atol=0.05, rtol=0)  # any name is as likely
    some = blend_names(names, names, 0.8)
    assert some.shape == names.shape
    assert (some.flatten(1).norm(dim=1) < 1 + 1e-5).all()  # a mean lies between


def test_replaced_codes():
    torch.manual_seed(0)
    codes = torch.arange(200).view(200, 1, 1) * 32 + torch.arange(32)  # tells picture and place
    assert torch.equal(replace_codes(codes, 0.0), codes)
    some = replace_codes(codes, 0.5)
    assert torch.equal(some % 32, codes % 32)  # a code keeps its place
    shares = (some != codes).float().mean(dim=2)
    assert 0.2 < shares.mean() < 0.3 and shares.max() < 0.8


def test_weights_in_half_precision_decode_in_float32(tmp_path, monkeypatch):
    tiny_image_tokenizer().half().save_pretrained(tmp_path)
    codes = build_codes(2)
    rows = Dataset.from_dict({"caption": ["cat", "dog"], "codes": codes.tolist()})
    dtypes, decode = [], SeedImageTokenizer.decode
    monkeypatch.setattr(
        SeedImageTokenizer, "decode", lambda self, codes: dtypes.append(self.dtype) or decode(self, codes)
    )
    assert decode_codes_by_caption(str(tmp_path), rows).keys() == {"cat", "dog"}
    assert dtypes == [torch.float32]  # half precision takes a CPU ten times as long
