"""SeedPipeline: every input, every option, saving that loads anywhere. Real classes at toy size."""

import inspect
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from PIL import Image
from tiny_language import build_base_tokenizer, build_language_model
from tiny_pictures import (
    CODEBOOK_SIZE,
    GENERATION_DIM,
    IMAGE_SIZE,
    NUM_GENERATION_TOKENS,
    NUM_QUERY_TOKENS,
    PICTURE_SIZE,
    build_codes,
    build_image_tokenizer,
    build_images,
    build_pipeline,
    build_unet,
    build_vae,
    generators,
)

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedPipeline, SeedTokenizer
from seed_hf.modeling_seed_empty_prompt import SeedEmptyPrompt
from seed_hf.processing_seed import SeedProcessor


HEADS = ("text", "mlp", "qformer")


@pytest.fixture(scope="module", params=HEADS)
def any_pipeline(request):
    return build_pipeline(request.param)


@pytest.fixture(scope="module")
def pipeline():
    return build_pipeline()


@pytest.fixture(scope="module")
def prompt_pipeline():
    image_tokenizer = build_image_tokenizer()
    tokenizer = SeedTokenizer.from_base_tokenizer(
        build_base_tokenizer(), codebook_size=CODEBOOK_SIZE, num_query_tokens=NUM_QUERY_TOKENS
    )
    language_model = SeedForCausalLM.from_language_model(build_language_model(), tokenizer, image_tokenizer)
    processor = SeedProcessor(SeedImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}), tokenizer)
    return build_pipeline(image_tokenizer=image_tokenizer, language_model=language_model, processor=processor)


def draw(pipeline, *seeds, **inputs):
    """Pixels as a tensor, one generator for each seed."""
    return pipeline(**inputs, generator=generators(*(seeds or (0,))), output_type="pt").images


def distance(first, second):
    return (first - second).abs().max().item()


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
            ({"codes": torch.full((1, NUM_QUERY_TOKENS), CODEBOOK_SIZE)}, rf"`codes` spans .*{CODEBOOK_SIZE}"),
            ({"codes": torch.full((1, NUM_QUERY_TOKENS), -1)}, "`codes` spans"),
            ({"codes": torch.zeros(1, NUM_QUERY_TOKENS)}, "`codes` has dtype torch.float32"),
            ({"codes": torch.zeros(1, NUM_QUERY_TOKENS, dtype=torch.bool)}, "`codes` has dtype torch.bool"),
            ({"codes": build_codes()[:, 1:]}, r"`codes` has shape \(1, 3\); allowed: \(batch_size, 4\)"),
            ({"codes": build_codes()[None]}, "`codes` has shape"),
            ({"codes": build_codes(0)}, "`codes` has shape"),
            ({"codes": [[1, 2], [3]]}, "`codes` is no rectangular array"),
            ({"codes": "1 2 3 4"}, "`codes`"),
            ({"codes": build_codes(2), "negative_codes": build_codes(3)}, "`negative_codes` has 3 rows"),
            ({"codes": build_codes(), "negative_codes": build_codes() + 99}, "`negative_codes` spans"),
            ({"image": b"no image"}, "`image"),
            ({"image": []}, "`image"),
            ({"generation_embeds": torch.zeros(1, 2, 3)}, r"`generation_embeds` has shape \(1, 2, 3\)"),
            ({"generation_embeds": torch.zeros(1, 2, 3, dtype=torch.long)}, "`generation_embeds` is torch.int64"),
            ({"generation_embeds": [[1.0]]}, "`generation_embeds` is list"),
            ({"codes": build_codes(), "num_inference_steps": 0}, "`num_inference_steps` is 0"),
            ({"codes": build_codes(), "num_images_per_prompt": 1.5}, "`num_images_per_prompt` is 1.5"),
            ({"codes": build_codes(), "guidance_scale": "high"}, "`guidance_scale` is 'high'"),
            ({"codes": build_codes(), "output_type": "jpeg"}, "`output_type` is 'jpeg'"),
            ({"codes": build_codes(), "generator": generators(0, 1)}, "`generator` has 2 entries; allowed: 1"),
            ({"codes": build_codes(), "latents": torch.zeros(1, 4, 2, 2)}, "`latents` has shape"),
            ({"codes": build_codes(), "callback_on_step_end_tensor_inputs": ["noise"]}, r"\['noise'\]"),
        ],
    )
    def test_wrong_input(self, pipeline, inputs, message):
        with pytest.raises(ValueError, match=message):
            pipeline(**inputs)

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


class TestCallback:
    def test_called_each_step(self, pipeline):
        seen = []

        def callback(pipeline, step, timestep, tensors):
            seen.append((step, int(timestep), sorted(tensors)))

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
        assert seen == [(i, int(t), sorted(names)) for i, t in enumerate(pipeline.scheduler.timesteps)]
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

    def test_unclip_labels(self):
        seen = []
        build_pipeline("mlp")(
            codes=build_codes(),
            callback_on_step_end=lambda pipeline, step, timestep, tensors: seen.append(tensors["class_labels"].shape),
            callback_on_step_end_tensor_inputs=["class_labels"],
        )
        assert seen == [(2, 2 * GENERATION_DIM)] * 2


class TestSchedulers:
    @pytest.mark.parametrize(
        "scheduler_class",
        [
            DDIMScheduler,
            DPMSolverMultistepScheduler,
            EulerAncestralDiscreteScheduler,
            EulerDiscreteScheduler,
            HeunDiscreteScheduler,
            PNDMScheduler,
        ],
    )
    def test_swap(self, scheduler_class):
        pipeline = build_pipeline()
        pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
        pictures = draw(pipeline, 3, 4, codes=build_codes(2), num_inference_steps=4)
        assert pictures.isfinite().all()
        assert pictures.std() > 0
        assert torch.equal(pictures, draw(pipeline, 3, 4, codes=build_codes(2), num_inference_steps=4))

    def test_eta_reaches_ddim_only(self):
        pipeline = build_pipeline()
        inputs = {"codes": build_codes(), "num_inference_steps": 3}
        assert distance(draw(pipeline, **inputs, eta=1.0), draw(pipeline, **inputs)) > 1e-4
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        assert torch.equal(draw(pipeline, **inputs, eta=1.0), draw(pipeline, **inputs))


class TestPlacement:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("head", ["text", "mlp"])
    def test_half_precision(self, head, dtype):
        pipeline = build_pipeline(head)
        codes = build_codes()
        reference = draw(pipeline, codes=codes)
        pipeline.to(dtype)
        pictures = draw(pipeline, codes=codes)
        assert pictures.dtype == dtype
        assert pictures.isfinite().all()
        assert distance(pictures.float(), reference) < 0.2
        assert pipeline(build_images()).images[0].size == (PICTURE_SIZE, PICTURE_SIZE)

    def test_offload_order_is_the_order_of_use(self, prompt_pipeline):
        order = []

        def note(name):
            return lambda *args: order.append(name) if not order or order[-1] != name else None

        parts = {
            "language_model": prompt_pipeline.language_model,
            "image_tokenizer": prompt_pipeline.image_tokenizer.generation_decoder,
            "unet": prompt_pipeline.unet,
            "vae": prompt_pipeline.vae.decoder,
        }
        hooks = [part.register_forward_pre_hook(note(name)) for name, part in parts.items()]
        prompt_pipeline(prompt="a cat")
        for hook in hooks:
            hook.remove()
        assert "->".join(order) == SeedPipeline.model_cpu_offload_seq

    def test_offload_hooks_fire_for_every_model(self, prompt_pipeline):
        """On the CPU nothing moves, but accelerate's hooks are the real ones."""
        wanted = draw(prompt_pipeline, prompt="a cat")
        prompt_pipeline.enable_model_cpu_offload(device="cpu")
        started = []
        try:
            for name in SeedPipeline.model_cpu_offload_seq.split("->"):
                hook = getattr(prompt_pipeline, name)._hf_hook
                original = hook.pre_forward
                hook.pre_forward = lambda *args, name=name, original=original, **kwargs: (
                    started.append(name),
                    original(*args, **kwargs),
                )[1]
            assert torch.equal(draw(prompt_pipeline, prompt="a cat"), wanted)
        finally:
            prompt_pipeline.remove_all_hooks()
        assert "->".join(dict.fromkeys(started)) == SeedPipeline.model_cpu_offload_seq


class TestSaving:
    @pytest.mark.parametrize("head", HEADS)
    def test_reload_equal(self, head, tmp_path):
        pipeline = build_pipeline(head, guidance_scale=4.0)
        images = build_images(2)
        wanted = pipeline(images, generator=generators(0, 1), output_type="pt")
        pipeline.save_pretrained(tmp_path)
        loaded = SeedPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        output = loaded(images, generator=generators(0, 1), output_type="pt")
        assert torch.equal(output.codes, wanted.codes)
        assert distance(output.images, wanted.images) < 1e-5
        assert loaded.config.guidance_scale == 4.0
        assert type(loaded.image_tokenizer) is type(pipeline.image_tokenizer)
        assert type(loaded.image_processor) is SeedImageProcessor
        assert not list(tmp_path.rglob("*.bin"))

    def test_dtype(self, tmp_path):
        build_pipeline().to(torch.float16).save_pretrained(tmp_path)
        keyword = (
            "dtype" if 'kwargs.pop("dtype"' in inspect.getsource(DiffusionPipeline.from_pretrained) else "torch_dtype"
        )
        for settings, wanted in (({}, torch.float32), ({keyword: torch.bfloat16}, torch.bfloat16)):
            loaded = SeedPipeline.from_pretrained(tmp_path, **settings)
            for name in ("image_tokenizer", "unet", "vae", "empty_prompt"):
                assert {parameter.dtype for parameter in getattr(loaded, name).parameters()} == {wanted}

    def test_components_can_be_passed(self, tmp_path, prompt_pipeline):
        prompt_pipeline.save_pretrained(tmp_path)
        assert prompt_pipeline.language_model is not None
        assert prompt_pipeline.processor is not None
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert index["language_model"] == [None, None]
        assert not (tmp_path / "language_model").exists()
        assert index["image_tokenizer"] == ["modeling_seed_image_tokenizer", "SeedImageTokenizer"]
        assert str(tmp_path) not in json.dumps(index)
        attached = {"language_model": prompt_pipeline.language_model, "processor": prompt_pipeline.processor}
        scheduler = EulerDiscreteScheduler()
        loaded = SeedPipeline.from_pretrained(tmp_path, **attached, scheduler=scheduler)
        loaded.set_progress_bar_config(disable=True)
        assert loaded.scheduler is scheduler
        assert torch.equal(loaded.encode_prompt("a cat"), prompt_pipeline.encode_prompt("a cat"))

    def test_repository_id_offline(self, tmp_path, pipeline):
        """A cached repository; `SeedPipeline` neither needs nor runs the code in it."""
        repository = tmp_path / "models--someone--toy"
        snapshot = repository / "snapshots" / ("0" * 40)
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        pipeline.save_pretrained(snapshot)
        for file in snapshot.rglob("*.py"):
            file.write_text("raise RuntimeError('code of the repository was run')\n")
        loaded = SeedPipeline.from_pretrained("someone/toy", cache_dir=tmp_path, local_files_only=True)
        loaded.set_progress_bar_config(disable=True)
        assert distance(draw(loaded, codes=build_codes()), draw(pipeline, codes=build_codes())) < 1e-5

    def test_without_the_package(self, tmp_path, pipeline):
        """Another process in which `seed_hf` can not be imported loads the folder, draws, saves; we load that."""
        pipeline.save_pretrained(tmp_path / "saved")
        script = f"""
            import sys
            sys.modules["seed_hf"] = None  # any import of it now fails
            import numpy as np
            import torch
            from diffusers import DiffusionPipeline
            torch.set_num_threads(1)
            try:
                DiffusionPipeline.from_pretrained({str(tmp_path / "saved")!r})
            except ValueError as error:
                assert "trust_remote_code" in str(error), error
            else:
                raise AssertionError("code ran without trust_remote_code")
            pipeline = DiffusionPipeline.from_pretrained({str(tmp_path / "saved")!r}, trust_remote_code=True)
            image = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)
            output = pipeline(image, generator=torch.Generator().manual_seed(0), output_type="pt")
            torch.save((output.images, output.codes), {str(tmp_path / "output.pt")!r})
            pipeline.save_pretrained({str(tmp_path / "again")!r})
            again = DiffusionPipeline.from_pretrained({str(tmp_path / "again")!r}, trust_remote_code=True)
            assert torch.equal(again(image, num_inference_steps=1).codes, output.codes)
        """
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-c", textwrap.dedent(script)]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        images, codes = torch.load(tmp_path / "output.pt")
        image = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)
        wanted = pipeline(image, generator=torch.Generator().manual_seed(0), output_type="pt")
        assert torch.equal(codes, wanted.codes)
        assert distance(images, wanted.images) < 1e-5
        loaded = SeedPipeline.from_pretrained(tmp_path / "again")
        loaded.set_progress_bar_config(disable=True)
        assert distance(draw(loaded, codes=codes), draw(pipeline, codes=codes)) < 1e-5
        saved, again = (
            sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*.py")) for n in ("saved", "again")
        )
        assert saved == again
        generic = DiffusionPipeline.from_pretrained(tmp_path / "again", trust_remote_code=True)
        assert type(generic).__name__ == "SeedPipeline"
