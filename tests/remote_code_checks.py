"""Run by test_remote_code.py in a process of its own, in which `seed_hf` cannot be imported.

    python remote_code_checks.py FOLDER LM ADAPTER [LM ADAPTER ...]

Loads each language model and adapter (a folder or a repository id) by every Auto class, with the code that lies beside
the weights, and compares with what the installed package computed, FOLDER/wanted.pt. Of the pipeline and the image
processor in FOLDER it saves what they give.
"""

import os
import sys
from pathlib import Path


sys.modules["seed_hf"] = None  # any import of it fails

import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers import DiffusionPipeline  # noqa: E402
from peft import AutoPeftModelForCausalLM  # noqa: E402
from rounding import assert_equal_up_to_rounding, assert_same_picture  # noqa: E402
from transformers import (  # noqa: E402
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)


MODEL_CLASSES = (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM)
TRUST = {"trust_remote_code": True}


def is_remote(thing) -> bool:
    return type(thing).__module__.startswith("transformers_modules.")


def check_refused(name: str):
    for auto_class in (AutoModelForCausalLM, AutoTokenizer, AutoProcessor):
        try:
            auto_class.from_pretrained(name, trust_remote_code=False)
        except ValueError as error:
            assert "trust_remote_code" in str(error), error
        else:
            raise AssertionError(f"{auto_class.__name__} ran code of {name} without trust_remote_code")


def check_language_model(name: str, wanted: dict):
    for auto_class in MODEL_CLASSES:
        model = auto_class.from_pretrained(name, **TRUST)
        assert is_remote(model)
        assert_equal_up_to_rounding(model(wanted["ids"]).logits, wanted["logits"], auto_class.__name__)
    body = AutoModel.from_pretrained(name, **TRUST)
    assert is_remote(body) and type(body).__name__ == "SeedModel"
    assert_equal_up_to_rounding(
        model.get_output_embeddings()(body(wanted["ids"]).last_hidden_state), wanted["logits"], "AutoModel"
    )
    assert AutoModelForCausalLM.from_pretrained(name, image_tokenizer=False, **TRUST).image_tokenizer is None
    return model


def check_processor(name: str, model, wanted: dict):
    tokenizer, processor = (auto.from_pretrained(name, **TRUST) for auto in (AutoTokenizer, AutoProcessor))
    image_processor = AutoImageProcessor.from_pretrained(name, **TRUST)
    parts = (tokenizer, processor, image_processor, processor.tokenizer, processor.image_processor)
    assert all(map(is_remote, parts)), parts
    assert tokenizer(wanted["text"])["input_ids"] == wanted["text_ids"]
    inputs = processor(images=wanted["image"], text=processor.caption_prompt, return_tensors="pt")
    assert torch.equal(model.generate(**inputs, max_new_tokens=4), wanted["generated"])
    # the repository with the image tokenizer and the decoder brings its own code
    codes = processor.tokenizer.encode_image(wanted["image"], **TRUST)
    assert torch.equal(codes, wanted["codes"])
    (picture,) = processor.tokenizer.decode_image(codes, generator=torch.Generator().manual_seed(0), **TRUST)
    assert_same_picture(picture, wanted["picture"])
    caption = pipeline("image-text-to-text", model=name, **TRUST)
    messages = [{"role": "user", "content": [{"type": "image", "image": wanted["image"]}]}]
    (output,) = caption(text=messages, max_new_tokens=4, return_full_text=False)
    assert isinstance(output["generated_text"], str)
    return processor


def check_adapter(name: str, wanted: dict):
    for auto_class in (AutoModelForCausalLM, AutoPeftModelForCausalLM):
        model = auto_class.from_pretrained(name, **TRUST)
        torch.testing.assert_close(model(wanted["ids"]).logits, wanted["adapter_logits"])


def draw_with_pipeline(folder: Path):
    """By the generic class, then saved, loaded again and used again."""
    try:
        DiffusionPipeline.from_pretrained(folder / "drawing")
    except ValueError as error:
        assert "trust_remote_code" in str(error), error
    else:
        raise AssertionError("code ran without trust_remote_code")
    pipeline = DiffusionPipeline.from_pretrained(folder / "drawing", **TRUST)
    image = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)
    inputs = ({"image": image}, {"prompt": "a cat"})
    drawn = [pipeline(**each, generator=torch.Generator().manual_seed(0), output_type="pt") for each in inputs]
    pipeline.save_pretrained(folder / "drawing_again")
    again = DiffusionPipeline.from_pretrained(folder / "drawing_again", **TRUST)
    later = again.encode_image(image), again.encode_prompt("a cat")
    torch.save([*drawn[0].values(), *drawn[1].values(), *later], folder / "drawn.pt")


def main(folder: str, *names: str):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = Path(folder)
    wanted = torch.load(folder / "wanted.pt", weights_only=False)
    for language_model, adapter in zip(names[::2], names[1::2], strict=True):
        check_refused(language_model)
        model = check_language_model(language_model, wanted)
        processor = check_processor(language_model, model, wanted)
        check_adapter(adapter, wanted)
    model.save_pretrained(folder / "resaved")
    processor.save_pretrained(folder / "resaved")
    draw_with_pipeline(folder)
    alone = AutoImageProcessor.from_pretrained(folder / "image_processor", **TRUST)
    assert is_remote(alone)
    np.save(folder / "pixels.npy", alone(str(folder / "photo.png"), return_tensors="np")["pixel_values"])


if __name__ == "__main__":
    main(*sys.argv[1:])
