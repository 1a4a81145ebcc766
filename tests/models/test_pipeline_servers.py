"""The calls that programs make which know nothing of SEED but that it is a pipeline of diffusers."""

import inspect
import json
import sys

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from tiny.pictures import build_images, build_prompt_pipeline, distance, generators

from seed_hf import SeedPipeline


pytestmark = pytest.mark.filterwarnings("ignore:.torch_dtype.:FutureWarning")  # the name that such programs use


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    build_prompt_pipeline().save_pretrained(folder)
    return folder


def no_bars(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class GenericServer:
    """
    What SGLang's diffusers backend does with a folder and with a request.

    Source: `runtime/pipelines/diffusers_pipeline.py` in `sglang.multimodal_gen`: the arguments of `from_pretrained`;
    the fields of a request as diffusers names them, without those that the signature lacks; tensors from `.images`.
    """

    ALWAYS_SENT = {"true_cfg_scale": 4.0, "num_inference_steps": 3, "guidance_scale": 7.5, "height": 32, "width": 24}

    def __init__(self, folder, dtype):
        settings = {"torch_dtype": dtype, "trust_remote_code": True, "revision": None}
        self.pipeline = no_bars(DiffusionPipeline.from_pretrained(str(folder), **settings).to(torch.device("cpu")))
        self.ignored = set()

    def request(self, seed=0, **fields):
        device = next(self.pipeline.unet.parameters()).device
        given = {**self.ALWAYS_SENT, "generator": torch.Generator(device=device).manual_seed(seed), **fields}
        accepted = set(inspect.signature(self.pipeline.__call__).parameters) - {"self"}
        self.ignored = set(given) - accepted
        kept = {name: value for name, value in given.items() if name in accepted}
        with torch.no_grad():
            output = self.pipeline(**{"output_type": "pt", **kept})
        assert isinstance(output.images, torch.Tensor) and output.images.isfinite().all()
        return output.images


@pytest.fixture(scope="module")
def server(folder):
    return GenericServer(folder, torch.float32)


class TestGenericServer:
    def test_requests(self, server, folder):
        ours = no_bars(SeedPipeline.from_pretrained(folder))
        settings = {"num_inference_steps": 3, "guidance_scale": 7.5, "height": 32, "width": 24, "output_type": "pt"}
        seeded = {"generator": torch.Generator().manual_seed(0)}
        wanted = ours(prompt="a red apple", **settings, **seeded).images
        assert wanted.shape == (1, 3, 32, 24)
        assert distance(server.request(prompt="a red apple"), wanted) < 1e-5
        assert server.ignored == {"true_cfg_scale"}  # of other guidance than ours
        several = server.request(prompt="a red apple", num_images_per_prompt=2)
        assert several.shape == (2, 3, 32, 24) and distance(*several) > 1e-3
        each = server.request(prompt=["a red apple", "a cat"], generator=generators(3, 4))
        assert distance(each[1:], server.request(4, prompt="a cat")) < 1e-4  # batches are added up in another order

    def test_a_negative_prompt_steers_away(self, server):
        plain, wanted = (
            server.request(prompt="a red apple"),
            server.request(prompt="a red apple", negative_prompt="cat"),
        )
        assert distance(plain, wanted) > 1e-4
        assert torch.equal(server.request(prompt="a red apple", negative_prompt=""), plain)

    def test_an_image_comes_with_an_empty_prompt(self, server):
        (image,) = build_images()
        assert torch.equal(server.request(image=image, prompt=""), server.request(image=image))

    def test_half_precision(self, folder):
        server = GenericServer(folder, torch.bfloat16)
        assert server.pipeline.unet.dtype == server.pipeline.language_model.dtype == torch.bfloat16
        assert server.request(prompt="a red apple").shape == (1, 3, 32, 24)


def test_run_of_diffusers_cli(folder, tmp_path, monkeypatch, capsys):
    cli = pytest.importorskip("diffusers.commands.diffusers_cli")
    if not hasattr(cli, "RunCommand"):
        pytest.skip("this diffusers-cli has no `run`")
    ours = no_bars(SeedPipeline.from_pretrained(folder))
    call = {"prompt": "a red apple", "num_inference_steps": 2}
    command = [
        "diffusers-cli",
        "--format",
        "json",
        "run",
        "--model",
        str(folder),
        "--trust-remote-code",
        "--seed",
        "3",
    ]
    command += ["--device-map", "cpu", "--dtype", "fp32", "--output", str(tmp_path / "apple.png")]
    monkeypatch.setattr(sys, "argv", [*command, "--pipeline-kwargs", json.dumps(call)])
    monkeypatch.setenv("DIFFUSERS_CLI_RUN_ID", "a-run")  # the command sets it where it is not set
    cli.main()
    assert "SeedPipeline" in capsys.readouterr().out
    (wanted,) = ours(**call, generator=torch.Generator().manual_seed(3)).images
    with Image.open(tmp_path / "apple.png") as drawn:
        assert np.abs(np.asarray(drawn, float) - np.asarray(wanted, float)).max() <= 1  # of 255: rounded
