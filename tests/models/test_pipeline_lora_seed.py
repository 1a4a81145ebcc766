"""LoRA of Stable Diffusion in SeedPipeline's UNet, by what every pipeline of diffusers has for it."""

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tiny.pictures import build_codes, build_pipeline, build_unet, distance, draw

from seed_hf import SeedPipeline


FILE = "pytorch_lora_weights.safetensors"  # which some versions of diffusers want to be told offline


@pytest.fixture(scope="module")
def layers():
    """LoRA for the UNet, as the training scripts of diffusers hand it over to be saved."""
    unet = build_unet()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=8, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    return get_peft_model_state_dict(unet)


def test_load_scale_fuse_unload(layers, tmp_path):
    SeedPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers)
    pipeline = build_pipeline()
    plain = draw(pipeline, codes=build_codes())
    pipeline.load_lora_weights(tmp_path, adapter_name="style", weight_name=FILE)
    with_style = draw(pipeline, codes=build_codes())
    assert distance(with_style, plain) > 1e-3
    assert pipeline.get_list_adapters() == {"unet": ["style"]}
    pipeline.set_adapters("style", 0.0)
    assert distance(draw(pipeline, codes=build_codes()), plain) < 1e-5
    pipeline.set_adapters("style", 1.0)
    pipeline.fuse_lora()
    assert distance(draw(pipeline, codes=build_codes()), with_style) < 1e-4
    pipeline.unfuse_lora()
    pipeline.unload_lora_weights()
    assert distance(draw(pipeline, codes=build_codes()), plain) < 1e-4


def test_refused(layers, tmp_path):
    pipeline = build_pipeline()
    SeedPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, text_encoder_lora_layers={"a.lora_A.weight": torch.zeros(2, 2)}
    )
    with pytest.raises(ValueError, match="weights for `text_encoder`, which this pipeline does not have"):
        pipeline.load_lora_weights(tmp_path, weight_name=FILE)
    (tmp_path / FILE).unlink()
    torch.save({f"unet.{name}": value for name, value in layers.items()}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises((OSError, ValueError), match="safetensors|offline"):
        pipeline.load_lora_weights(tmp_path)
    assert pipeline.get_list_adapters() == {}
