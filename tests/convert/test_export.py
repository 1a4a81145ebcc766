"""`seed-hf export-lm`: any model or adapter becomes a plain folder of its base class, with the same logits."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny.language import NUM_QUERY_TOKENS, build_codes, build_seed_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from seed_hf import SeedForCausalLM, SeedImageProcessor, SeedProcessor, SeedTokenizer
from seed_hf.commands import main
from seed_hf.convert.export import export_language_model
from seed_hf.models.peft_seed import merge_adapters


# PEFT asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
VARIANTS = [
    ("opt", "projected_codes", True),
    ("opt", "learned", True),
    ("llama", "projected_codes", False),
    ("llama", "learned", False),
]


def save(folder, architecture="llama", embedding="projected_codes", tied=True):
    model, tokenizer = build_seed_model(architecture, embedding, tied)
    model.save_pretrained(folder)
    SeedProcessor(SeedImageProcessor(), tokenizer).save_pretrained(folder)
    return model, tokenizer


def save_adapter(base_folder, folder):
    """An adapter with random weights everywhere, as PEFT saves it; returns the model with it."""
    base = SeedForCausalLM.from_pretrained(base_folder)
    adapted = get_peft_model(
        base, LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **base.lora_settings())
    )
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1)
    adapted.save_pretrained(folder)
    return adapted.eval()


def mixed_ids(tokenizer):
    return torch.tensor([[5, 6, *tokenizer.image_token_layout.span(build_codes()), 7, 8]])


@pytest.mark.parametrize("with_adapter", [False, True])
@pytest.mark.parametrize("architecture, embedding, tied", VARIANTS)
def test_a_plain_folder_with_the_same_logits(architecture, embedding, tied, with_adapter, tmp_path, capsys):
    model, tokenizer = save(tmp_path / "model", architecture, embedding, tied)
    ids, source = mixed_ids(tokenizer), tmp_path / "model"
    if with_adapter:
        model, source = save_adapter(source, tmp_path / "adapter"), tmp_path / "adapter"
    wanted = model(ids).logits

    assert main(["export-lm", str(source), str(tmp_path / "plain")]) == 0

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    base_class = {"opt": "OPTForCausalLM", "llama": "LlamaForCausalLM"}[architecture]
    assert type(plain).__module__.startswith("transformers.models.") and type(plain).__name__ == base_class
    assert f"{base_class} with {wanted.shape[-1]} tokens" in capsys.readouterr().out
    torch.testing.assert_close(plain(ids).logits, wanted, atol=1e-5, rtol=1e-5)
    assert not list((tmp_path / "plain").glob("*.py"))
    assert not any("auto_map" in path.read_text() for path in (tmp_path / "plain").glob("*.json"))


def test_dtype_and_shards(tmp_path):
    save(tmp_path / "model")
    plain = export_language_model(tmp_path / "model", tmp_path / "plain", torch.bfloat16, max_shard_size="20KB")
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.bfloat16}
    assert len(list((tmp_path / "plain").glob("*.safetensors"))) > 1
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert loaded.dtype == torch.bfloat16
    for name, parameter in plain.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter)


def test_image_tokens_stay_in_replies(tmp_path):
    """Servers decode without special tokens, and take what a client writes as text."""
    _, tokenizer = save(tmp_path / "model")
    export_language_model(tmp_path / "model", tmp_path / "plain")
    plain = AutoTokenizer.from_pretrained(tmp_path / "plain")
    assert type(plain) is PreTrainedTokenizerFast
    assert '"PreTrainedTokenizerFast"' in (tmp_path / "plain" / "tokenizer_config.json").read_text()
    image = tokenizer.codes_to_text(build_codes())
    text = f"a photo{image} of a cat"
    ids = plain(text)["input_ids"]
    assert ids == tokenizer(text)["input_ids"]
    assert plain.decode([*ids, plain.eos_token_id], skip_special_tokens=True) == text
    processor = SeedProcessor(SeedImageProcessor(), tokenizer)
    assert torch.equal(processor.post_process_generation(text, "codes")[0], build_codes())
    # a client may take the tokenizer of either folder
    again = SeedTokenizer.from_pretrained(tmp_path / "plain")
    assert again.image_token_layout == tokenizer.image_token_layout
    assert again.num_query_tokens == NUM_QUERY_TOKENS
    chat = [{"role": "user", "content": "a cat"}]
    opened = plain.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, generation_mode="image")
    assert opened == "a cat<img>"


def test_merging_leaves_the_own_layers_only(tmp_path):
    _, tokenizer = save(tmp_path / "model")
    save_adapter(tmp_path / "model", tmp_path / "adapter")
    model = SeedForCausalLM.from_pretrained(tmp_path / "adapter")
    ids = mixed_ids(tokenizer)
    wanted = model(ids).logits
    merged = merge_adapters(model)
    assert set(merged.state_dict()) == set(SeedForCausalLM.from_pretrained(tmp_path / "model").state_dict())
    torch.testing.assert_close(merged(ids).logits, wanted, atol=1e-5, rtol=1e-5)
    merged.save_pretrained(tmp_path / "whole")
    assert (tmp_path / "whole" / "modeling_seed.py").is_file()  # it loads where the package is not installed
    again = SeedForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(again(ids).logits, wanted, atol=1e-5, rtol=1e-5)


def test_wrong_input_is_refused_and_nothing_written(tmp_path, capsys):
    model, _ = save(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert main(["export-lm", str(tmp_path / "model"), str(tmp_path / "plain")]) == 1
    assert "has no `tokenizer.json`" in capsys.readouterr().err
    (tmp_path / "tokenizer.json").rename(tmp_path / "model" / "tokenizer.json")
    model.image_embeddings.bias.data[0] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="`model_folder` is .* differ by nan"):
        export_language_model(tmp_path / "model", tmp_path / "plain")
    assert main(["export-lm", str(tmp_path / "nothing"), str(tmp_path / "plain")]) == 1
    assert not (tmp_path / "plain").exists()


def test_other_files_are_left_alone(tmp_path):
    save(tmp_path / "model")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"mine")
    for target in (tmp_path / "images", tmp_path / "images" / "a.png"):
        with pytest.raises(ValueError, match="`output_folder` is .* which holds other files"):
            export_language_model(tmp_path / "model", target)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.png"]
    # nor does the model itself become its own export, or another one its successor
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "link").symlink_to(tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    for target in ("model", "link", "bert"):
        with pytest.raises(ValueError, match="`output_folder` is .* which holds other files"):
            export_language_model(tmp_path / "model", tmp_path / target)
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in (tmp_path / "bert").iterdir()] == ["config.json"]
    for _ in range(2):  # an earlier export may be replaced
        export_language_model(tmp_path / "model", tmp_path / "plain")
