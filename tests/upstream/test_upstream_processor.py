"""transformers' common processor checks on SeedProcessor."""

import unittest

from tiny.language import build_tokenizer
from tiny_upstream import without_code_files
from transformers import ProcessorMixin
from transformers_tests.test_processing_common import ProcessorTesterMixin

from seed_hf import SeedImageProcessor, SeedProcessor, SeedTokenizer


class SeedProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = SeedProcessor

    @classmethod
    def setUpClass(cls):
        cls.enterClassContext(without_code_files(SeedProcessor, SeedImageProcessor, SeedTokenizer))
        super().setUpClass()

    @staticmethod
    def does_processor_return_mm_offsets(processor_class, method_name):
        """The original compares with the first base class, which here is a mixin of ours."""
        return getattr(processor_class, method_name) is not getattr(ProcessorMixin, method_name)

    @classmethod
    def _setup_tokenizer(cls):
        return build_tokenizer()

    @classmethod
    def _setup_image_processor(cls):
        return SeedImageProcessor(size={"height": 28, "width": 28})

    def test_if_input_has_mismatching_tokens_and_mm_data(self):
        """The check wants transformers' words; ours name the argument and the numbers."""
        images = self.prepare_images_inputs(batch_size=4)
        text = self.prepare_text_inputs(batch_size=3, modalities=["image"])
        for wrong in (images, [[image] for image in images]):
            with self.assertRaisesRegex(ValueError, "`text` has 3 `<image>` but 4|`images` has 4 lists; allowed: 3"):
                self.get_processor()(images=wrong, text=text, return_tensors="pt", padding=True)
