"""Auto classes and pipelines of transformers find the classes of this package."""

import pytest
import torch
from PIL import Image
from tiny.demo import build_seed, save_pipeline
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)
from transformers.pipelines.any_to_any import AnyToAnyPipeline
from transformers.utils import is_torchvision_available

from seed_hf import (
    SeedConfig,
    SeedForCausalLM,
    SeedImageProcessor,
    SeedImageTokenizer,
    SeedImageTokenizerConfig,
    SeedModel,
    SeedProcessor,
    SeedTokenizer,
)


RED, BLUE = (Image.new("RGB", (40, 30), color) for color in ("red", "blue"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`pipeline`, and `lm` with the image tokenizer inside, which names it."""
    folder = tmp_path_factory.mktemp("auto")
    image_tokenizer = save_pipeline(folder / "pipeline")
    model, processor = build_seed(image_tokenizer)
    model.attach_image_tokenizer(image_tokenizer)
    model.save_pretrained(folder / "lm")
    processor.tokenizer.image_tokenizer_id = str(folder / "pipeline")
    processor.save_pretrained(folder / "lm")
    return folder


@pytest.mark.parametrize(
    "auto_class, subfolder, wanted",
    [
        (AutoConfig, "lm", SeedConfig),
        (AutoModel, "lm", SeedModel),
        (AutoModelForCausalLM, "lm", SeedForCausalLM),
        (AutoModelForImageTextToText, "lm", SeedForCausalLM),
        (AutoModelForMultimodalLM, "lm", SeedForCausalLM),
        (AutoTokenizer, "lm", SeedTokenizer),
        (AutoImageProcessor, "lm", SeedImageProcessor),
        (AutoProcessor, "lm", SeedProcessor),
        (AutoConfig, "pipeline/image_tokenizer", SeedImageTokenizerConfig),
        (AutoModel, "pipeline/image_tokenizer", SeedImageTokenizer),
        (AutoImageProcessor, "pipeline/image_processor", SeedImageProcessor),
    ],
)
def test_auto_class(auto_class, subfolder, wanted, folder):
    assert type(auto_class.from_pretrained(folder / subfolder)) is wanted


def chat(*content):
    """A conversation; a string is text, anything else an image; the roles take turns after each text."""
    messages, roles = [{"role": "user", "content": []}], ["assistant", "user"]
    for part in content:
        is_text = isinstance(part, str)
        messages[-1]["content"].append({"type": "text", "text": part} if is_text else {"type": "image", "image": part})
        if is_text:
            messages.append({"role": roles[0], "content": []})
            roles.reverse()
    return messages[:-1]


@pytest.fixture(scope="module")
def describe(folder):
    return pipeline("image-text-to-text", model=str(folder / "lm"))


def generated_text(describe, text, images):
    """What the model itself writes, the prompt left out."""
    inputs = describe.processor(text=text, images=images, return_tensors="pt")
    ids = describe.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    return describe.processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_image_text_to_text(describe):
    assert type(describe.model) is SeedForCausalLM and type(describe.processor) is SeedProcessor
    settings = {"max_new_tokens": 5, "do_sample": False, "return_full_text": False}
    wanted = generated_text(describe, "<image>A photo of", [RED])
    (output,) = describe(images=RED, text="<image>A photo of", **settings)
    assert output["generated_text"] == wanted
    (output,) = describe(text=chat(RED, "A photo of"), **settings)
    assert output["generated_text"] == wanted
    full = describe(images=RED, text="<image>A photo of", max_new_tokens=5, do_sample=False)[0]["generated_text"]
    assert full == "<image>A photo of" + wanted
    batch = describe(images=[RED, BLUE], text=["<image>A photo of"] * 2, **settings)
    assert batch[0]["generated_text"] == wanted and len(batch) == 2


def test_several_images_and_turns(describe):
    messages = chat(RED, BLUE, "what is this?", "an apple", BLUE, "and this?")
    (output,) = describe(text=messages, max_new_tokens=5, do_sample=False, return_full_text=False)
    text = "<image><image>what is this? an apple\n<image>and this?"
    assert output["generated_text"] == generated_text(describe, text, [RED, BLUE, BLUE])


@pytest.mark.skipif(is_torchvision_available(), reason="says what happens without torchvision")
def test_any_to_any_asks_for_torchvision(folder):
    with pytest.raises(ImportError, match="[Tt]orchvision"):
        pipeline("any-to-any", model=str(folder / "lm"))


def test_any_to_any_in_both_directions(folder, describe, monkeypatch):
    """Its constructor asks for torchvision, and that is all: nothing behind it needs torchvision."""
    monkeypatch.setattr("transformers.pipelines.any_to_any.requires_backends", lambda *args: None)
    model, processor = describe.model, describe.processor
    any_to_any = pipeline("any-to-any", model=model, processor=processor)
    assert type(any_to_any) is AnyToAnyPipeline
    greedy = {"max_new_tokens": 5, "do_sample": False}
    wanted = generated_text(describe, "<image>A photo of", [RED])
    for inputs in ({"text": "<image>A photo of", "images": [RED]}, {"text": chat(RED, "A photo of")}):
        (output,) = any_to_any(**inputs, generate_kwargs=greedy, return_full_text=False)
        assert output["generated_text"] == wanted

    processor.tokenizer.decode_image(torch.zeros(1, 4, dtype=torch.long))  # loads the pipeline, to be quieted
    processor.tokenizer.image_codec.pipeline.set_progress_bar_config(disable=True)
    prompt = processor.image_prompt.format(caption="a cat")
    for text in (prompt, chat(RED, "Generate an image: the same in blue")):
        (output,) = any_to_any(text=text, generation_mode="image")
        assert isinstance(output["generated_image"], Image.Image) and output["generated_image"].size == (16, 16)
