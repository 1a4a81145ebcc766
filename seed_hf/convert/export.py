"""A language model of this package to a folder that any server for its base architecture runs."""

import json
import os
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file, find_adapter_config_file, logging

from ..hub.json_files import read_json
from ..models.image_tokens_seed import ImageTokenLayout
from ..models.modeling_seed import SeedForCausalLM
from ..models.peft_seed import merge_adapters
from ..models.tokenization_seed import SeedTokenizer
from .grammar import write_grammars


logger = logging.get_logger(__name__)

# relative to the largest logit; rounding in float32 stays below it, also over many layers
LOGIT_TOLERANCE = 1e-4


def export_language_model(
    model_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "5GB",
    revision: str | None = None,
    grammar: bool = False,
) -> PreTrainedModel:
    r"""
    Writes a language model as its plain base class, with image tokens as ordinary vocabulary.

    The result needs nothing of this package: `AutoModelForCausalLM` and every server for the architecture load it. Its
    tokenizer writes image tokens as text (`<img><img_00003>...</img>`), which
    [`~SeedProcessor.post_process_generation`] turns into pictures. Before anything is written, its logits are
    compared with those of the given model, in float32.

    Args:
        model_folder (`str` or `os.PathLike`): Folder or Hub id of a [`SeedForCausalLM`], or of a LoRA adapter of one,
            which is merged.
        output_folder (`str` or `os.PathLike`): Folder to write, made if missing.
        dtype (`torch.dtype`, defaults to `torch.float32`): Type of the weights to write.
        max_shard_size (`str`, defaults to `"5GB"`): Size of the largest weights file.
        revision (`str`, *optional*): Branch, tag or commit of a repository on the Hub.
        grammar (`bool`, defaults to `False`): Whether to write [`write_grammars`] into the folder `grammar`, too.

    Returns:
        `PreTrainedModel`: The model that was written, for example a `LlamaForCausalLM`.

    Raises:
        ValueError: The weights or the tokenizer do not fit the model, the logits differ, or `output_folder` holds
            anything but an earlier export.

    Example:

    ```python
    >>> import tempfile
    >>> from seed_hf.convert.export import export_language_model
    >>> from seed_hf.mini import mini_language_model_path

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     type(export_language_model(mini_language_model_path(), folder)).__name__
    'LlamaForCausalLM'

    ```
    """
    hub, output_folder = {"revision": revision}, Path(output_folder)
    _check_output(output_folder)
    model = SeedForCausalLM.from_pretrained(model_folder, image_tokenizer=False, dtype=torch.float32, **hub)
    tokenizer_folder, tokenizer_revision = _tokenizer_place(model_folder, hub)
    tokenizer = SeedTokenizer.from_pretrained(tokenizer_folder, revision=tokenizer_revision)
    model.check_tokenizer(tokenizer)
    probe = _probe_ids(tokenizer.image_token_layout)
    with torch.no_grad():
        expected = model(probe).logits
        plain = merge_adapters(model).to_plain_language_model()
        difference = float((plain(probe).logits - expected).abs().max() / expected.abs().max())
    # written so that NaN fails too
    if not difference <= LOGIT_TOLERANCE:
        raise ValueError(
            f"`model_folder` is {str(model_folder)!r}: exported, its logits differ by {difference:.1e} of the largest "
            f"one; allowed: {LOGIT_TOLERANCE:.0e}."
        )
    logger.info(f"Exported, the logits differ by {difference:.1e} of the largest one.")
    plain = plain.to(dtype)
    plain.save_pretrained(output_folder, max_shard_size=max_shard_size)
    if grammar:
        write_grammars(model.config.image_token_layout, output_folder / "grammar")
    _save_tokenizer(tokenizer.to_plain_tokenizer(), output_folder)
    return plain


def _check_output(folder: Path):
    """`ValueError` for what an export would overwrite, such as another model; it may replace an earlier export."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    model_type = read_json(folder / "config.json").get("model_type", "seed")
    has_our_tokenizer = "codebook_size" in read_json(folder / "tokenizer_config.json")
    if str(model_type).startswith("seed") or not has_our_tokenizer:
        raise ValueError(
            f"`output_folder` is {str(folder)!r}, which holds other files; allowed: a new or empty folder, or that of "
            "an earlier export."
        )


def _tokenizer_place(model_folder, hub) -> tuple[str | os.PathLike, str | None]:
    """Where the tokenizer is: beside the model, or with the base of an adapter that PEFT saved alone; its revision."""
    if cached_file(model_folder, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **hub):
        return model_folder, hub["revision"]
    config_file = find_adapter_config_file(str(model_folder), **hub)
    if config_file is None:
        raise ValueError(
            f"`model_folder` {str(model_folder)!r} has no `tokenizer.json`; allowed: one beside the model."
        )
    adapter = json.loads(Path(config_file).read_text(encoding="utf-8"))
    return adapter["base_model_name_or_path"], adapter.get("revision")


def _probe_ids(layout: ImageTokenLayout) -> torch.Tensor:
    """A short text around an image whose codes lie all over the codebook, `(1, sequence_length)`."""
    codes = torch.linspace(0, layout.codebook_size - 1, layout.num_query_tokens).long()
    text = torch.linspace(0, layout.first_image_token_id - 1, 8).long().tolist()
    return torch.tensor([[*text, *layout.span(codes), *reversed(text)]])


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path):
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    # the name that servers with an older transformers know too
    config = json.loads(file.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


__all__ = ["export_language_model"]
