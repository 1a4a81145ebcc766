"""8 and 4 bits through bitsandbytes on a CPU: the language model is quantized, codes and image tokens are not."""

import bitsandbytes
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from rounding import assert_equal_up_to_rounding
from tiny.language import build_codebook, build_codes, build_image_tokenizer, build_language_model, build_tokenizer
from tiny.pictures import build_pipeline
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedPipeline, SeedProcessor


pytestmark = [
    # PEFT uses two names that transformers has replaced
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:MatMul8bitLt:UserWarning"),
]

BITS = {
    8: (lambda: BitsAndBytesConfig(load_in_8bit=True), bitsandbytes.nn.Linear8bitLt),
    4: (lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"), bitsandbytes.nn.Linear4bit),
}
each_number_of_bits = pytest.mark.parametrize("bits", BITS)
# bitsandbytes' CPU kernels want input widths of whole blocks of 64 (all published language models have them)
WIDTH = 64


def build(tied=True, embedding="projected_codes", with_images=True):
    """Model, tokenizer and ids with a whole image in each row."""
    tokenizer = build_tokenizer()
    model = SeedForCausalLM.from_language_model(
        build_language_model("llama", tied=tied, width=WIDTH), tokenizer, build_image_tokenizer(),
        image_token_embedding=embedding, include_image_tokenizer=with_images,
    )  # fmt: skip
    return model, tokenizer, mixed_ids(tokenizer)


def mixed_ids(tokenizer):
    layout = tokenizer.image_token_layout
    return torch.tensor([[5 + i, 6, *layout.span(build_codes(seed=i)), 7, 8, 9] for i in range(2)])


def quantized_layers(model, kind):
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


@each_number_of_bits
@pytest.mark.parametrize("tied, embedding", [(True, "projected_codes"), (False, "learned")])
def test_only_the_language_model_is_quantized(bits, tied, embedding, tmp_path):
    make_config, kind = BITS[bits]
    model, tokenizer, ids = build(tied, embedding)
    pixel_values = torch.randn(3, 3, 28, 28)
    logits, codes = model(ids).logits, model.get_image_codes(pixel_values)
    model.save_pretrained(tmp_path / "float")
    quantized = SeedForCausalLM.from_pretrained(tmp_path / "float", quantization_config=make_config())
    names = quantized_layers(quantized, kind)
    # seven linear layers in each of the two blocks; not the head
    assert len(names) == 14 and all(name.startswith("language_model.model.layers") for name in names)
    assert quantized.get_memory_footprint() < model.get_memory_footprint()
    assert torch.equal(quantized.get_image_codes(pixel_values), codes)
    error = (quantized(ids).logits - logits).std() / logits.std()
    assert 0 < error < {8: 0.05, 4: 0.5}[bits]
    generated = quantized.generate(ids[:, :2], generation_mode="image", do_sample=False)
    assert tokenizer.image_token_layout.is_image_token(generated[:, 3:-1]).all()

    quantized.save_pretrained(tmp_path / "quantized")
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "quantized")
    assert quantized_layers(loaded, kind) == names
    assert_equal_up_to_rounding(loaded(ids).logits, quantized(ids).logits)
    assert torch.equal(loaded.get_image_codes(pixel_values), codes)


def test_four_bits_are_what_their_dequantized_weights_say(tmp_path):
    model, _, ids = build()
    model.save_pretrained(tmp_path)
    quantized = SeedForCausalLM.from_pretrained(tmp_path, quantization_config=BITS[4][0]())
    logits = quantized(ids).logits
    again = SeedForCausalLM.from_pretrained(tmp_path, quantization_config=BITS[4][0]()).dequantize()
    assert not quantized_layers(again, BITS[4][1])
    assert (again(ids).logits - logits).abs().max() < 0.1 * logits.std()


@each_number_of_bits
@pytest.mark.parametrize("base", ["SeedForCausalLM", "plain"])
def test_lora_on_a_quantized_base(bits, base, tmp_path):
    """QLoRA, on a saved model and around a quantized plain language model; the adapter also fits the float base."""
    make_config, kind = BITS[bits]
    model, tokenizer, ids = build(with_images=False)
    if base == "plain":
        model.language_model.save_pretrained(tmp_path / "base")
        language_model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", quantization_config=make_config())
        model = SeedForCausalLM.from_language_model(language_model, tokenizer, codebook=build_codebook())
        model.name_or_path = model.config._name_or_path = str(tmp_path / "base")
    else:
        model.save_pretrained(tmp_path / "base")
        model = SeedForCausalLM.from_pretrained(tmp_path / "base", quantization_config=make_config())
    assert model.is_quantized and model.config.quantization_config is not None
    model = prepare_model_for_kbit_training(model)
    peft_model = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", **model.lora_settings()))
    assert any(name.endswith("base_layer") for name in quantized_layers(peft_model, kind))
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=0.01)
    before = peft_model(ids, labels=ids).loss
    before.backward()
    optimizer.step()
    peft_model.eval()
    trained = peft_model(ids, labels=ids)
    assert trained.loss < before
    peft_model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    if base == "plain":
        model.config.save_pretrained(tmp_path / "adapter")

    reloaded = SeedForCausalLM.from_pretrained(tmp_path / "adapter", quantization_config=make_config())
    assert len(quantized_layers(reloaded, kind)) == 14
    # bitsandbytes computes in other kernels once a model is not trained
    assert (reloaded(ids).logits - trained.logits).abs().max() < 0.05 * trained.logits.std()
    if base == "SeedForCausalLM":
        floating = PeftModel.from_pretrained(SeedForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
        wanted = floating.eval()(ids).logits
        torch.testing.assert_close(floating.merge_and_unload()(ids).logits, wanted, atol=1e-5, rtol=1e-4)


def test_a_quantized_language_model_can_be_saved_with_what_is_around_it(tmp_path):
    tokenizer = build_tokenizer()
    build_language_model("llama", width=WIDTH).save_pretrained(tmp_path / "plain")
    language_model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=BITS[8][0]())
    model = SeedForCausalLM.from_language_model(language_model, tokenizer, codebook=build_codebook())
    ids = mixed_ids(tokenizer)
    model.save_pretrained(tmp_path / "saved")
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "saved")
    assert_equal_up_to_rounding(loaded(ids).logits, model(ids).logits)


def test_a_pipeline_with_a_quantized_language_model_loads(tmp_path):
    model, tokenizer, ids = build(with_images=False)
    model.save_pretrained(tmp_path / "float")
    quantized = SeedForCausalLM.from_pretrained(tmp_path / "float", quantization_config=BITS[8][0]())
    processor = SeedProcessor(SeedImageProcessor(), tokenizer)
    build_pipeline(language_model=quantized, processor=processor).save_pretrained(tmp_path / "pipeline")
    loaded = SeedPipeline.from_pretrained(tmp_path / "pipeline").language_model
    assert loaded.is_quantized and len(quantized_layers(loaded, BITS[8][1])) == 14
    assert_equal_up_to_rounding(loaded(ids).logits, quantized(ids).logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_for_every_part_that_is_asked_for(dtype, tmp_path):
    """Keeping quantizers off the image tokenizer must not keep it in float32."""
    model, _, _ = build()
    model.save_pretrained(tmp_path)
    loaded = SeedForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
