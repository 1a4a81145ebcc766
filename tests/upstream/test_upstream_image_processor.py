"""transformers' common image processor checks on SeedImageProcessor."""

import unittest

from tiny_upstream import without_code_files
from transformers_tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin

from seed_hf import SeedImageProcessor


class SeedImageProcessingTester(ImageProcessingTester):
    """What the checks ask for: settings of a small processor."""

    def __init__(self, parent):
        super().__init__(parent, size={"height": 20, "width": 20}, image_mean=[0.5] * 3, image_std=[0.25] * 3)

    def _get_image_processing_classes(self):
        """The original takes them from the folder's name."""
        return {"pil": SeedImageProcessor}


class SeedImageProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = SeedImageProcessingTester

    def setUp(self):
        super().setUp()
        self.enterContext(without_code_files(SeedImageProcessor))

    def test_call_numpy_4_channels(self):
        """The check wants four channels back; the model has three, so the fourth is read as transparency."""
        pictures = self.image_processor_tester.prepare_image_inputs(
            num_channels=4, equal_resolution=True, numpify=True
        )
        for inputs, count in ((pictures[0], 1), (pictures, len(pictures))):
            pixel_values = SeedImageProcessor(**self.image_processor_dict)(inputs, return_tensors="pt").pixel_values
            self.assertEqual(tuple(pixel_values.shape), (count, 3, 20, 20))

    @unittest.skip("it asks AutoImageProcessor in a process without this package; and no test here has torchvision")
    def test_pil_can_run_without_torchvision(self):
        pass

    @unittest.skip("torchvision would give other codes than Pillow, on which the published ones rest")
    def test_new_models_require_torchvision_backend(self):
        pass
