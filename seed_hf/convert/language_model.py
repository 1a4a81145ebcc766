"""SEED-LLaMA language models to folders of [`SeedForCausalLM`] and back, streamed from file to file."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer

from ..models.configuration_seed import SeedConfig
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed import SeedForCausalLM
from ..models.processing_seed import SeedProcessor
from ..models.tokenization_seed import SeedTokenizer
from .checkpoint_files import Checkpoint, plan_shards, write_shards
from .key_tables import KeyReport, Layout, check_shapes, match_keys
from .record import check_output, read_record, save_config, write_record


KIND = "seed-llama"
LANGUAGE_MODEL_LAYOUT = Layout(
    rows=[("*", "language_model.*")],
    dropped=[("*.rotary_emb.inv_freq", "computed from the configuration")],
)


def convert_language_model(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    tokenizer: str | os.PathLike | None = None,
    codebook_size: int = 8192,
    num_query_tokens: int = 32,
    image_tokenizer_id: str | None = None,
    image_tokenizer_revision: str | None = None,
    allow_unknown: Iterable[str] = (),
) -> KeyReport:
    r"""
    Turns a plain language model whose vocabulary has image tokens into a folder of [`SeedForCausalLM`].

    SEED-LLaMA: 32000 words, 8192 codes, `<img>` and `</img>`. Its tables grow by one row, the mean of the others, for
    `<image>`, which is never embedded and never generated. It takes memory as [`convert_image_tokenizer`] does.

    Args:
        folder (`str | os.PathLike`): Folder of the language model: configuration and weights, single or sharded.
        output (`str | os.PathLike`): Folder to write; new or empty.
        tokenizer (`str | os.PathLike`, *optional*): Folder or Hub id of its tokenizer, with or without the image
            tokens; by default `folder`.
        codebook_size (`int`, defaults to 8192): Number of codes.
        num_query_tokens (`int`, defaults to 32): Number of codes of an image.
        image_tokenizer_id (`str`, *optional*): Repository of the image tokenizer and decoder of its codes.
        image_tokenizer_revision (`str`, *optional*): Revision of that repository.
        allow_unknown (`Iterable[str]`): Patterns of names in the files that may be left over.

    Returns:
        [`KeyReport`]: What became of every key, as `conversion.json` also says.

    Raises:
        ValueError: The vocabulary does not fit the tokenizer, a file cannot be read safely, or a key is unknown,
            missing or of another shape.
    """
    output = check_output(output)
    folder = Path(folder)
    text_config = AutoConfig.from_pretrained(folder)
    seed_tokenizer = SeedTokenizer.from_base_tokenizer(
        AutoTokenizer.from_pretrained(tokenizer or folder),
        codebook_size=codebook_size,
        num_query_tokens=num_query_tokens,
        image_tokenizer_id=image_tokenizer_id,
        image_tokenizer_revision=image_tokenizer_revision,
    )
    rows = text_config.vocab_size
    model = _model_on_meta(text_config, seed_tokenizer)
    checkpoint = Checkpoint([folder])
    target = model.state_dict()
    if text_config.tie_word_embeddings:
        target.pop("language_model.lm_head.weight", None)
    layout = LANGUAGE_MODEL_LAYOUT
    if text_config.tie_word_embeddings:
        # pickles have it a second time
        layout = replace(layout, dropped=[*layout.dropped, ("lm_head.weight", "tied to the token vectors")])
    report = match_keys(checkpoint.meta, target, layout)
    report.allow(unknown=allow_unknown)
    tables = _tables(model)

    def make(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        return _add_rows(tensors[0], target[name].shape[0] - rows) if name in tables else tensors[0]

    made = {name: make(name, [checkpoint.meta[key] for key in keys]) for name, keys in report.used.items()}
    check_shapes(report, made, target)
    report.check("folder")
    write_shards(output, plan_shards(checkpoint, report.used, target, make))
    SeedProcessor(SeedImageProcessor(), seed_tokenizer).save_pretrained(output)
    if (folder / "generation_config.json").is_file():
        shutil.copyfile(folder / "generation_config.json", output / "generation_config.json")
    save_config(model, output, text_config.dtype or next(iter(checkpoint.meta.values())).dtype)
    write_record(output, KIND, checkpoint, report, rows=rows)
    return report


def _model_on_meta(text_config, tokenizer: SeedTokenizer) -> SeedForCausalLM:
    """The model to fill, one row larger than the one given; `ValueError` if the tokenizer counts differently."""
    layout, rows = tokenizer.image_token_layout, text_config.vocab_size
    specials = (layout.boi_token_id, layout.eoi_token_id)
    if layout.end_image_token_id + 2 != rows or max(specials) >= rows:
        raise ValueError(
            f"`folder` has {rows} rows but its tokenizer has codes at {layout.first_image_token_id} to "
            f"{layout.end_image_token_id - 1} and `<img>`, `</img>` at {specials}; allowed: codes and both tokens as "
            "the last rows. Give the tokenizer that belongs to it with `tokenizer`."
        )
    text_config.vocab_size = len(tokenizer)
    config = SeedConfig(
        text_config=text_config,
        image_token_embedding="learned",
        image_tokenizer_id=tokenizer.image_tokenizer_id,
        image_tokenizer_revision=tokenizer.image_tokenizer_revision,
        **asdict(layout),
    )
    with torch.device("meta"):
        return SeedForCausalLM(config)


def _tables(model: SeedForCausalLM) -> set[str]:
    """Names of the weights that have a row for each token."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return {f"{name}.weight" for name, module in model.named_modules() if module in ends}


def _add_rows(table: torch.Tensor, count: int) -> torch.Tensor:
    mean = table.mean(dim=0, keepdim=True, dtype=torch.float32).to(table.dtype)
    return torch.cat((table, mean.expand(count, -1)))


def write_original_language_model(folder: str | os.PathLike, output: str | os.PathLike):
    r"""
    Writes the plain language model again, with the rows that it had.

    Args:
        folder (`str | os.PathLike`): Folder that [`convert_language_model`] wrote.
        output (`str | os.PathLike`): Folder to write weights and configuration to, new or empty.

    Raises:
        ValueError: The folder has no record of a conversion. (`seed-hf export-lm` takes any language model.)
    """
    folder, output = Path(folder), check_output(output)
    record = read_record(folder)
    if record.get("kind") != KIND:
        raise ValueError(f"`folder` is {str(folder)!r}; allowed: one that the conversion of a language model wrote.")
    config, rows = SeedConfig.from_pretrained(folder), record["rows"]
    checkpoint = Checkpoint([folder])
    with torch.device("meta"):
        tables = _tables(SeedForCausalLM(config))
    used = {key: [name] for name, (key,) in record["used"].items()}

    def make(name: str, tensors: list[torch.Tensor]) -> torch.Tensor:
        return tensors[0][:rows] if used[name][0] in tables else tensors[0]

    target = {key: make(key, [checkpoint.meta[name]]) for key, (name,) in used.items()}
    write_shards(output, plan_shards(checkpoint, used, target, make))
    config.text_config.vocab_size = rows
    config.text_config.save_pretrained(output)


__all__ = ["convert_language_model", "write_original_language_model"]
