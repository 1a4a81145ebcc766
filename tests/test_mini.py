"""Loading seed-mini's language model from its two forms, at toy size."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_demo import build_seed, save_all, save_pipeline
from tiny_language import build_language_model
from tiny_pictures import build_images

from seed_hf.mini import mini_language_model


PEFT_ASKS_BY_THE_OLD_NAME = "ignore:.*is_gradient_checkpointing:FutureWarning"


def test_whole_model(tmp_path):
    save_all(tmp_path)
    model, processor = mini_language_model(tmp_path / "language_model", tmp_path / "pipeline")
    prompts = [processor.caption_prompt] * 2
    inputs = processor(images=build_images(2), text=prompts, padding=True, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=3)
    assert ids.shape[1] <= inputs["input_ids"].shape[1] + 3
    codes = model.get_image_codes(inputs["pixel_values"])
    assert torch.equal(ids[:, 1:5], model.config.first_image_token_id + codes)
    # the tokenizer decodes through the pipeline it was loaded with, wherever that lies now
    assert processor.tokenizer.decode_image(codes)[0].size == (16, 16)


@pytest.mark.filterwarnings(PEFT_ASKS_BY_THE_OLD_NAME)
def test_adapter(tmp_path):
    image_tokenizer = save_pipeline(tmp_path / "pipeline")
    model, processor = build_seed(image_tokenizer)
    config = LoraConfig(
        r=2, target_modules=model.lora_target_modules(), modules_to_save=["image_embeddings"], init_lora_weights=False
    )
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    processor.save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, model.config.boi_token_id, model.config.first_image_token_id + 3]])
    expected = adapted.eval()(input_ids=ids).logits

    loaded, _ = mini_language_model(tmp_path / "adapter", tmp_path / "pipeline", base_model=build_language_model())
    torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert (loaded(input_ids=ids).logits - build_seed(image_tokenizer)[0](input_ids=ids).logits).abs().max() > 0.1


def test_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="`folder` is .*nothing"):
        mini_language_model(tmp_path / "nothing", tmp_path)
    with pytest.raises(ValueError, match="`pipeline_folder` is .*nothing"):
        mini_language_model(tmp_path, tmp_path / "nothing")
