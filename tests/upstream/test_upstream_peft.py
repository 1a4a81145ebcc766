"""peft's common checks on SeedForCausalLM: every one that takes a model and a configuration, with LoRA."""

import inspect

import pytest
import torch
from peft import LoraConfig
from peft_tests.testing_common import PeftCommonTester
from tiny.language import build_seed_model

from seed_hf import SeedForCausalLM


MODELS = {"opt": ("opt", "projected_codes", True), "llama": ("llama", "learned", False)}
# random at the start, so that an adapter that does nothing is noticed
LORA = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05, "bias": "none", "task_type": "CAUSAL_LM"}
LORA |= {"target_modules": ["q_proj", "o_proj", "out_proj"], "init_lora_weights": False}
# further arguments of single checks
ARGUMENTS = {"dtype": torch.bfloat16, "raises_err": False, "test_name": ""}
# what peft does not do, or its checks do not expect, where a module is trained whole beside the adapters, as the
# projection of the codes is
NOT_WITH_WHOLE_MODULES = {
    "_test_mixed_adapter_batches": "peft mixes them in a batch for single layers only",
    "_test_generate_with_mixed_adapter_batches_and_beam_search": "peft mixes them in a batch for single layers only",
    "_test_weighted_combination_of_adapters": "peft refuses to weigh them",
    "_test_lora_conversion": "peft converts parameters of whole modules, and the projection has a buffer",
    "_test_training_gradient_checkpointing": "the check wants gradients in adapters only",
    "_test_training_layer_indexing": "the check wants gradients in adapters only",
}


def common_checks() -> list[str]:
    """Names of the checks; one that a release adds is run too."""
    functions = inspect.getmembers(PeftCommonTester, inspect.isfunction)
    return [name for name, each in functions if {"model_id", "config_cls"} <= set(inspect.signature(each).parameters)]


class SeedPeftTester(PeftCommonTester):
    """What the checks ask for."""

    transformers_class = SeedForCausalLM

    def prepare_inputs_for_testing(self):
        ids = torch.tensor([[1, 1, 1], [1, 2, 1]])
        return {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 1]])}


@pytest.fixture(scope="module")
def model_folders(tmp_path_factory):
    folders = {}
    for name, arguments in MODELS.items():
        folders[name] = str(tmp_path_factory.mktemp(name))
        build_seed_model(*arguments)[0].save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("with_images", [False, True], ids=["layers", "layers_and_images"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("check", common_checks())
def test_peft(model_folders, model, with_images, check):
    """With adapters on the layers only, and with the image tokens' own weights trained beside them."""
    if check == "_test_safe_merge" and MODELS[model][-1]:
        pytest.skip("the check writes weights with `save_file`, which refuses tied ones")
    settings = dict(LORA)
    if with_images:
        settings = {**SeedForCausalLM.from_pretrained(model_folders[model]).lora_settings(), **LORA}
        if "modules_to_save" in settings and check in NOT_WITH_WHOLE_MODULES:
            pytest.skip(NOT_WITH_WHOLE_MODULES[check])
    function = getattr(SeedPeftTester(), check)
    extra = {name: value for name, value in ARGUMENTS.items() if name in inspect.signature(function).parameters}
    function(model_id=model_folders[model], config_cls=LoraConfig, config_kwargs=settings, **extra)
