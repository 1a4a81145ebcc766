"""transformers' common model, configuration and training checks on SeedForCausalLM."""

import tempfile
import unittest
import warnings
from unittest import mock

import torch
from tiny.image_tokenizer import TINY
from tiny.language import placeholder_span
from tiny_upstream import without_strict_loading
from transformers import DynamicCache, LlamaConfig, OPTConfig, PreTrainedModel
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin
from transformers_tests.test_training_mixin import TrainingTesterMixin

from seed_hf import SeedConfig, SeedForCausalLM


TEXT_TOKENS = 30
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
SPECIALS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
OPT = OPTConfig(vocab_size=TEXT_TOKENS, word_embed_proj_dim=32, ffn_dim=64, **SIZES, **SPECIALS)
# rows for the codes, and 21 that nothing uses, since the checks take some away
ROWS = TEXT_TOKENS + TINY["codebook_size"] + 3 + 21
LLAMA = LlamaConfig(vocab_size=ROWS, intermediate_size=64, num_key_value_heads=2, **SIZES, **SPECIALS)


class SeedForCausalLMTester:
    """What the checks ask for: a toy configuration and a batch with an image in each text."""

    is_training = True
    batch_size = 3
    seq_length = 7 + TINY["num_query_tokens"] + 2
    num_hidden_layers = SIZES["num_hidden_layers"]
    num_attention_heads = SIZES["num_attention_heads"]
    hidden_size = SIZES["hidden_size"]

    def __init__(self, **settings):
        self.settings = settings

    def get_config(self):
        sizes = {name: TINY[name] for name in ("codebook_size", "num_query_tokens", "code_dim")}
        text_config = self.settings["text_config"].to_dict()
        return SeedConfig(image_tokenizer_config=TINY, **{**sizes, **self.settings, "text_config": text_config})

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        text = torch.randint(1, TEXT_TOKENS, (self.batch_size, 7))
        span = torch.tensor(placeholder_span(config.image_token_layout)).expand(self.batch_size, -1)
        ids = torch.cat([text[:, :2], span, text[:, 2:]], dim=1)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return config, {**inputs, "pixel_values": torch.randn(self.batch_size, 3, 28, 28)}


class SeedForCausalLMChecks(ModelTesterMixin, TrainingTesterMixin):
    """The checks for one kind of language model; `settings` are fields of its SeedConfig."""

    all_model_classes = (SeedForCausalLM,)
    model_tester = None
    settings = {}
    _is_composite = True
    # of the check of `get_image_features`, which looks for the width in the settings of an encoder
    skip_test_image_features_output_shape = True
    test_can_init_all_missing_weights_before_2023 = True  # not before 2023, but the check reads a date in the source

    def setUp(self):
        self.model_tester = SeedForCausalLMTester(**self.settings)
        self.config_tester = ConfigTester(self, config_class=SeedConfig, codebook_size=32)

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_inputs_embeds(self):
        """The check looks every id up in the table of tokens, where images have no rows: text then."""
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        model = SeedForCausalLM(config).eval()
        ids = torch.randint(1, TEXT_TOKENS, (2, 5))
        with torch.no_grad():
            embedded = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
            torch.testing.assert_close(embedded, model(ids).logits)

    @unittest.skip("the archive has no GenerationTesterMixin; tests/models/test_generation_seed.py makes its checks")
    def test_generation_tester_mixin_inheritance(self):
        pass

    def test_correct_missing_keys(self):
        """The folder of the model without head is whole, since the language model that it wraps has one."""
        model = SeedForCausalLM(self.model_tester.get_config())
        with tempfile.TemporaryDirectory() as folder:
            model.base_model.save_pretrained(folder)
            _, info = SeedForCausalLM.from_pretrained(folder, output_loading_info=True)
        self.assertFalse(info["missing_keys"])

    def test_model_get_set_embeddings(self):
        """The check asks for one `nn.Linear`, where the head may be put together from text and codes."""
        model = SeedForCausalLM(self.model_tester.get_config())
        model.set_input_embeddings(table := torch.nn.Embedding(10, 10))
        self.assertIs(model.get_input_embeddings(), table)
        self.assertEqual(model.get_output_embeddings().weight.shape, (model.config.vocab_size, 32))

    @unittest.skip("its image features are vectors of image tokens; those of the encoder are the image tokenizer's")
    def test_get_image_features_hidden_states(self):
        pass

    test_get_image_features_attentions = test_get_image_features_hidden_states

    def test_bc_cache_name_forward(self):
        """The check looks for `cache` among the arguments of `forward`, where ours hands over either name unnamed."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model, caches = SeedForCausalLM(config).eval(), {}
        for name in ("past_key_values", "cache"):
            caches[name] = DynamicCache(config=config.get_text_config())
            with warnings.catch_warnings(record=True) as said, torch.no_grad():
                warnings.simplefilter("always")
                output = model(**inputs, use_cache=True, **{name: caches[name]})
            self.assertIs(output["cache"], caches[name])
            warned = any("`past_key_values` is deprecated" in str(warning.message) for warning in said)
            self.assertEqual(warned, name == "past_key_values")
        for old, new in zip(caches["past_key_values"].layers, caches["cache"].layers, strict=True):
            torch.testing.assert_close(old.keys, new.keys)
            torch.testing.assert_close(old.values, new.values)

    def test_model_weights_reload_no_missing_tied_weights(self):
        with without_strict_loading(SeedForCausalLM):
            super().test_model_weights_reload_no_missing_tied_weights()

    def test_can_init_all_missing_weights(self):
        with without_strict_loading(SeedForCausalLM):
            super().test_can_init_all_missing_weights()

    def test_keep_in_fp32_modules(self):
        """The field says what quantizers leave alone; where a dtype is asked for, every part has it."""
        with tempfile.TemporaryDirectory() as folder:
            SeedForCausalLM(self.model_tester.get_config()).save_pretrained(folder)
            model = SeedForCausalLM.from_pretrained(folder, dtype=torch.float16)
        self.assertEqual(SeedForCausalLM._keep_in_fp32_modules, ["image_tokenizer"])
        self.assertEqual({parameter.dtype for parameter in model.parameters()}, {torch.float16})

    def test_sdpa_can_dispatch_composite_models(self):
        """The check knows parts that see by other names than `image_tokenizer`."""
        with tempfile.TemporaryDirectory() as folder:
            SeedForCausalLM(self.model_tester.get_config()).save_pretrained(folder)
            for attention in ("sdpa", "eager"):
                model = SeedForCausalLM.from_pretrained(folder, attn_implementation=attention)
                parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
                self.assertGreater(len(parts), 6)
                self.assertEqual({part.config._attn_implementation for part in parts}, {attention})


class SeedOPTTest(SeedForCausalLMChecks, unittest.TestCase):
    """As in the paper: OPT, tied, and the vectors of image tokens projected from the codebook."""

    settings = {"text_config": OPT, "image_token_embedding": "projected_codes"}
    test_resize_embeddings = False  # the codebook and the text tokens fix the vocabulary

    def test_attn_implementation_composite_models(self):
        """The check writes to what `get_text_config()` gives: here a copy, which counts the image tokens too."""
        with mock.patch.object(SeedConfig, "get_text_config", lambda config, **kwargs: config.text_config):
            super().test_attn_implementation_composite_models()


class SeedLlamaTest(SeedForCausalLMChecks, unittest.TestCase):
    """As SEED-LLaMA: LLaMA, untied, and image tokens among its own."""

    settings = {"text_config": LLAMA, "image_token_embedding": "learned", "first_image_token_id": TEXT_TOKENS}
