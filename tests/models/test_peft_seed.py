"""Every form of LoRA through every documented door: train, save, reload, merge; the logits stay the same."""

import json
import shutil

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_model_status, get_peft_model
from safetensors.torch import load_file, save_file
from tiny.language import (
    ARCHITECTURES,
    NUM_QUERY_TOKENS,
    build_codes,
    build_image_tokenizer,
    build_language_model,
    build_seed_model,
    build_tokenizer,
    placeholder_span,
)
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.peft import MIN_PEFT_VERSION
from transformers.utils import check_peft_version

from seed_hf import SeedForCausalLM


pytestmark = [
    # PEFT reads a property that transformers has renamed
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    # what PEFT has to say about GPT-2's layers and about tables of a tied model that are trained apart
    pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

FORMS = {
    # what the package recommends: image tokens' own weights are trained in full, the rest by LoRA
    "recommended": lambda model: model.lora_settings(),
    # nothing but LoRA
    "plain": lambda model: {"target_modules": model.lora_target_modules()},
    "all-linear": lambda model: {"target_modules": "all-linear"},
    # whole tables, as SEED-LLaMA's own training did; the second unties a tied model
    "tables": lambda model: {"target_modules": "all-linear", "modules_to_save": ["embed_tokens", "lm_head"]},
    "input table": lambda model: {"target_modules": "all-linear", "modules_to_save": ["embed_tokens"]},
    "tied tables": lambda model: {
        "target_modules": "all-linear", "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True,
    },
}  # fmt: skip
CASES = [
    # how a base ties its tables matters most where image tokens are rows of them
    *[(name, "learned", tied, "recommended") for name in ARCHITECTURES for tied in (True, False)],
    *[("opt", "projected_codes", tied, "recommended") for tied in (True, False)],
    *[(name, "projected_codes", name == "gpt2", "recommended") for name in ARCHITECTURES if name != "opt"],
    ("opt", "projected_codes", True, "plain"),
    ("llama", "projected_codes", False, "all-linear"),
    *[("opt", "learned", True, form) for form in ("plain", "tables", "input table", "tied tables")],
    *[("llama", "learned", False, form) for form in ("all-linear", "tables", "input table")],
]


def through_load_adapter(base, adapter):
    model = SeedForCausalLM.from_pretrained(base)
    model.load_adapter(adapter)
    return model


DOORS = {
    "PeftModel": lambda base, adapter: PeftModel.from_pretrained(SeedForCausalLM.from_pretrained(base), adapter),
    "AutoPeftModelForCausalLM": lambda base, adapter: AutoPeftModelForCausalLM.from_pretrained(adapter),
    "load_adapter": through_load_adapter,
    "SeedForCausalLM": lambda base, adapter: SeedForCausalLM.from_pretrained(adapter),
    "AutoModelForCausalLM": lambda base, adapter: AutoModelForCausalLM.from_pretrained(adapter),
    "AutoModelForImageTextToText": lambda base, adapter: AutoModelForImageTextToText.from_pretrained(adapter),
}


def mixed_ids(tokenizer):
    """Ids with text and a whole image in each row, `(2, 11)`."""
    layout = tokenizer.image_token_layout
    return torch.tensor([[5 + i, 6, *layout.span(build_codes(seed=i)), 7, 8, 9] for i in range(2)])


def train(model, ids, settings, steps=2):
    """A LoRA adapter on `model` after a few steps, in eval mode."""
    peft_model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings))
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(steps):
        loss = peft_model(ids, labels=ids, target_logits_only=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    peft_model.eval()
    assert peft_model(ids, labels=ids).loss < losses[0]
    return peft_model


@pytest.mark.parametrize("architecture, embedding, tied, form", CASES)
def test_every_form_through_every_door(architecture, embedding, tied, form, tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model, tokenizer = build_seed_model(architecture, embedding, tied)
    model.save_pretrained(base)
    ids = mixed_ids(tokenizer)
    untrained = model(ids).logits
    model = SeedForCausalLM.from_pretrained(base)
    peft_model = train(model, ids, FORMS[form](model))
    wanted = peft_model(ids).logits
    peft_model.save_pretrained(adapter)
    # the training script saves the processor beside the adapter; PEFT then compares sizes of vocabularies
    tokenizer.save_pretrained(adapter)
    for name, load in DOORS.items():
        torch.testing.assert_close(
            load(base, adapter).eval()(ids).logits, wanted, msg=lambda text, name=name: name + text
        )
    with peft_model.disable_adapter():
        torch.testing.assert_close(peft_model(ids).logits, untrained)

    merged = DOORS["PeftModel"](base, adapter).merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, wanted, atol=1e-5, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    again = SeedForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(again(ids).logits, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again.to_plain_language_model()(ids).logits, wanted, atol=1e-5, rtol=1e-4)
    for generate in (peft_model.generate, again.generate):
        out = generate(input_ids=ids[:, :2], attention_mask=torch.ones(2, 2), generation_mode="image", do_sample=False)
        assert out.shape == (2, 2 + NUM_QUERY_TOKENS + 2)


@pytest.mark.parametrize("embedding", ["projected_codes", "learned"])
def test_merging_in_place_and_taking_it_back(embedding, tmp_path):
    model, tokenizer = build_seed_model("llama", embedding)
    ids = mixed_ids(tokenizer)
    peft_model = train(model, ids, model.lora_settings())
    wanted = peft_model(ids).logits
    for change in (peft_model.merge_adapter, peft_model.unmerge_adapter):
        change()
        torch.testing.assert_close(peft_model(ids).logits, wanted, atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------------------------------------- on a plain base
def train_on_plain_base(architecture, embedding, tied, folder, config=True):
    """An adapter as the training script makes it: its base is the plain LM, its folder holds config and tokenizer."""
    tokenizer = build_tokenizer()
    build_language_model(architecture, tied=tied).save_pretrained(folder / "plain")
    language_model = AutoModelForCausalLM.from_pretrained(folder / "plain")
    image_tokenizer = build_image_tokenizer()
    model = SeedForCausalLM.from_language_model(
        language_model, tokenizer, image_tokenizer, image_token_embedding=embedding
    )
    model.name_or_path = model.config._name_or_path = str(folder / "plain")
    ids = mixed_ids(tokenizer)
    peft_model = train(model, ids, model.lora_settings())
    peft_model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(folder / "adapter")
    if config:
        model.config.save_pretrained(folder / "adapter")
    return peft_model, tokenizer, image_tokenizer, ids


@pytest.mark.parametrize(
    "architecture, embedding, tied",
    [("opt", "projected_codes", True), ("llama", "projected_codes", False), ("opt", "learned", True),
     ("llama", "learned", False)],
)  # fmt: skip
def test_an_adapter_on_a_plain_language_model_is_a_whole_model(architecture, embedding, tied, tmp_path):
    peft_model, tokenizer, image_tokenizer, ids = train_on_plain_base(architecture, embedding, tied, tmp_path)
    wanted = peft_model(ids).logits
    for loader in (SeedForCausalLM, AutoModelForCausalLM, AutoModelForImageTextToText):
        loaded, info = loader.from_pretrained(tmp_path / "adapter", output_loading_info=True)
        assert isinstance(loaded, SeedForCausalLM) and not loaded.training
        torch.testing.assert_close(loaded(ids).logits, wanted)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert get_model_status(loaded).active_adapters == ["default"]
    rebuilt = SeedForCausalLM.from_language_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "plain"), tokenizer, image_tokenizer,
        image_token_embedding=embedding,
    )  # fmt: skip
    torch.testing.assert_close(PeftModel.from_pretrained(rebuilt, tmp_path / "adapter")(ids).logits, wanted)


def test_an_adapter_takes_its_image_tokenizer(tmp_path):
    peft_model, tokenizer, image_tokenizer, _ = train_on_plain_base("llama", "projected_codes", True, tmp_path)
    placeholders = torch.tensor([[5, *placeholder_span(tokenizer.image_token_layout), 6]])
    pixel_values = torch.randn(1, 3, 28, 28)
    codes = image_tokenizer.encode(pixel_values)
    wanted = peft_model(placeholders, codes=codes).logits
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "adapter", image_tokenizer=image_tokenizer)
    torch.testing.assert_close(loaded(placeholders, pixel_values=pixel_values).logits, wanted)
    without = SeedForCausalLM.from_pretrained(tmp_path / "adapter", image_tokenizer=False)
    assert without.image_tokenizer is None
    # the codebook came out of the adapter: it tells a wrong image tokenizer
    with pytest.raises(ValueError, match="another codebook"):
        SeedForCausalLM.from_pretrained(tmp_path / "adapter", image_tokenizer=build_image_tokenizer(seed=1))


def test_an_adapter_that_makes_no_whole_model_is_refused(tmp_path):
    train_on_plain_base("llama", "projected_codes", True, tmp_path, config=False)
    with pytest.raises(ValueError, match="a plain language model, and has no `config.json`"):
        SeedForCausalLM.from_pretrained(tmp_path / "adapter")
    peft_model, *_ = train_on_plain_base("llama", "projected_codes", True, tmp_path)
    config_file = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config_file.write_text(json.dumps(config | {"modules_to_save": None}))
    with pytest.raises(ValueError, match="lacks vectors of the image tokens.*image_embeddings"):
        SeedForCausalLM.from_pretrained(tmp_path / "adapter")
    config_file.write_text(json.dumps(config))
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("q_proj.lora_B.weight")))
    save_file(weights, tmp_path / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing_keys.*q_proj.lora_B"):
        SeedForCausalLM.from_pretrained(tmp_path / "adapter")


def test_an_adapter_without_a_base_is_refused(tmp_path):
    """PEFT writes none for a model that was built in memory; the Hub would be asked for "None"."""
    model, _ = build_seed_model("llama")
    get_peft_model(model, LoraConfig(r=2, **model.lora_settings())).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="`base_model_name_or_path` in .*adapter_config.json of .* is None"):
        SeedForCausalLM.from_pretrained(tmp_path)


def test_rows_that_an_adapter_lacks_are_named(tmp_path):
    train_on_plain_base("opt", "learned", True, tmp_path)
    config_file = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["trainable_token_indices"] = config["trainable_token_indices"][2:]
    config_file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks vectors of the image tokens \(\[320, 321\]\)"):
        SeedForCausalLM.from_pretrained(tmp_path / "adapter")


def test_a_base_that_does_not_fit_is_refused_with_an_adapter_too(tmp_path):
    """transformers reports only what the adapter lacks."""
    model, tokenizer = build_seed_model("llama")
    model.save_pretrained(tmp_path / "base")
    peft_model = get_peft_model(
        SeedForCausalLM.from_pretrained(tmp_path / "base"), LoraConfig(r=2, **model.lora_settings())
    )
    peft_model.save_pretrained(tmp_path / "adapter")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights.pop("language_model.model.norm.weight")
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing_keys.*norm.weight"):
        SeedForCausalLM.from_pretrained(tmp_path / "adapter")


# ---------------------------------------------------------------------------------------------- several adapters
def transformers_takes_this_peft() -> bool:
    """Its own adapter methods ask for a lowest version, which may be newer than any PEFT (5.24: 0.22)."""
    try:
        check_peft_version(MIN_PEFT_VERSION)
    except ValueError:
        return False
    return True


def test_several_adapters_of_peft(tmp_path):
    model, tokenizer = build_seed_model("opt")
    ids = mixed_ids(tokenizer)
    model.save_pretrained(tmp_path / "base")
    model = SeedForCausalLM.from_pretrained(tmp_path / "base")
    untrained, wanted = model(ids).logits, {}
    torch.manual_seed(0)
    settings = LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **model.lora_settings())
    peft_model = get_peft_model(model, settings, "first").eval()
    peft_model.add_adapter("second", settings)
    for name in ("first", "second"):
        with torch.no_grad():
            model.image_embeddings.modules_to_save[name].bias.normal_()
        peft_model.set_adapter(name)
        wanted[name] = peft_model(ids).logits
    peft_model.save_pretrained(tmp_path)
    assert not torch.allclose(wanted["first"], wanted["second"])
    with peft_model.disable_adapter():
        torch.testing.assert_close(model(ids).logits, untrained)
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "second")
    torch.testing.assert_close(loaded(ids).logits, wanted["second"])
    loaded = PeftModel.from_pretrained(SeedForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "first", "first")
    loaded.load_adapter(tmp_path / "second", "second")
    for name in ("second", "first"):
        loaded.set_adapter(name)
        torch.testing.assert_close(loaded(ids).logits, wanted[name])


def test_adapters_of_transformers_own_interface(tmp_path):
    """`add_adapter`, `save_pretrained`, `set_adapter`, `disable_adapters`, `enable_adapters`, `delete_adapter`."""
    model, tokenizer = build_seed_model("opt")
    ids = mixed_ids(tokenizer)
    model.save_pretrained(tmp_path / "base")
    model = SeedForCausalLM.from_pretrained(tmp_path / "base")
    if not transformers_takes_this_peft():
        with pytest.raises(ValueError, match=f"use a version >= {MIN_PEFT_VERSION}"):
            model.add_adapter(LoraConfig(**model.lora_settings()))
        return
    untrained = model(ids).logits
    wanted = {}
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        model.add_adapter(LoraConfig(r=2, init_lora_weights=False, **model.lora_settings()), name)
        with torch.no_grad():
            model.image_embeddings.modules_to_save[name].bias.normal_()
        model.set_adapter(name)
        wanted[name] = model.eval()(ids).logits
        model.save_pretrained(tmp_path / name)
    assert not torch.allclose(wanted["first"], wanted["second"])
    model.set_adapter("first")
    torch.testing.assert_close(model(ids).logits, wanted["first"])
    model.disable_adapters()
    torch.testing.assert_close(model(ids).logits, untrained)
    model.enable_adapters()
    torch.testing.assert_close(model(ids).logits, wanted["first"])
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "second")
    torch.testing.assert_close(loaded(ids).logits, wanted["second"])
    loaded.load_adapter(tmp_path / "first", adapter_name="first")
    loaded.set_adapter("first")
    torch.testing.assert_close(loaded(ids).logits, wanted["first"])


def test_lora_on_everything_leaves_the_codes_alone():
    """`"all-linear"` reaches the image tokenizer too, but codes have no gradient: its adapters stay at zero."""
    tokenizer, image_tokenizer = build_tokenizer(), build_image_tokenizer()
    model = SeedForCausalLM.from_language_model(
        build_language_model(), tokenizer, image_tokenizer, include_image_tokenizer=True
    )
    ids = torch.tensor([[5, *placeholder_span(tokenizer.image_token_layout), 6, 7]])
    pixel_values = torch.randn(1, 3, 28, 28)
    codes = model.get_image_codes(pixel_values)
    settings = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    peft_model = get_peft_model(model, settings).train()
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=0.1)
    peft_model(ids, pixel_values=pixel_values, labels=ids).loss.backward()
    optimizer.step()
    assert any("image_tokenizer" in name and "lora_B" in name for name, _ in peft_model.named_parameters())
    assert torch.equal(model.get_image_codes(pixel_values), codes)


def test_an_adapter_beside_a_whole_model_loads_with_it(tmp_path):
    """transformers allows both in one folder; the base is then the folder itself."""
    model, tokenizer = build_seed_model("llama")
    ids = mixed_ids(tokenizer)
    model.save_pretrained(tmp_path / "both")
    peft_model = train(SeedForCausalLM.from_pretrained(tmp_path / "both"), ids, model.lora_settings())
    peft_model.save_pretrained(tmp_path / "adapter")
    for file in (tmp_path / "adapter").glob("adapter_*"):
        shutil.copy(file, tmp_path / "both")
    loaded = SeedForCausalLM.from_pretrained(tmp_path / "both")
    torch.testing.assert_close(loaded(ids).logits, peft_model(ids).logits)
