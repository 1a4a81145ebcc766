"""transformers' common model and configuration checks on SeedImageTokenizer."""

import copy
import tempfile
import unittest

import torch
from tiny.image_tokenizer import TINY
from tiny_upstream import without_strict_loading
from transformers import PreTrainedModel
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig


BATCH_SIZE = 3


class SeedImageTokenizerTester:
    """What the checks ask for: a toy configuration and inputs that fit it."""

    is_training = True
    batch_size = BATCH_SIZE
    # of the Causal Q-Former, whose hidden states and attentions the model gives
    num_hidden_layers = TINY["qformer_config"]["num_hidden_layers"]
    num_attention_heads = TINY["qformer_config"]["num_attention_heads"]
    hidden_size = TINY["qformer_config"]["hidden_size"]
    seq_length = TINY["num_query_tokens"]

    def get_config(self):
        # as wide as the Q-Former, since a check takes the width of image features from here
        vision_config = {**TINY["vision_config"], "hidden_size": self.hidden_size}
        # with this loss every weight has a part in the objective of stage 2
        return SeedImageTokenizerConfig(
            **{**TINY, "vision_config": vision_config, "code_contrastive_loss_weight": 1.0}
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"pixel_values": torch.randn(self.batch_size, 3, 28, 28)}


class SeedImageTokenizerTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (SeedImageTokenizer,)
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True  # not before 2023, but the check reads a date in the source
    test_resize_embeddings = False  # there is no table of tokens

    def setUp(self):
        self.model_tester = SeedImageTokenizerTester()
        self.config_tester = ConfigTester(
            self, config_class=SeedImageTokenizerConfig, has_text_modality=False, codebook_size=32
        )
        generator = torch.Generator().manual_seed(0)
        self.text = {"input_ids": torch.randint(50, (BATCH_SIZE, 6), generator=generator)}
        self.targets = torch.randn(
            BATCH_SIZE, TINY["num_generation_tokens"], TINY["generation_dim"], generator=generator
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        if return_labels:
            inputs.update(self.text, generation_targets=self.targets)
        return inputs

    def _prepare_config_and_inputs_for_retain_grad_hidden_states_attentions(self):
        """The check takes the gradient of the first output: with targets that is the loss, without them the codes."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        return config, self._prepare_for_class(inputs, SeedImageTokenizer, return_labels=True)

    def _text_features_prepare_config_and_inputs(self):
        config = self.model_tester.get_config()
        config.text_config = config.qformer_config  # captions go through the Q-Former
        return config, dict(self.text)

    def test_model_get_set_embeddings(self):
        """The check wants a table of tokens; here it is a convolution over patches."""
        model = SeedImageTokenizer(self.model_tester.get_config())
        patches = model.get_input_embeddings()
        self.assertIsInstance(patches, torch.nn.Conv2d)
        other = copy.deepcopy(patches)
        model.set_input_embeddings(other)
        self.assertIs(model.get_input_embeddings(), other)
        self.assertIs(model.vision_model.embeddings.patch_embedding, other)
        self.assertIsNone(model.get_output_embeddings())

    def test_model_weights_reload_no_missing_tied_weights(self):
        with without_strict_loading(SeedImageTokenizer):
            super().test_model_weights_reload_no_missing_tied_weights()

    def test_can_init_all_missing_weights(self):
        with without_strict_loading(SeedImageTokenizer):
            super().test_can_init_all_missing_weights()

    def test_sdpa_can_dispatch_composite_models(self):
        """The check knows models of a vision part and a language model by name; ours has other parts."""
        with tempfile.TemporaryDirectory() as folder:
            SeedImageTokenizer(self.model_tester.get_config()).save_pretrained(folder)
            for attention in ("sdpa", "eager"):
                model = SeedImageTokenizer.from_pretrained(folder, attn_implementation=attention)
                parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
                self.assertGreater(len(parts), 4)
                self.assertEqual({part.config._attn_implementation for part in parts}, {attention})
