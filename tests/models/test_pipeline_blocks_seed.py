"""Modular blocks of diffusers give the pictures of the pipeline, together and one by one."""

import pytest
import torch
from tiny.pictures import build_codes, build_images, build_prompt_pipeline, distance, generators

from seed_hf.models.pipeline_blocks_seed import SeedBlocks, SeedDrawStep, SeedReadStep, SeedWriteStep


@pytest.fixture(scope="module")
def pipeline():
    return build_prompt_pipeline()


def modular(block, pipeline):
    made = block.init_pipeline()
    settings = {name: pipeline.config[name] for name in ("guidance_scale", "num_inference_steps")}
    wanted = {name: getattr(pipeline, name) for name in block.component_names}
    made.update_components(**wanted, **(settings if block.expected_configs else {}))
    return made


def test_all_inputs(pipeline):
    blocks = modular(SeedBlocks(), pipeline)
    inputs = ({"prompt": "a red apple"}, {"image": build_images()}, {"codes": build_codes()})
    for given in inputs:
        wanted = pipeline(**given, generator=generators(0)[0], output_type="pt")
        state = blocks(**given, generator=generators(0)[0], output_type="pt")
        assert torch.equal(state.get("codes"), wanted.codes)
        assert distance(state.get("images"), wanted.images) < 1e-5
    with pytest.raises(ValueError, match="'codes' is missing"):
        blocks()


def test_a_generator_for_each_picture_of_a_prompt(pipeline):
    settings = {"prompt": "a red apple", "num_images_per_prompt": 2, "num_inference_steps": 1, "output_type": "pt"}
    sampling = {"generation_kwargs": {"do_sample": True, "temperature": 5.0}}
    wanted = pipeline(**settings, **sampling, generator=generators(0, 1))
    state = modular(SeedBlocks(), pipeline)(**settings, **sampling, generator=generators(0, 1))
    assert torch.equal(state.get("codes"), wanted.codes)
    assert distance(state.get("images"), wanted.images) < 1e-5


def test_each_step_with_its_own_components(pipeline):
    reader, writer, drawer = (modular(step(), pipeline) for step in (SeedReadStep, SeedWriteStep, SeedDrawStep))
    assert set(writer.components) == {"language_model", "processor"}
    assert set(reader.components) == {"image_tokenizer", "image_processor"}
    read, written = reader(image=build_images(2), output="codes"), writer(prompt="a red apple", output="codes")
    assert torch.equal(read, pipeline.encode_image(build_images(2)))
    assert torch.equal(written, pipeline.encode_prompt("a red apple"))
    settings = {"negative_codes": written, "guidance_scale": 3.0, "output_type": "pt", "width": 20}
    drawn = drawer(codes=read, generator=generators(0, 1), **settings, output="images")
    assert distance(drawn, pipeline(codes=read, generator=generators(0, 1), **settings).images) < 1e-5
