"""Loading a LoRA adapter together with the model that it was trained on."""

import json
import os

from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, find_adapter_config_file, is_peft_available


_HUB_ARGUMENTS = (
    "cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token",
)  # fmt: skip


class AdapterLoadingMixin:
    """Makes `from_pretrained` accept an adapter, whatever its base is; list it before the strict loading."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        r"""
        Load a model, or an adapter on the model that its `adapter_config.json` names.

        That base is a saved model of this class, or a plain language model of transformers (as the training script
        has it). Around a plain one the model is built anew: the adapter's folder must then hold `config.json` too, and
        the adapter the vectors of the image tokens, as with [`~SeedForCausalLM.lora_settings`].

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            args, kwargs: As in `PreTrainedModel.from_pretrained`.

        Returns:
            The model, in evaluation mode; an adapter is active, not merged.

        Raises:
            ValueError: The weights do not fit the configuration, or the adapter does not make up a whole model.
        """
        adapter = _find_adapter(pretrained_model_name_or_path, kwargs)
        if adapter is None:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        base, path, hub = adapter
        wants_info, adapter_name = kwargs.pop("output_loading_info", False), kwargs.pop("adapter_name", "default")
        kwargs = {name: value for name, value in kwargs.items() if name not in ("adapter_kwargs", "subfolder")}
        kwargs["revision"] = base["revision"]
        shared = {name: hub[name] for name in ("cache_dir", "local_files_only", "token") if name in hub}
        name = base["base_model_name_or_path"]
        # only read: as a configuration, a base with code of its own would have to be trusted first
        base_config, _ = PreTrainedConfig.get_config_dict(name, revision=base["revision"], **shared)
        if base_config.get("model_type") == cls.config_class.model_type:
            model = super().from_pretrained(name, *args, **kwargs)
        else:
            model = cls._on_plain_base(name, base, path, hub, kwargs)
        # of the two reports transformers would keep the adapter's alone, and only warn
        info = model.load_adapter(path, adapter_name=adapter_name, adapter_kwargs=hub)
        info.missing_keys = _really_missing(model, info.missing_keys)
        problems = {key: getattr(info, key) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        problems = {key: sorted(map(str, names))[:10] for key, names in problems.items() if names}
        if problems:
            raise ValueError(f"`{path}` does not fit {name}: {problems}; allowed: none of these.")
        return (model, info.to_dict()) if wants_info else model

    def enable_adapters(self):
        """Undoes `disable_adapters`, for the vectors of the image tokens too, which transformers forgets."""
        super().enable_adapters()
        if is_peft_available():
            from peft.utils import ModulesToSaveWrapper

            for module in self.modules():
                if isinstance(module, ModulesToSaveWrapper):
                    module.enable_adapters(enabled=True)

    @classmethod
    def _on_plain_base(cls, name, adapter_config, path, hub, kwargs):
        """The model around a plain language model; what the adapter does not hold would be random."""
        config = kwargs.pop("config", None)
        for key in ("image_tokenizer_config", "key_mapping"):
            kwargs.pop(key, None)
        if config is None:
            # without a `config.json` beside the adapter this is that of the plain model
            values, _ = PreTrainedConfig.get_config_dict(path, **hub)
            if values.get("model_type") != cls.config_class.model_type:
                raise ValueError(
                    f"`{path}` is an adapter on {name}, a plain language model, and has no `config.json`; allowed: "
                    "one beside it, as `model.config.save_pretrained(...)` writes it."
                )
            config = cls.config_class.from_dict(values)
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
        return cls._around(language_model, config).eval()


def _find_adapter(path, kwargs: dict) -> tuple[dict, str, dict] | None:
    """`adapter_config.json`, where the adapter is, and how it is fetched; `None` for a model."""
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


def _really_missing(model, names: set[str]) -> set[str]:
    """Without the second names of tied weights, which a file has once."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    loaded = {id(parameter) for name, parameter in parameters.items() if name not in names}
    return {name for name in names if name not in parameters or id(parameters[name]) not in loaded}


def _trained_rows(adapter_config: dict) -> set[int]:
    """Ids whose rows an adapter holds in every table that it lists."""
    rows = adapter_config.get("trainable_token_indices") or []
    tables = rows.values() if isinstance(rows, dict) else [rows]
    return set.intersection(*map(set, tables)) if tables else set()


__all__ = ["AdapterLoadingMixin"]
