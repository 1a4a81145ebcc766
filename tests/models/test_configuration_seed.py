"""Configurations out of which nothing can be built: refused at once, with the range that is allowed."""

import json

import pytest
from transformers import AutoConfig, Blip2QFormerConfig, OPTConfig

from seed_hf import SeedConfig, SeedImageTokenizerConfig
from seed_hf.models import configuration_seed_image_tokenizer


HUGE = 10**12


@pytest.mark.parametrize(
    "values, name",
    [
        ({"num_query_tokens": HUGE}, "num_query_tokens"),
        ({"codebook_size": HUGE}, "codebook_size"),
        ({"mlp_head_sizes": [256, HUGE]}, "mlp_head_sizes"),
        ({"generation_dim": -1}, "generation_dim"),
        ({"vision_config": {"num_hidden_layers": HUGE}}, "vision_config.num_hidden_layers"),
        ({"vision_config": {"image_size": HUGE}}, "vision_config.image_size"),
        ({"qformer_config": {"hidden_size": HUGE}}, "qformer_config.hidden_size"),
        ({"qformer_config": {"vocab_size": -5}}, "qformer_config.vocab_size"),
        ({"decoder_config": {"intermediate_size": HUGE}}, "decoder_config.intermediate_size"),
        ({"reverse_qformer_config": {"num_attention_heads": HUGE}}, "reverse_qformer_config.num_attention_heads"),
    ],
)
def test_sizes_of_an_image_tokenizer(values, name, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` is .*; allowed: 0 to"):
        SeedImageTokenizerConfig(**values)
    # as it comes from somebody else, alone or inside a language model
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "seed_image_tokenizer", **values}))
    with pytest.raises(ValueError, match=f"`{name}` is .*; allowed: 0 to"):
        AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"`image_tokenizer_config.{name}` is .*; allowed: 0 to"):
        SeedConfig(image_tokenizer_config=values)


@pytest.mark.parametrize(
    "values, name",
    [
        ({"codebook_size": HUGE}, "codebook_size"),
        ({"text_config": {"model_type": "gpt2", "n_layer": HUGE}}, "text_config.n_layer"),
        # its configuration alone would make a list of as many entries
        ({"text_config": {"model_type": "qwen2", "num_hidden_layers": HUGE}}, "text_config.num_hidden_layers"),
        ({"text_config": {"model_type": "opt", "ffn_dim": HUGE}}, "text_config.ffn_dim"),
        ({"text_config": {"model_type": "llama", "vocab_size": HUGE}}, "text_config.vocab_size"),
        ({"text_config": OPTConfig(hidden_size=HUGE)}, "text_config.hidden_size"),
    ],
)
def test_sizes_of_a_language_model(values, name):
    with pytest.raises(ValueError, match=f"`{name}` is .*; allowed: 0 to"):
        SeedConfig(**values)


def test_limits_can_be_changed(monkeypatch):
    with pytest.raises(ValueError, match=r"a larger `SIZE_LIMITS\['code_dim'\]`"):
        SeedImageTokenizerConfig(code_dim=2**17)
    monkeypatch.setitem(configuration_seed_image_tokenizer.SIZE_LIMITS, "code_dim", 2**17)
    assert SeedImageTokenizerConfig(code_dim=2**17).code_dim == 2**17


def test_full_sizes_are_far_below_the_limits():
    """Twice the depth and four times the width of the published models."""
    vision = {"num_hidden_layers": 78, "hidden_size": 5632, "image_size": 896, "intermediate_size": 4 * 5632}
    config = SeedImageTokenizerConfig(vision_config=vision, codebook_size=4 * 8192, num_query_tokens=256)
    assert config.vision_config.num_hidden_layers == 78
    assert SeedConfig(text_config={"model_type": "llama", "vocab_size": 2 * 10**6, "max_position_embeddings": 10**7})


def test_a_part_that_two_configurations_share_stays_as_it_is():
    shared = Blip2QFormerConfig(hidden_size=48, num_attention_heads=4)
    before = shared.to_dict()
    first = SeedImageTokenizerConfig(qformer_config=shared, use_text_tower=True)
    SeedImageTokenizerConfig(qformer_config=shared)
    assert first.qformer_config.use_qformer_text_input and shared.to_dict() == before
