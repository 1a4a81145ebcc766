"""What captions and answers have in common: a language model writes a text for each row, and a report says how."""

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub.fetch import MINI_NAME, resolve_mini
from ..models.processing_seed import SeedProcessor
from ..provenance import content_digest, describe_model, references_digest, weights_of
from .models import TextWriter, choose_prompt, find_folder
from .predictor import run_predictor


if TYPE_CHECKING:
    from datasets import Dataset


def write_texts(
    rows: "Dataset",
    task: str,
    model: str | os.PathLike,
    *,
    image_tokenizer: str | os.PathLike | None,
    revision: str | None,
    prompt: str | None,
    paper_prompt: str,
    generation: dict[str, Any],
    mini_generation: dict[str, Any],
    paper_generation: dict[str, Any],
    dtype: str,
    work_dir: str | os.PathLike | None,
    batch_size: int | None,
    num_processes: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """
    Texts for rows.

    Args:
        rows (`datasets.Dataset`): with `image` or `codes`, and perhaps `question`.
        task (`str`): `"caption"` or `"vqa"`.
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a language model or LoRA adapter.
        image_tokenizer (`str` or `os.PathLike`, *optional*): where the language model has none inside; by default what
            its tokenizer names.
        revision (`str`, *optional*): of the model on the Hub.
        prompt (`str`, *optional*): see [`choose_prompt`].
        paper_prompt (`str`): its default.
        generation (`dict`): for `generate()`; settings that are `None` take their default.
        mini_generation (`dict`): defaults for seed-mini.
        paper_generation (`dict`): defaults for other models.
        dtype (`str`): of the weights.
        work_dir (`str` or `os.PathLike`, *optional*): of [`run_predictor`].
        batch_size (`int`, *optional*): of [`run_predictor`].
        num_processes (`int`): of [`run_predictor`].

    Returns:
        `tuple[list[dict], dict]`: rows with `row` and `text`; and what the report needs: `models`, `data`, `settings`.

    Raises:
        ValueError: if no picture can be read.
    """
    is_mini = str(model) == MINI_NAME
    folder = find_folder(resolve_mini(model, "language_model"), revision)
    processor = SeedProcessor.from_pretrained(folder)
    if image_tokenizer is None and "codes" not in rows.column_names:
        image_tokenizer = MINI_NAME if is_mini else _named_image_tokenizer(folder, processor)
    pipeline_folder = None if image_tokenizer is None else find_folder(resolve_mini(image_tokenizer, "pipeline"))
    own_prompt = processor.caption_prompt if task == "caption" else processor.question_prompt
    prompt = choose_prompt(prompt, own_prompt, paper_prompt, is_mini)
    defaults = mini_generation if is_mini else paper_generation
    generation = defaults | {name: value for name, value in generation.items() if value is not None}
    models = {"language_model": describe_model(model, folder)}
    if pipeline_folder is not None:
        parts = (pipeline_folder, pipeline_folder / "image_tokenizer", pipeline_folder / "image_processor")
        models["image_tokenizer"] = describe_model(image_tokenizer, *parts)
    references_sha256 = references_digest(rows)
    settings = {"prompt": prompt, "generation": generation, "dtype": dtype}
    with tempfile.TemporaryDirectory() as temporary:
        found, counts = run_predictor(
            TextWriter(folder, pipeline_folder, prompt, generation, dtype),
            rows,
            work_dir or temporary,
            {"task": task, "weights": weights_of(models), "references": references_sha256, **settings},
            batch_size=batch_size,
            num_processes=num_processes,
        )
    if not found:
        raise ValueError("`dataset` has no picture that can be read.")
    sha256 = content_digest(references_sha256, counts["pictures_sha256"])
    data = {"num_rows": counts["num_images"], "num_skipped": counts["num_skipped"], "sha256": sha256}
    return found, {
        "models": models,
        "data": data,
        "settings": {**settings, "batch_size": counts["batch_size"]},
    }


def _named_image_tokenizer(folder: Path, processor: SeedProcessor) -> str | None:
    """What a language model without an image tokenizer inside says that its codes come from."""
    file = folder / "config.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("image_tokenizer_config"):
        return None
    return processor.tokenizer.image_tokenizer_id


__all__ = ["write_texts"]
