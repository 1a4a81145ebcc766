"""SeedPipeline: every input and option of a call. Real classes at toy size. (Saving: test_pipeline_saving_seed.py)"""

import copy
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback, SDXLCFGCutoffCallback
from PIL import Image
from tiny.pictures import (
    CODEBOOK_SIZE,
    GENERATION_DIM,
    NUM_GENERATION_TOKENS,
    NUM_QUERY_TOKENS,
    PICTURE_SIZE,
    build_codes,
    build_images,
    build_pipeline,
    build_prompt_pipeline,
    build_unet,
    build_vae,
    distance,
    draw,
    generators,
)
from transformers import GenerationConfig

from seed_hf import SeedPipeline
from seed_hf.models.modeling_seed_empty_prompt import SeedEmptyPrompt
from seed_hf.models.pipeline_seed import seed_noise_sampler


HEADS = ("text", "mlp", "qformer")


@pytest.fixture(scope="module", params=HEADS)
def any_pipeline(request):
    return build_pipeline(request.param)


@pytest.fixture(scope="module")
def pipeline():
    return build_pipeline()


@pytest.fixture(scope="module")
def prompt_pipeline():
    return build_prompt_pipeline()


def count_unet_calls(pipeline, **inputs):
    batch_sizes = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, inputs: batch_sizes.append(len(inputs[0])))
    try:
        draw(pipeline, **inputs)
    finally:
        hook.remove()
    return batch_sizes


class TestInputs:
    def test_image_gives_the_codes_of_the_model(self, any_pipeline):
        images = build_images(3)
        pixel_values = any_pipeline.image_processor(images, return_tensors="pt")["pixel_values"]
        wanted = any_pipeline.image_tokenizer.encode(pixel_values)
        assert len({tuple(row) for row in wanted.tolist()}) == 3
        output = any_pipeline(images, generator=generators(0, 1, 2))
        assert torch.equal(output.codes, wanted)
        assert torch.equal(any_pipeline(images[1], num_inference_steps=1).codes, wanted[1:2])
        assert [image.size for image in output.images] == [(PICTURE_SIZE, PICTURE_SIZE)] * 3

    def test_all_inputs_agree(self, any_pipeline):
        images = build_images(2)
        from_images = draw(any_pipeline, 0, 1, image=images)
        codes = any_pipeline.encode_image(images)
        embeds = any_pipeline.image_tokenizer.decode(codes)
        assert torch.equal(draw(any_pipeline, 0, 1, codes=codes), from_images)
        assert torch.equal(draw(any_pipeline, 0, 1, codes=codes.tolist()), from_images)
        assert torch.equal(draw(any_pipeline, 0, 1, generation_embeds=embeds), from_images)
        assert torch.equal(draw(any_pipeline, 0, codes=codes[0].int()), draw(any_pipeline, 0, codes=codes[:1]))

    @pytest.mark.parametrize(
        "form",
        [
            *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", ">u2", ">i4"),
            *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int16),
        ],
    )
    def test_codes_of_every_integer_dtype(self, pipeline, form):
        codes = build_codes(2)
        given = codes.to(form) if isinstance(form, torch.dtype) else codes.numpy().astype(form)
        output = pipeline(codes=given, negative_codes=given[0], num_inference_steps=1)
        assert torch.equal(output.codes, codes) and output.codes.dtype == torch.int64

    def test_codes_as_tables_have_them(self, pipeline):
        """Read-only arrays, lists of arrays, and columns of arrays."""
        codes = build_codes(2)
        rows = list(codes.numpy().astype(np.uint16))
        column = np.empty(2, dtype=object)
        column[:] = rows
        fixed = np.stack(rows)
        fixed.setflags(write=False)
        for given in (rows, column, fixed, tuple(map(tuple, codes.tolist()))):
            assert torch.equal(pipeline(codes=given, num_inference_steps=1).codes, codes)
        for wrong in (np.full((1, NUM_QUERY_TOKENS), 2**16 - 1, np.uint16), codes.numpy().astype(np.float32)):
            with pytest.raises(ValueError, match="`codes` (holds|has dtype)"):
                pipeline(codes=wrong)

    def test_different_codes_give_different_pictures(self, any_pipeline):
        first, second = draw(any_pipeline, 0, 0, codes=build_codes(2))
        assert distance(first, second) > 1e-3

    def test_prompt(self, prompt_pipeline):
        output = prompt_pipeline(prompt=["a red apple", "a cat"], generator=generators(0, 1), output_type="pt")
        assert output.codes.shape == (2, NUM_QUERY_TOKENS)
        assert torch.equal(draw(prompt_pipeline, 0, 1, codes=output.codes), output.images)
        single = prompt_pipeline(prompt="a red apple", generator=generators(0), output_type="pt")
        assert torch.equal(single.codes, output.codes[:1])
        sampled = [
            prompt_pipeline.encode_prompt("a cat", do_sample=True, temperature=5.0).flatten().tolist()
            for _ in range(4)
        ]
        assert len(set(map(tuple, sampled))) > 1

    def test_prompt_codes_are_those_of_generate(self, prompt_pipeline):
        language_model, processor = prompt_pipeline.language_model, prompt_pipeline.processor
        inputs = processor(text="Generate an image: a cat", return_tensors="pt")
        ids = language_model.generate(**inputs, generation_mode="image", do_sample=False)
        wanted = processor.tokenizer.token_ids_to_codes(ids[0, -1 - NUM_QUERY_TOKENS : -1])
        assert torch.equal(prompt_pipeline.encode_prompt("a cat", do_sample=False)[0], wanted)

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({}, "exactly one of"),
            ({"codes": build_codes(), "image": build_images()}, r"\['image', 'codes'\]"),
            ({"prompt": "a cat"}, "`language_model` is None"),
            ({"codes": torch.full((1, NUM_QUERY_TOKENS), CODEBOOK_SIZE)}, rf"`codes` holds {CODEBOOK_SIZE}"),
            ({"codes": torch.full((1, NUM_QUERY_TOKENS), -1)}, "`codes` holds -1"),
            ({"codes": torch.zeros(1, NUM_QUERY_TOKENS)}, "`codes` has dtype torch.float32"),
            ({"codes": torch.zeros(1, NUM_QUERY_TOKENS, dtype=torch.bool)}, "`codes` has dtype torch.bool"),
            ({"codes": build_codes()[:, :0]}, r"`codes` has shape \(1, 0\); allowed: \(batch_size, 1 to 4\)"),
            ({"codes": build_codes()[None]}, "`codes` has shape"),
            ({"codes": build_codes(0)}, "`codes` has shape"),
            ({"codes": [[1, 2], [3]]}, "`codes` is not a rectangular array"),
            ({"codes": "1 2 3 4"}, "`codes`"),
            ({"codes": build_codes(2), "negative_codes": build_codes(3)}, "`negative_codes` has 3 rows"),
            ({"codes": build_codes(), "negative_codes": build_codes() + 99}, "`negative_codes` holds"),
            ({"image": b"no image"}, "`image"),
            ({"image": []}, "`image"),
            ({"generation_embeds": torch.zeros(1, 2, 3)}, r"`generation_embeds` has shape \(1, 2, 3\)"),
            ({"generation_embeds": torch.zeros(1, 2, 3, dtype=torch.long)}, "`generation_embeds` is torch.int64"),
            ({"generation_embeds": [[1.0]]}, "`generation_embeds` is list"),
            ({"codes": build_codes(), "num_inference_steps": 0}, "`num_inference_steps` is 0"),
            ({"codes": build_codes(), "num_images_per_prompt": 1.5}, "`num_images_per_prompt` is 1.5"),
            ({"codes": build_codes(), "guidance_scale": "high"}, "`guidance_scale` is 'high'"),
            ({"codes": build_codes(), "guidance_scale": float("nan")}, "`guidance_scale` is nan"),
            ({"codes": build_codes(), "output_type": "jpeg"}, "`output_type` is 'jpeg'"),
            ({"codes": build_codes(), "generator": generators(0, 1)}, "`generator` has 2 entries; allowed: 1"),
            ({"codes": build_codes(), "generator": 0}, "`generator` is 0; allowed"),
            ({"codes": build_codes(), "generator": [None]}, "`generator` is .None.; allowed"),
            ({"codes": build_codes(), "height": 15}, "`height` is 15; allowed: a positive multiple of 2"),
            ({"codes": build_codes(), "width": 0}, "`width` is 0"),
            ({"codes": build_codes(), "timesteps": [5], "sigmas": [1.0]}, "`timesteps` and `sigmas` were given"),
            ({"codes": build_codes(), "timesteps": [5, 1]}, "`timesteps` was given but DDIMScheduler takes none"),
            ({"codes": build_codes(), "negative_prompt": 3}, "`negative_prompt` is 3; allowed: a string"),
            ({"codes": build_codes(), "negative_prompt": "a cat"}, "`language_model` is None"),
            (
                {"codes": build_codes(), "negative_codes": build_codes(), "negative_prompt": "a cat"},
                "`negative_codes` and `negative_prompt` were given",
            ),
            (
                {"codes": build_codes(), "callback_on_step_end": SDXLCFGCutoffCallback(cutoff_step_ratio=0.5)},
                "'add_text_embeds'",
            ),
            ({"codes": build_codes(), "latents": torch.zeros(1, 4, 2, 2)}, "`latents` has shape"),
            ({"codes": build_codes(), "callback_on_step_end_tensor_inputs": ["noise"]}, r"\['noise'\]"),
        ],
    )
    def test_wrong_input(self, pipeline, inputs, message):
        with pytest.raises(ValueError, match=message):
            pipeline(**inputs)

    def test_a_prompt_may_become_the_first_codes(self, prompt_pipeline):
        settings = {"generation_kwargs": {"num_codes": 2}, "num_inference_steps": 1}
        output = prompt_pipeline(prompt=["a cat", "a dog"], **settings)
        assert output.codes.shape == (2, 2) and len(output.images) == 2
        config = GenerationConfig(num_codes=2)
        assert torch.equal(prompt_pipeline.encode_prompt(["a cat", "a dog"], generation_config=config), output.codes)

    @pytest.mark.parametrize("prompt", [[], [1], 3])
    def test_wrong_prompt(self, prompt_pipeline, prompt):
        with pytest.raises(ValueError, match="`prompt` is"):
            prompt_pipeline(prompt=prompt)
        with pytest.raises(ValueError, match="`generation_kwargs` asks for 2"):
            prompt_pipeline(prompt="a cat", generation_kwargs={"num_return_sequences": 2, "do_sample": True})

    def test_wrong_unclip_settings(self):
        pipeline = build_pipeline("mlp")
        with pytest.raises(ValueError, match=r"`noise_level` is 1000; allowed: an integer in \[0, 1000\)"):
            pipeline(codes=build_codes(), noise_level=1000)
        with pytest.raises(ValueError, match=r"allowed: \(batch_size, 32\)"):
            pipeline(generation_embeds=torch.zeros(1, NUM_GENERATION_TOKENS, GENERATION_DIM))
        with pytest.raises(ValueError, match="`image_normalizer` is None"):
            build_pipeline("mlp", image_normalizer=None)(codes=build_codes())

    def test_components_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"`empty_prompt` has shape \(5, 32\); allowed: \(6, 32\)"):
            build_pipeline(empty_prompt=SeedEmptyPrompt(5, GENERATION_DIM))
        unet = build_unet()
        unet.register_to_config(cross_attention_dim=48)
        with pytest.raises(ValueError, match="`unet` has cross_attention_dim 48; allowed: 32"):
            build_pipeline(unet=unet)
        with pytest.raises(ValueError, match="`embeds` has shape"):
            SeedEmptyPrompt.from_embeds(torch.zeros(2, 3, 4))


class TestBatches:
    def test_batch_equals_singles(self, any_pipeline):
        codes = build_codes(3)
        together = draw(any_pipeline, 5, 6, 7, codes=codes)
        for index in range(3):
            alone = draw(any_pipeline, 5 + index, codes=codes[index : index + 1])
            assert distance(together[index : index + 1], alone) < 1e-4

    def test_several_pictures_an_image(self, any_pipeline):
        codes = build_codes(2)
        pictures = draw(any_pipeline, 0, 1, 2, 3, codes=codes, num_images_per_prompt=2)
        repeated = draw(any_pipeline, 0, 1, 2, 3, codes=codes.repeat_interleave(2, dim=0))
        assert distance(pictures, repeated) < 1e-5
        assert distance(pictures[0], pictures[1]) > 1e-3

    def test_generator_determinism(self, any_pipeline):
        inputs = {"codes": build_codes(2), "output_type": "pt"}
        first, again, other = (
            any_pipeline(**inputs, generator=torch.Generator().manual_seed(seed)).images for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert distance(first, other) > 1e-3

    def test_latents_can_be_given(self, pipeline):
        size = PICTURE_SIZE // 2
        latents = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(0))
        given = pipeline(codes=build_codes(), latents=latents, output_type="pt").images
        assert torch.equal(given, draw(pipeline, 0, codes=build_codes()))


class TestGuidance:
    @pytest.mark.parametrize("scale", [1.0, 0.0])
    def test_off_is_a_single_forward(self, any_pipeline, scale):
        assert count_unet_calls(any_pipeline, codes=build_codes(), guidance_scale=scale) == [1, 1]
        assert count_unet_calls(any_pipeline, codes=build_codes(), guidance_scale=2.0) == [2, 2]

    def test_off_ignores_the_unconditional_branch(self, pipeline):
        plain = draw(pipeline, codes=build_codes(), guidance_scale=1.0)
        assert torch.equal(
            plain, draw(pipeline, codes=build_codes(), guidance_scale=1.0, negative_codes=build_codes())
        )
        without = build_pipeline(empty_prompt=None)
        assert torch.equal(plain, draw(without, codes=build_codes(), guidance_scale=1.0))
        with pytest.raises(ValueError, match="`empty_prompt` is None"):
            draw(without, codes=build_codes(), guidance_scale=2.0)
        draw(without, codes=build_codes(), guidance_scale=2.0, negative_codes=build_codes(seed=1))

    def test_is_linear_in_the_prediction(self, pipeline):
        """After one step of DDIM the latents are linear in the UNet's prediction, hence in the guidance scale."""
        inputs = {"codes": build_codes(), "num_inference_steps": 1, "output_type": "latent"}
        unconditional = pipeline.empty_prompt(1)
        at = {scale: pipeline(**inputs, generator=generators(0), guidance_scale=scale).images for scale in (1.0, 3.0)}
        inputs = {"num_inference_steps": 1, "output_type": "latent", "guidance_scale": 1.0}
        at[0.0] = pipeline(generation_embeds=unconditional, generator=generators(0), **inputs).images
        assert torch.allclose(at[3.0], at[0.0] + 3 * (at[1.0] - at[0.0]), atol=1e-4)
        assert distance(at[3.0], at[1.0]) > 1e-3

    def test_negative_codes(self, any_pipeline):
        codes, negative = build_codes(2), build_codes(2, seed=1)
        pictures = draw(any_pipeline, 0, 1, codes=codes, negative_codes=negative)
        assert distance(pictures, draw(any_pipeline, 0, 1, codes=codes)) > 1e-4
        shared = draw(any_pipeline, 0, 1, codes=codes, negative_codes=negative[0])
        assert distance(shared, draw(any_pipeline, 0, 1, codes=codes, negative_codes=negative[[0, 0]])) < 1e-5
        per_picture = {"codes": codes, "negative_codes": negative, "num_images_per_prompt": 2}
        assert draw(any_pipeline, 0, 1, 2, 3, **per_picture).shape[0] == 4

    def test_negative_codes_equal_to_codes_mean_no_guidance(self, pipeline):
        codes = build_codes(2)
        guided = draw(pipeline, 0, 1, codes=codes, negative_codes=codes, guidance_scale=5.0)
        assert distance(guided, draw(pipeline, 0, 1, codes=codes, guidance_scale=1.0)) < 1e-3

    def test_negative_prompt(self, prompt_pipeline):
        codes = build_codes(2)
        written = prompt_pipeline.encode_prompt("a cat")
        wanted = draw(prompt_pipeline, 0, 1, codes=codes, negative_codes=written)
        assert distance(draw(prompt_pipeline, 0, 1, codes=codes, negative_prompt="a cat"), wanted) < 1e-5
        settings = {"num_images_per_prompt": 2, "generation_kwargs": {"do_sample": True, "temperature": 5.0}}
        prompts = {"prompt": ["a cat", "a red apple"], "negative_prompt": ["a red apple", "a cat"]}
        several = [draw(prompt_pipeline, *range(4), **prompts, **settings) for _ in range(2)]
        assert torch.equal(*several) and len(several[0]) == 4
        one = {"negative_prompt": ["a cat"], "output_type": "latent"}
        rows = [prompt_pipeline(codes=given, **one, generator=generators(0)).images for given in (codes[0], codes[:1])]
        assert distance(*rows) < 1e-5  # the same computation twice
        embeds = prompt_pipeline.image_tokenizer.decode(codes)
        assert distance(draw(prompt_pipeline, 0, 1, generation_embeds=embeds, negative_prompt="a cat"), wanted) < 1e-5
        with pytest.raises(ValueError, match="`negative_prompt` has 3 texts; allowed: 1 or 2"):
            draw(prompt_pipeline, 0, 1, codes=codes, negative_prompt=["a"] * 3)
        plain = draw(prompt_pipeline, 0, 1, codes=codes)
        for empty in ("", [""], ["", ""]):  # as in Stable Diffusion, what guidance steers away from anyway
            assert torch.equal(draw(prompt_pipeline, 0, 1, codes=codes, negative_prompt=empty), plain)
        unguided = {"codes": codes, "guidance_scale": 1.0}
        assert torch.equal(
            draw(prompt_pipeline, 0, 1, **unguided, negative_prompt="a cat"),
            draw(prompt_pipeline, 0, 1, **unguided),
        )

    def test_defaults_come_from_the_config(self):
        pipeline = build_pipeline(guidance_scale=1.0, num_inference_steps=3)
        assert count_unet_calls(pipeline, codes=build_codes()) == [1, 1, 1]


class TestUnclip:
    def test_condition(self):
        """Label: noised embedding, then the sinusoid of its level; unconditional label: zeros; text: that of ""."""
        pipeline = build_pipeline("mlp")
        embeds = torch.randn(2, GENERATION_DIM)
        states, labels = pipeline.prepare_condition(embeds, None, True, noise_level=0, generator=generators(0, 1))
        assert torch.equal(states, pipeline.empty_prompt(4))
        assert labels.shape == (4, 2 * GENERATION_DIM)
        assert torch.equal(labels[:2], torch.zeros_like(labels[:2]))
        # noise level 0 still adds a little noise, as in the original
        assert 1e-4 < distance(labels[2:, :GENERATION_DIM], embeds) < 0.1
        half = GENERATION_DIM // 2
        assert torch.equal(labels[2:, GENERATION_DIM:], torch.tensor([1.0] * half + [0.0] * half).expand(2, -1))

    def test_noise_level(self):
        pipeline = build_pipeline("mlp")
        embeds = torch.randn(1, GENERATION_DIM)
        level = 500
        _, labels = pipeline.prepare_condition(embeds, None, False, noise_level=level, generator=generators(0))
        noise = torch.randn(1, GENERATION_DIM, generator=generators(0)[0])
        kept = pipeline.image_noising_scheduler.alphas_cumprod[level]
        assert torch.allclose(labels[:, :GENERATION_DIM], kept.sqrt() * embeds + (1 - kept).sqrt() * noise, atol=1e-5)

    def test_normalizer_is_used(self):
        pipeline = build_pipeline("mlp")
        with torch.no_grad():
            pipeline.image_normalizer.std.fill_(100.0)
        embeds = torch.zeros(1, GENERATION_DIM)
        _, labels = pipeline.prepare_condition(embeds, None, False, noise_level=0, generator=generators(0))
        assert labels[:, :GENERATION_DIM].abs().max() > 0.5


class TestOutputs:
    def test_progress_bar(self, pipeline, capfd):
        pipeline.set_progress_bar_config(disable=False)
        try:
            draw(pipeline, codes=build_codes(), num_inference_steps=3)
        finally:
            pipeline.set_progress_bar_config(disable=True)
        assert "3/3" in capfd.readouterr().err

    def test_progress_bar_of_the_language_model(self, prompt_pipeline, capfd):
        sampled = {"do_sample": True, "generator": generators(0, 1)}
        ways = [({"num_beams": 2}, 1), ({"do_sample": False, "stopping_criteria": []}, 1), (sampled, 2)]
        written = prompt_pipeline.encode_prompt(["a cat", "a red apple"])
        prompt_pipeline.set_progress_bar_config(disable=False, mininterval=0)
        try:
            for settings, num_bars in ways:
                capfd.readouterr()
                codes = prompt_pipeline.encode_prompt(["a cat", "a red apple"], **settings)
                seen = capfd.readouterr().err
                counts = [int(count) for count in re.findall(rf"(\d+)/{NUM_QUERY_TOKENS + 2} ", seen)]
                assert counts.count(NUM_QUERY_TOKENS + 2) >= num_bars and 1 in counts  # it moved, to its end
                assert codes.shape == written.shape
        finally:
            prompt_pipeline.set_progress_bar_config(disable=True)

    def test_types(self, pipeline):
        inputs = {"codes": build_codes(2)}
        tensor = draw(pipeline, 0, 1, **inputs)
        assert tensor.shape == (2, 3, PICTURE_SIZE, PICTURE_SIZE)
        assert 0 <= tensor.min() and tensor.max() <= 1
        array = pipeline(**inputs, generator=generators(0, 1), output_type="np").images
        assert np.allclose(array, tensor.permute(0, 2, 3, 1).numpy(), atol=1e-6)
        images = pipeline(**inputs, generator=generators(0, 1)).images
        assert all(isinstance(image, Image.Image) for image in images)
        assert np.abs(np.asarray(images[0]) / 255 - array[0]).max() < 0.01
        latents = pipeline(**inputs, generator=generators(0, 1), output_type="latent").images
        assert latents.shape == (2, 4, PICTURE_SIZE // 2, PICTURE_SIZE // 2)
        with torch.no_grad():
            assert torch.equal((pipeline.decode_latents(latents) / 2 + 0.5).clamp(0, 1), tensor)

    def test_tuple(self, pipeline):
        codes = build_codes()
        images, tuple_codes = pipeline(codes=codes, generator=generators(0), output_type="pt", return_dict=False)
        assert torch.equal(images, draw(pipeline, codes=codes))
        assert torch.equal(tuple_codes, codes)
        embeds = pipeline.image_tokenizer.decode(codes)
        assert pipeline(generation_embeds=embeds, return_dict=False)[1] is None

    def test_scaling_and_shift_factor(self):
        shift = build_pipeline(vae=build_vae(shift_factor=0.3))
        latents = torch.randn(1, 4, PICTURE_SIZE // 2, PICTURE_SIZE // 2)
        with torch.no_grad():
            wanted = shift.vae.decode(latents / 0.5 + 0.3).sample
            assert torch.equal(shift.decode_latents(latents), wanted)
            assert distance(build_pipeline().decode_latents(latents), wanted) > 1e-3

    def test_latent_size_of_the_unet(self):
        unet = build_unet()
        unet.register_to_config(sample_size=[4, 10])
        assert build_pipeline(unet=unet)(codes=build_codes()).images[0].size == (20, 8)

    def test_height_and_width(self, pipeline):
        assert pipeline.vae_scale_factor == 2
        assert pipeline(codes=build_codes(), height=12, width=20).images[0].size == (20, 12)
        own = draw(pipeline, codes=build_codes())
        assert torch.equal(draw(pipeline, codes=build_codes(), width=PICTURE_SIZE), own)


class TestSampledPrompts:
    SAMPLING = {"do_sample": True, "temperature": 5.0}

    def write(self, pipeline, prompt, generator):
        return pipeline.encode_prompt(prompt, generator, **self.SAMPLING)

    def test_generator_rules_the_codes(self, prompt_pipeline):
        settings = {"prompt": "a red apple", "generation_kwargs": self.SAMPLING, "output_type": "pt"}
        first, again = (prompt_pipeline(**settings, generator=generators(3)[0]) for _ in range(2))
        assert torch.equal(first.codes, again.codes)
        assert torch.equal(first.images, again.images)
        others = [self.write(prompt_pipeline, "a red apple", generators(seed)[0]) for seed in range(4)]
        assert len({tuple(codes.flatten().tolist()) for codes in others}) > 1
        generator = generators(3)[0]
        in_a_row = [self.write(prompt_pipeline, "a red apple", generator) for _ in range(4)]
        assert len({tuple(codes.flatten().tolist()) for codes in in_a_row}) > 1

    def test_generator_rules_also_where_the_model_says_that_codes_are_sampled(self, prompt_pipeline, monkeypatch):
        monkeypatch.setattr(prompt_pipeline.language_model.generation_config, "do_sample", True)
        config = GenerationConfig(temperature=5.0)
        wanted = self.write(prompt_pipeline, "a red apple", generators(3)[0])
        written = prompt_pipeline.encode_prompt("a red apple", generators(3)[0], generation_config=config)
        assert torch.equal(written, wanted)

    def test_random_numbers_of_the_caller_go_on(self, prompt_pipeline):
        torch.manual_seed(7)
        wanted = torch.rand(3)
        torch.manual_seed(7)
        self.write(prompt_pipeline, "a cat", generators(0)[0])
        assert torch.equal(torch.rand(3), wanted)
        with pytest.raises(ValueError, match="asks for 2"):
            prompt_pipeline.encode_prompt("a cat", generators(0)[0], num_return_sequences=2, do_sample=True)
        torch.manual_seed(7)
        assert torch.equal(torch.rand(3), wanted)
        torch.manual_seed(1)
        free = self.write(prompt_pipeline, "a cat", None)
        torch.manual_seed(1)
        assert torch.equal(free, self.write(prompt_pipeline, "a cat", None))

    def test_each_generator_of_a_list_rules_its_prompt(self, prompt_pipeline):
        prompts = ["a red apple", "a cat"]
        together = self.write(prompt_pipeline, prompts, generators(5, 6))
        for index, prompt in enumerate(prompts):
            alone = self.write(prompt_pipeline, prompt, generators(5 + index))
            assert torch.equal(together[index : index + 1], alone)
        settings = {"generation_kwargs": self.SAMPLING, "num_images_per_prompt": 2, "num_inference_steps": 1}
        output = prompt_pipeline(prompt=prompts, generator=tuple(generators(5, 0, 6, 0)), **settings)
        assert torch.equal(output.codes, together)
        with pytest.raises(ValueError, match="`generator` has 2 entries; allowed: 4, one for each picture"):
            prompt_pipeline(prompt=prompts, generator=generators(5, 6), **settings)
        with pytest.raises(ValueError, match="`generator` has 1 entries; allowed: 2, one for each prompt"):
            self.write(prompt_pipeline, prompts, generators(5))

    def test_settings_with_a_row_for_each_prompt(self, prompt_pipeline):
        negative = prompt_pipeline.processor(text=["a cat", "a red apple"], padding=True, return_tensors="pt")
        ids, mask = negative["input_ids"], negative["attention_mask"]
        settings = {**self.SAMPLING, "guidance_scale": 3.0}
        names = ("negative_prompt_ids", "negative_prompt_attention_mask")
        together = prompt_pipeline.encode_prompt(
            ["a cat"] * 2, generators(5, 6), **settings, **dict(zip(names, (ids, mask), strict=True))
        )
        alone = prompt_pipeline.encode_prompt(
            "a cat", generators(6), **settings, **dict(zip(names, (ids[1:], mask[1:]), strict=True))
        )
        assert torch.equal(together[1:], alone)

    def test_without_sampling_the_generator_is_left_to_the_picture(self, prompt_pipeline):
        generator = generators(0)[0]
        before = generator.get_state()
        prompt_pipeline.encode_prompt("a cat", generator, do_sample=False)
        assert torch.equal(generator.get_state(), before)


class TestThreads:
    """Calls on one pipeline at the same time equal calls in a row; each step of one waits for the other."""

    @pytest.mark.parametrize("scheduler_class", [DDIMScheduler, PNDMScheduler, HeunDiscreteScheduler])
    def test_other_steps_and_guidance(self, scheduler_class):
        pipeline = build_pipeline()
        pipeline.scheduler = scheduler_class.from_config({**pipeline.scheduler.config, "skip_prk_steps": True})
        untouched = copy.deepcopy(vars(pipeline.scheduler))
        calls = [{"num_inference_steps": 3, "guidance_scale": 1.0}, {"num_inference_steps": 6, "guidance_scale": 4.0}]
        calls = [{**call, "codes": build_codes(seed=seed)} for seed, call in enumerate(calls)]
        wanted = [draw(pipeline, seed, **call) for seed, call in enumerate(calls)]
        meeting = threading.Barrier(2)

        def meet(pipeline, step, timestep, tensors):
            assert timestep == pipeline.scheduler.timesteps[step]
            if step < 3:
                meeting.wait(timeout=120)

        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(draw, pipeline, i, **call, callback_on_step_end=meet) for i, call in enumerate(calls)]
            found = [job.result() for job in jobs]
        for picture, alone in zip(found, wanted, strict=True):
            assert distance(picture, alone) < 1e-5  # the same arithmetic; another picture differs by over 0.1
        assert distance(*wanted) > 1e-3
        assert repr(vars(pipeline.scheduler)) == repr(untouched)

    def test_sampled_prompts(self, prompt_pipeline):
        def write(seed):
            return prompt_pipeline.encode_prompt("a red apple", generators(seed)[0], do_sample=True, temperature=5.0)

        wanted = [write(seed) for seed in range(8)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(write, range(8)))
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))

    def test_interrupt_of_the_pipeline_ends_every_call(self):
        pipeline, steps = build_pipeline(), []
        started, go_on = threading.Barrier(3), threading.Event()

        def wait(pipeline, step, timestep, tensors):
            steps.append(step)
            if step == 0:
                started.wait(timeout=120)
                go_on.wait(timeout=120)

        with ThreadPoolExecutor(2) as pool:
            settings = {"codes": build_codes(), "num_inference_steps": 5, "callback_on_step_end": wait}
            jobs = [pool.submit(draw, pipeline, **settings) for _ in range(2)]
            started.wait(timeout=120)
            pipeline._interrupt = True
            go_on.set()
            assert all(job.result().isfinite().all() for job in jobs)
        assert steps == [0, 0]


class TestCallback:
    def test_called_each_step(self, pipeline):
        seen = []

        def callback(pipeline, step, timestep, tensors):
            seen.append((step, int(timestep), sorted(tensors)))
            assert timestep == pipeline.scheduler.timesteps[step]

        names = ["latents", "encoder_hidden_states"]
        plain = draw(pipeline, codes=build_codes(), num_inference_steps=3)
        watched = draw(
            pipeline,
            codes=build_codes(),
            num_inference_steps=3,
            callback_on_step_end=callback,
            callback_on_step_end_tensor_inputs=names,
        )
        assert torch.equal(plain, watched)
        scheduler = copy.deepcopy(pipeline.scheduler)
        scheduler.set_timesteps(3)
        assert seen == [(i, int(t), sorted(names)) for i, t in enumerate(scheduler.timesteps)]
        assert len(seen) == 3

    def test_can_change_tensors(self, pipeline):
        size = PICTURE_SIZE // 2

        def zero_at_the_end(pipeline, step, timestep, tensors):
            return {"latents": torch.zeros_like(tensors["latents"])} if step == 1 else {}

        pictures = draw(pipeline, codes=build_codes(), callback_on_step_end=zero_at_the_end)
        with torch.no_grad():
            wanted = (pipeline.decode_latents(torch.zeros(1, 4, size, size)) / 2 + 0.5).clamp(0, 1)
        assert torch.equal(pictures, wanted)

    def test_can_end_guidance(self, pipeline):
        def keep_conditional_half(pipeline, step, timestep, tensors):
            return {"encoder_hidden_states": tensors["encoder_hidden_states"].chunk(2)[-1]}

        names = ["encoder_hidden_states"]
        inputs = {"callback_on_step_end": keep_conditional_half, "callback_on_step_end_tensor_inputs": names}
        assert count_unet_calls(pipeline, codes=build_codes(), num_inference_steps=3, **inputs) == [2, 1, 1]

    @pytest.mark.parametrize("num_images", [1, 3])
    @pytest.mark.parametrize("head", ["text", "mlp"])
    def test_cutoff_of_diffusers(self, head, num_images):
        pipeline = build_pipeline(head)
        seeds, settings = range(num_images), {"codes": build_codes(num_images), "num_inference_steps": 4}
        cutoff = SDCFGCutoffCallback(cutoff_step_ratio=0.5)
        several = MultiPipelineCallbacks([SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=2), cutoff])
        sizes = []
        hook = pipeline.unet.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
        picture = draw(pipeline, *seeds, **settings, callback_on_step_end=cutoff)
        hook.remove()
        assert sizes == [2 * num_images] * 3 + [num_images]
        assert torch.equal(picture, draw(pipeline, *seeds, **settings, callback_on_step_end=several))

        def keep_conditional_half(pipeline, step, timestep, tensors):
            assert pipeline.do_classifier_free_guidance and pipeline.guidance_scale == 7.5
            return {name: tensor.chunk(2)[-1] for name, tensor in tensors.items()} if step == 2 else {}

        names = ["encoder_hidden_states"] if head == "text" else ["encoder_hidden_states", "class_labels"]
        by_hand = {"callback_on_step_end": keep_conditional_half, "callback_on_step_end_tensor_inputs": names}
        assert torch.equal(picture, draw(pipeline, *seeds, **settings, **by_hand))
        assert pipeline.guidance_scale == 7.5  # of the call that started last; no callback changes the next one
        assert distance(picture, draw(pipeline, *seeds, **settings)) > 1e-4

    def test_guidance_scale_can_be_changed(self, pipeline):
        def change(pipeline, step, timestep, tensors):
            pipeline._guidance_scale = {0: 3.0, 1: 0.0}.get(step, pipeline.guidance_scale)

        settings = {"codes": build_codes(), "callback_on_step_end": change, "num_inference_steps": 4}
        assert count_unet_calls(pipeline, **settings) == [2, 2, 1, 1]
        changed = draw(pipeline, codes=build_codes(), callback_on_step_end=change)
        assert distance(changed, draw(pipeline, codes=build_codes())) > 1e-4

    def test_interrupt(self, pipeline):
        seen = []

        def stop(pipeline, step, timestep, tensors):
            seen.append(pipeline.num_timesteps)
            pipeline._interrupt = step == 1
            return tensors

        settings = {"codes": build_codes(), "num_inference_steps": 6}
        for _ in range(2):  # the next call starts anew
            assert len(count_unet_calls(pipeline, **settings, callback_on_step_end=stop)) == 2
        assert seen == [6] * 4
        assert not pipeline.interrupt and pipeline.num_timesteps == 6
        assert len(count_unet_calls(pipeline, **settings)) == 6

    def test_state_before_the_first_call(self):
        pipeline = build_pipeline(guidance_scale=1.0)
        assert (pipeline.guidance_scale, pipeline.do_classifier_free_guidance) == (1.0, False)
        assert (pipeline.num_timesteps, pipeline.interrupt) == (None, False)

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            ({"latent": None}, r"returned \['latent'\]; allowed: \['latents'"),
            ({"prompt_embeds": torch.zeros(1, NUM_GENERATION_TOKENS, GENERATION_DIM)}, r"rows; allowed: 2, or 4"),
        ],
    )
    def test_wrong_return(self, pipeline, returned, message):
        with pytest.raises(ValueError, match=message):
            pipeline(codes=build_codes(2), callback_on_step_end=lambda *args: returned)

    def test_alias_and_name_together(self, pipeline):
        """Whichever was changed counts, though the other comes back as it was."""
        zeros = torch.zeros(2, NUM_GENERATION_TOKENS, GENERATION_DIM)
        names = ["encoder_hidden_states", "prompt_embeds"]
        pictures = [
            draw(
                pipeline,
                codes=build_codes(),
                callback_on_step_end=lambda pipeline, step, timestep, tensors, name=name: {**tensors, name: zeros},
                callback_on_step_end_tensor_inputs=names,
            )
            for name in names
        ]
        assert torch.equal(*pictures)
        assert distance(pictures[0], draw(pipeline, codes=build_codes())) > 1e-4

    def test_every_tensor_that_is_promised(self):
        seen = []
        build_pipeline("mlp")(
            codes=build_codes(),
            callback_on_step_end=lambda pipeline, step, timestep, tensors: seen.append(tensors),
            callback_on_step_end_tensor_inputs=SeedPipeline._callback_tensor_inputs,
        )
        assert [set(tensors) for tensors in seen] == [set(SeedPipeline._callback_tensor_inputs)] * 2
        assert all(tensors["class_labels"].shape == (2, 2 * GENERATION_DIM) for tensors in seen)


class TestSchedulers:
    @pytest.mark.parametrize("spacing", ["leading", "trailing"])
    @pytest.mark.parametrize(
        ("scheduler_class", "settings"),
        [
            (DDIMScheduler, {}),
            (DDPMScheduler, {}),
            (DEISMultistepScheduler, {}),
            (DPMSolverMultistepScheduler, {}),
            (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
            (DPMSolverSDEScheduler, {}),
            (DPMSolverSinglestepScheduler, {}),
            (EulerAncestralDiscreteScheduler, {}),
            (EulerDiscreteScheduler, {}),
            (HeunDiscreteScheduler, {}),
            (KDPM2AncestralDiscreteScheduler, {}),
            (KDPM2DiscreteScheduler, {}),
            (LCMScheduler, {}),
            (LMSDiscreteScheduler, {}),
            (PNDMScheduler, {}),
            (TCDScheduler, {}),
            (UniPCMultistepScheduler, {}),
        ],
    )
    def test_swap(self, pipeline, scheduler_class, settings, spacing, monkeypatch):
        """The first picture equals later ones, whatever was drawn between, and each picture that drawn alone."""
        for needed in {DPMSolverSDEScheduler: ["torchsde"], LMSDiscreteScheduler: ["scipy"]}.get(scheduler_class, []):
            pytest.importorskip(needed, reason="diffusers needs it for this scheduler")
        config = {**pipeline.scheduler.config, **settings, "timestep_spacing": spacing}
        monkeypatch.setattr(pipeline, "scheduler", scheduler_class.from_config(config))
        # as few as each can do with, its history of steps included
        steps = 4 if scheduler_class is PNDMScheduler else 3
        inputs = {"codes": build_codes(2), "num_inference_steps": steps}
        pictures = draw(pipeline, 3, 4, **inputs)
        assert pictures.isfinite().all()
        assert pictures.std() > 0
        alone = draw(pipeline, 4, **{**inputs, "codes": build_codes(2)[1:]})
        assert distance(pictures[1:], alone) < 1e-4  # batches are added up in another order
        draw(pipeline, 3, 4, codes=build_codes(2), num_inference_steps=steps + 1)
        assert distance(pictures, draw(pipeline, 3, 4, **inputs)) < 1e-5

    def test_timesteps_and_sigmas(self):
        pipeline, seen = build_pipeline(), []
        config = {**pipeline.scheduler.config, "timestep_spacing": "leading"}
        pipeline.scheduler = EulerDiscreteScheduler.from_config(config)
        given = copy.deepcopy(pipeline.scheduler)
        given.set_timesteps(4)
        wanted = draw(pipeline, codes=build_codes(), num_inference_steps=4)
        for schedule in ({"sigmas": given.sigmas.tolist()}, {"timesteps": given.timesteps.long().tolist()}):

            def note(pipeline, step, timestep, tensors):
                seen.append(round(float(timestep)))

            inputs = {"codes": build_codes(), "callback_on_step_end": note, **schedule}
            assert distance(draw(pipeline, **inputs), wanted) < 1e-3  # sigmas are looked up in float32, and back
        assert seen == given.timesteps.long().tolist() * 2
        assert pipeline.num_timesteps == 4

    def test_starting_noise_has_the_scale_of_the_timesteps(self):
        """Its scale differs before and after `set_timesteps` where timesteps lead."""
        pipeline = build_pipeline()
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, timestep_spacing="leading")
        scheduler = copy.deepcopy(pipeline.scheduler)
        before = scheduler.init_noise_sigma
        scheduler.set_timesteps(5)
        assert abs(scheduler.init_noise_sigma - before) > 1
        seen = []
        hook = pipeline.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        draw(pipeline, codes=build_codes(), num_inference_steps=5, guidance_scale=1.0)
        hook.remove()
        noise = torch.randn(seen[0].shape, generator=generators(0)[0]) * scheduler.init_noise_sigma
        scheduled = scheduler.scale_model_input(noise, scheduler.timesteps[0])
        assert torch.allclose(seen[0], scheduled, atol=1e-5)

    def test_own_noise_sampler_is_seeded(self):
        """DPM++ SDE takes seeds, not a generator: each picture has its own, drawn from the generator."""
        seeds = []
        for generator in (generators(3, 4), generators(3, 5), generators(3)[0], generators(3)[0]):
            scheduler = SimpleNamespace(noise_sampler_seed=None)
            seed_noise_sampler(scheduler, generator, 2)
            seeds.append(scheduler.noise_sampler_seed)
        assert seeds[0][0] == seeds[1][0] == seeds[2][0] and seeds[2] == seeds[3]
        assert len({seeds[0][1], seeds[1][1], seeds[2][1]}) == 3
        given = SimpleNamespace(noise_sampler_seed=5)
        seed_noise_sampler(given, generators(3)[0], 2)
        assert given.noise_sampler_seed == 5

    def test_scheduler_of_other_models(self):
        pipeline = build_pipeline(scheduler=FlowMatchEulerDiscreteScheduler())
        with pytest.raises(ValueError, match="`scheduler` is FlowMatchEulerDiscreteScheduler, which has no"):
            pipeline(codes=build_codes())

    def test_eta_reaches_ddim_only(self):
        pipeline = build_pipeline()
        inputs = {"codes": build_codes(), "num_inference_steps": 3}
        assert distance(draw(pipeline, **inputs, eta=1.0), draw(pipeline, **inputs)) > 1e-4
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        assert torch.equal(draw(pipeline, **inputs, eta=1.0), draw(pipeline, **inputs))
