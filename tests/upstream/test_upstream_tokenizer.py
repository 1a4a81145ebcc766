"""transformers' common tokenizer checks on SeedTokenizer."""

import unittest

from tiny.language import build_base_tokenizer, build_tokenizer
from transformers_tests.test_tokenization_common import TokenizerTesterMixin

from seed_hf import SeedTokenizer


class SeedTokenizerChecks(TokenizerTesterMixin):
    """The checks for one kind of base tokenizer; where they want published numbers, they get those of the base."""

    tokenizer_class = SeedTokenizer
    test_tokenizer_from_extractor = False  # it has no vocabulary of its own to be built from
    kind = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        build_tokenizer(cls.kind).save_pretrained(cls.tmpdirname)
        cls.from_pretrained_id = [cls.tmpdirname]
        base, text = build_base_tokenizer(cls.kind), cls.integration_test_input_string
        cls.integration_expected_tokens = base.tokenize(text)
        cls.integration_expected_token_ids = base.encode(text, add_special_tokens=False)
        cls.integration_expected_decoded_text = base.decode(cls.integration_expected_token_ids)


class SeedTokenizerGPT2Test(SeedTokenizerChecks, unittest.TestCase):
    """As OPT: bytes, nothing unknown."""

    kind = "gpt2"


class SeedTokenizerLlamaTest(SeedTokenizerChecks, unittest.TestCase):
    """As LLaMA: words with a mark for the space, a begin token, unknown characters."""

    kind = "llama"
