# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""LoRA on language models of this package: which layers it touches, how it is loaded and merged."""

import json
import os
import re
from collections.abc import Callable

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    find_adapter_config_file,
    is_peft_available,
    logging,
)


_HUB_ARGUMENTS = (
    "cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token",
)  # fmt: skip


def lora_target_modules(model: PreTrainedModel) -> str:
    """
    Gives a regular expression of every linear layer of the language model, for PEFT's `target_modules`.

    Layer names alone (`"fc1"`) or `"all-linear"` would also match the image tokenizer's layers.

    Args:
        model ([`SeedForCausalLM`]): The model to adapt.

    Returns:
        `str`: The expression; the head is not in it.
    """
    head = model.language_model.get_output_embeddings()
    head_name = next(name for name, module in model.language_model.named_modules() if module is head)
    names = set()
    for name, module in model.language_model.named_modules():
        is_linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        # where an adapter is in place already, PEFT keeps the layer itself as `base_layer`
        if is_linear and not name.startswith(head_name) and ".lora_" not in name:
            names.add(name.removesuffix(".base_layer").rsplit(".", 1)[-1])
    return rf"language_model\..*\.({'|'.join(sorted(map(re.escape, names)))})"


def lora_settings(model: PreTrainedModel) -> dict:
    """
    Gives keyword arguments of PEFT's `LoraConfig` that say where adapters go and what else is trained.

    Args:
        model ([`SeedForCausalLM`]): The model to adapt.

    Returns:
        `dict`: `target_modules` (see [`lora_target_modules`]), and the image tokens' own weights: `modules_to_save`
        with projected codes, `trainable_token_indices` with learned rows.
    """
    settings = {"target_modules": lora_target_modules(model)}
    if model.image_embeddings is not None:
        return settings | {"modules_to_save": ["image_embeddings"]}
    layout = model.config.image_token_layout
    # `<image>` too, though it is never embedded: its logit would differ with every new start of the table
    rows = list(range(layout.first_image_token_id, layout.end_token_id))
    if model.config.tie_word_embeddings:
        return settings | {"trainable_token_indices": rows}
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return settings | {"trainable_token_indices": {names[id(module)]: rows for module in ends}}


def find_adapter(path, kwargs: dict) -> tuple[dict, str, dict] | None:
    """Finds `adapter_config.json`, the place of the adapter and how to fetch it; `None` for a whole model."""
    if not is_peft_available():
        return None
    hub = {name: kwargs[name] for name in _HUB_ARGUMENTS if kwargs.get(name) is not None}
    # an Auto class has already followed an adapter to its base, and then says so
    given = dict(kwargs.get("adapter_kwargs") or {})
    followed = given.pop("_adapter_model_path", None)
    if followed is not None:
        path, hub = followed, {**{name: hub[name] for name in hub if name not in ("revision", "subfolder")}, **given}
        hub = {name: value for name, value in hub.items() if value is not None}
    config_file = find_adapter_config_file(str(path), **hub)
    if config_file is None:
        return None
    if any(os.path.isfile(os.path.join(path, name)) for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME)):
        return None  # a whole model beside its adapter: transformers knows what to do
    with open(config_file, encoding="utf-8") as file:
        config = json.load(file)
    return {"revision": None, **config}, path, hub


def load_with_adapter(model_class, load_base: Callable, adapter: tuple[dict, str, dict], *args, **kwargs):
    """
    Loads an adapter on the model that its `adapter_config.json` names.

    That base is a saved model of this package, or a plain language model of transformers (as the training script has
    it). Around a plain one the model is built anew: the adapter's folder must then hold `config.json` too, and the
    adapter the vectors of the image tokens, as with [`lora_settings`].

    Args:
        model_class (`type`): [`SeedForCausalLM`].
        load_base (`Callable`): Its `from_pretrained` for a folder with a whole model.
        adapter (`tuple`): What [`find_adapter`] returned.
        args, kwargs: As in `PreTrainedModel.from_pretrained`.

    Returns:
        The model, in evaluation mode, with the adapter active, not merged; with `output_loading_info` also the report.

    Raises:
        ValueError: The weights do not fit the configuration, or the adapter does not make up a whole model.
    """
    base, path, hub = adapter
    wants_info, adapter_name = kwargs.pop("output_loading_info", False), kwargs.pop("adapter_name", "default")
    kwargs = {name: value for name, value in kwargs.items() if name not in ("adapter_kwargs", "subfolder")}
    kwargs["revision"] = base["revision"]
    shared = {name: hub[name] for name in ("cache_dir", "local_files_only", "token") if name in hub}
    name = base.get("base_model_name_or_path")
    if not name:
        raise ValueError(
            f"`base_model_name_or_path` in the adapter_config.json of {path} is {name!r}; allowed: the folder or Hub "
            "id of the model that the adapter is for."
        )
    # only read: as a configuration, a base with code of its own would have to be trusted first
    base_config, _ = PreTrainedConfig.get_config_dict(name, revision=base["revision"], **shared)
    if base_config.get("model_type") == model_class.config_class.model_type:
        model = load_base(name, *args, **kwargs)
    else:
        model = _on_plain_base(model_class, name, base, path, hub, kwargs)
    # of the two reports transformers would keep the adapter's alone, and only warn, of tied weights too
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        info = model.load_adapter(path, adapter_name=adapter_name, adapter_kwargs=hub)
    finally:
        logging.set_verbosity(verbosity)
    info.missing_keys = _really_missing(model, info.missing_keys)
    problems = {key: getattr(info, key) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    problems = {key: sorted(map(str, names))[:10] for key, names in problems.items() if names}
    if problems:
        raise ValueError(f"`{path}` does not fit {name}: {problems}; allowed: none of these.")
    return (model, info.to_dict()) if wants_info else model


def _on_plain_base(model_class, name, adapter_config, path, hub, kwargs):
    """Builds the model around a plain language model; an adapter must hold everything that would be random."""
    config = kwargs.pop("config", None)
    for key in ("image_tokenizer_config", "key_mapping"):
        kwargs.pop(key, None)
    if config is None:
        # without a `config.json` beside the adapter this is that of the plain model
        values, _ = PreTrainedConfig.get_config_dict(path, **hub)
        if values.get("model_type") != model_class.config_class.model_type:
            raise ValueError(
                f"`{path}` is an adapter on {name}, a plain language model, and has no `config.json`; allowed: "
                "one beside it, as `model.config.save_pretrained(...)` writes it."
            )
        config = model_class.config_class.from_dict(values)
    # an adapter has no weights of an image tokenizer
    config.image_tokenizer_config = None
    language_model = AutoModelForCausalLM.from_pretrained(name, **kwargs)
    num_rows = language_model.get_input_embeddings().weight.shape[0]
    if config.image_token_embedding == "learned":
        language_model.resize_token_embeddings(config.vocab_size, mean_resizing=False)
        new = set(range(num_rows, config.vocab_size)) - _trained_rows(adapter_config)
    else:
        new = {"image_embeddings"} - set(adapter_config.get("modules_to_save") or ())
    if new:
        raise ValueError(
            f"`{path}` is an adapter on {name}, a plain language model, and lacks vectors of the image tokens "
            f"({sorted(new, key=str)[:10]}); allowed: an adapter made with `lora_settings()`."
        )
    return model_class._around(language_model, config).eval()


def _really_missing(model, names: set[str]) -> set[str]:
    """Leaves out the second names of tied weights, which a file holds once."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    loaded = {id(parameter) for name, parameter in parameters.items() if name not in names}
    return {name for name in names if name not in parameters or id(parameters[name]) not in loaded}


def _trained_rows(adapter_config: dict) -> set[int]:
    """Ids whose rows an adapter holds in every table that it lists."""
    rows = adapter_config.get("trainable_token_indices") or []
    tables = rows.values() if isinstance(rows, dict) else [rows]
    return set.intersection(*map(set, tables)) if tables else set()


def enable_saved_modules(model: PreTrainedModel) -> None:
    """Undoes `disable_adapters` for the vectors of the image tokens too, which transformers forgets."""
    if is_peft_available():
        from peft.utils import ModulesToSaveWrapper

        for module in model.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.enable_adapters(enabled=True)


def merge_adapters(model: PreTrainedModel) -> PreTrainedModel:
    r"""
    Merges the adapters that [`~SeedForCausalLM.from_pretrained`] left active, in place.

    PEFT merges only what its own `PeftModel` wraps (`PeftModel.merge_and_unload`).

    Args:
        model (`PreTrainedModel`): Model with any number of adapters.

    Returns:
        `PreTrainedModel`: The same model, without adapters in its layers.
    """
    replaced = []
    for name, module in list(model.named_modules()):
        if name.startswith(tuple(replaced)):
            continue  # a part of a layer that is no longer there
        if hasattr(module, "unload_and_optionally_merge_module"):
            settings = {"merge": True, "safe_merge": False, "adapter_names": None}
            own_layer = module.unload_and_optionally_merge_module(**settings)
        elif hasattr(module, "merge") and hasattr(module, "get_base_layer"):
            module.merge()
            own_layer = module.get_base_layer()
        else:
            continue
        model.set_submodule(name, own_layer)
        replaced.append(f"{name}.")
    if getattr(model, "_hf_peft_config_loaded", False):
        # else transformers would look for an adapter to save, and name the weights as its file does
        model._hf_peft_config_loaded, model._weight_conversions = False, None
        del model.peft_config
    model.tie_weights()
    return model


__all__ = [
    "enable_saved_modules",
    "find_adapter",
    "load_with_adapter",
    "lora_settings",
    "lora_target_modules",
    "merge_adapters",
]
