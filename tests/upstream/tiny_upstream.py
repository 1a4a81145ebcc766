"""What several of the peers' suites need."""

from contextlib import ExitStack
from unittest import mock

from transformers import PreTrainedModel


def without_strict_loading(model_class):
    """For checks that load a file which lacks weights: our loader refuses it, so they run on what is beneath."""
    lenient = classmethod(PreTrainedModel.from_pretrained.__func__)
    return mock.patch.object(model_class, "from_pretrained", lenient)


def without_code_files(*classes):
    """For checks that compare what was saved with what is loaded: classes of transformers save no code beside it."""
    stack = ExitStack()
    for each in classes:
        stack.enter_context(mock.patch.object(each, "_auto_class", None))
    return stack
