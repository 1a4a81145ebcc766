"""SeedPipeline as a whole: where its parts lie, what is saved, what loads. Real classes at toy size.

What loads without the package: test_remote_code.py.
"""

import inspect
import json
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from tiny.pictures import (
    PICTURE_SIZE,
    build_codes,
    build_images,
    build_pipeline,
    build_prompt_pipeline,
    distance,
    draw,
    generators,
)

from seed_hf import SeedImageProcessor, SeedPipeline
from seed_hf.mini import mini_pipeline_path


HEADS = ("text", "mlp", "qformer")
DTYPE = "dtype" if 'kwargs.pop("dtype"' in inspect.getsource(DiffusionPipeline.from_pretrained) else "torch_dtype"


@pytest.fixture(scope="module")
def pipeline():
    return build_pipeline()


@pytest.fixture(scope="module")
def prompt_pipeline():
    return build_prompt_pipeline()


def load(folder, **kwargs):
    loaded = SeedPipeline.from_pretrained(folder, **kwargs)
    loaded.set_progress_bar_config(disable=True)
    return loaded


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

    def test_slicing_and_tiling_do_not_change_pictures(self):
        pipeline = build_pipeline()
        codes = build_codes(2)
        wanted = draw(pipeline, 0, 1, codes=codes)
        pipeline.enable_attention_slicing()
        pipeline.vae.enable_slicing()
        pipeline.vae.enable_tiling()
        assert distance(draw(pipeline, 0, 1, codes=codes), wanted) < 1e-4

    def test_call_takes_what_calls_of_diffusers_take(self):
        parameters = inspect.signature(SeedPipeline.__call__).parameters
        names = {"prompt", "guidance_scale", "num_inference_steps", "num_images_per_prompt", "generator", "latents"}
        names |= {"output_type", "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs"}
        assert names <= set(parameters)
        assert all(parameters[name].default is not inspect.Parameter.empty for name in names)

    def test_components_make_another_pipeline(self, prompt_pipeline):
        wanted = draw(prompt_pipeline, prompt="a cat")
        assert set(prompt_pipeline.components) == set(inspect.signature(SeedPipeline.__init__).parameters) - {
            "self",
            "guidance_scale",
            "num_inference_steps",
        }
        again = SeedPipeline(**prompt_pipeline.components, num_inference_steps=2)
        again.set_progress_bar_config(disable=True)
        assert again.unet is prompt_pipeline.unet
        assert torch.equal(draw(again, prompt="a cat"), wanted)
        derived = SeedPipeline.from_pipe(prompt_pipeline)
        derived.set_progress_bar_config(disable=True)
        assert derived.config.num_inference_steps == prompt_pipeline.config.num_inference_steps == 2
        assert torch.equal(draw(derived, prompt="a cat"), wanted)


class TestSaving:
    @pytest.mark.parametrize("head", HEADS)
    def test_reload_equal(self, head, tmp_path):
        pipeline = build_pipeline(head, guidance_scale=4.0)
        images = build_images(2)
        wanted = pipeline(images, generator=generators(0, 1), output_type="pt")
        pipeline.save_pretrained(tmp_path)
        loaded = load(tmp_path)
        output = loaded(images, generator=generators(0, 1), output_type="pt")
        assert torch.equal(output.codes, wanted.codes)
        assert distance(output.images, wanted.images) < 1e-5
        assert loaded.config.guidance_scale == 4.0
        assert type(loaded.image_tokenizer) is type(pipeline.image_tokenizer)
        assert type(loaded.image_processor) is SeedImageProcessor
        assert not list(tmp_path.rglob("*.bin"))

    def test_dtype(self, tmp_path):
        build_pipeline().to(torch.float16).save_pretrained(tmp_path)
        for settings, wanted in (({}, torch.float32), ({DTYPE: torch.bfloat16}, torch.bfloat16)):
            loaded = SeedPipeline.from_pretrained(tmp_path, **settings)
            for name in ("image_tokenizer", "unet", "vae", "empty_prompt"):
                assert {parameter.dtype for parameter in getattr(loaded, name).parameters()} == {wanted}

    def test_dtype_of_each_component(self, tmp_path, pipeline):
        pipeline.save_pretrained(tmp_path)
        loaded = load(tmp_path, **{DTYPE: {"unet": torch.bfloat16, "default": torch.float32}})
        assert (loaded.unet.dtype, loaded.vae.dtype, loaded.image_tokenizer.dtype) == (
            torch.bfloat16,
            torch.float32,
            torch.float32,
        )

    def test_optional_components_stay_away(self, tmp_path, pipeline):
        without = SeedPipeline(**{**pipeline.components, "empty_prompt": None}, num_inference_steps=2)
        without.set_progress_bar_config(disable=True)
        without.save_pretrained(tmp_path)
        loaded = load(tmp_path)
        assert {name for name, component in loaded.components.items() if component is None} == set(
            SeedPipeline._optional_components
        )
        inputs = {"codes": build_codes(), "guidance_scale": 1.0}
        assert distance(draw(loaded, **inputs), draw(pipeline, **inputs)) < 1e-5

    def test_variant(self, tmp_path, pipeline):
        build_pipeline().to(torch.float16).save_pretrained(tmp_path, variant="fp16")
        weights = {path.name for path in tmp_path.rglob("*.safetensors")}
        assert weights == {"model.fp16.safetensors", "diffusion_pytorch_model.fp16.safetensors"}
        loaded = load(tmp_path, variant="fp16")
        assert distance(draw(loaded, codes=build_codes()), draw(pipeline, codes=build_codes())) < 0.05
        with pytest.raises((OSError, ValueError)):
            load(tmp_path)

    def test_components_can_be_passed(self, tmp_path, prompt_pipeline):
        prompt_pipeline.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert index["language_model"] == ["modeling_seed", "SeedForCausalLM"]
        assert index["image_tokenizer"] == ["modeling_seed_image_tokenizer", "SeedImageTokenizer"]
        assert str(tmp_path) not in json.dumps(index)
        attached = {"language_model": prompt_pipeline.language_model, "processor": prompt_pipeline.processor}
        shutil.rmtree(tmp_path / "language_model")  # another one is passed
        scheduler = EulerDiscreteScheduler()
        loaded = load(tmp_path, **attached, scheduler=scheduler)
        assert loaded.scheduler is scheduler and loaded.language_model is attached["language_model"]
        assert torch.equal(loaded.encode_prompt("a cat"), prompt_pipeline.encode_prompt("a cat"))

    def test_a_part_of_the_work_needs_a_part_of_the_components(self, tmp_path, prompt_pipeline):
        """As in other pipelines, prompts can be encoded before the large decoder is loaded."""
        prompt_pipeline.save_pretrained(tmp_path)
        decoder = {"unet": None, "vae": None, "scheduler": None}
        without = load(tmp_path, **decoder, image_tokenizer=None, image_processor=None, empty_prompt=None)
        codes = without.encode_prompt("a cat")
        assert torch.equal(codes, prompt_pipeline.encode_prompt("a cat"))
        with pytest.raises(ValueError, match="`image_tokenizer` is None; allowed for drawing"):
            without(codes=codes)
        with pytest.raises(ValueError, match="`unet` is None; allowed for drawing"):
            load(tmp_path, **decoder, language_model=None)(codes=codes)

    def test_repository_id_offline(self, tmp_path, pipeline):
        """A cached repository; `SeedPipeline` neither needs nor runs the code in it."""
        repository = tmp_path / "models--someone--toy"
        snapshot = repository / "snapshots" / ("0" * 40)
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        pipeline.save_pretrained(snapshot)
        for file in snapshot.rglob("*.py"):
            file.write_text("raise RuntimeError('code of the repository was run')\n")
        loaded = load("someone/toy", cache_dir=tmp_path, local_files_only=True)
        assert distance(draw(loaded, codes=build_codes()), draw(pipeline, codes=build_codes())) < 1e-5

    def test_the_shipped_folder_by_the_generic_class(self):
        settings = {"trust_remote_code": True, DTYPE: torch.float32}
        generic = DiffusionPipeline.from_pretrained(mini_pipeline_path(), **settings)
        assert type(generic) is SeedPipeline
        inputs = {"codes": torch.arange(32)[None] * 128, "num_inference_steps": 1}
        assert distance(draw(generic, **inputs), draw(load(mini_pipeline_path()), **inputs)) < 1e-5

    def test_the_shipped_folder_and_one_with_its_code_in_one_process(self, tmp_path):
        """diffusers gives both the same modules, and loads parts in an order that differs from process to process."""
        build_prompt_pipeline().save_pretrained(tmp_path)
        for folder in (mini_pipeline_path(), str(tmp_path), mini_pipeline_path(), str(tmp_path)):
            assert DiffusionPipeline.from_pretrained(folder, trust_remote_code=True).image_tokenizer is not None
