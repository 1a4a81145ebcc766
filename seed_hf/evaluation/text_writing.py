"""What captions and answers have in common: a language model writes a text for each row, and a report says how."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from ..hub.fetch import MINI_NAME, find_folder
from ..models.processing_seed import SeedProcessor
from ..provenance import describe_model
from .measuring import measure
from .models import TextWriter, choose_prompt
from .predictor import RunSettings
from .report import EvaluationReport


if TYPE_CHECKING:
    from datasets import Dataset

# the original's evaluation: words, beams, and lengths in tokens
_PAPER = {
    "caption": ("a photo of", {"num_beams": 5, "max_new_tokens": 30, "min_new_tokens": 8, "do_sample": False}),
    "vqa": (
        "Question: {} Short answer.",
        {"num_beams": 5, "max_new_tokens": 10, "min_new_tokens": 1, "do_sample": False},
    ),
}
# its own words, which it was trained on; names of emoji are short
_MINI = {
    "caption": ("model", {"num_beams": 1, "max_new_tokens": 20, "do_sample": False}),
    "vqa": ("model", {"num_beams": 1, "max_new_tokens": 10, "do_sample": False}),
}


def write_texts(
    task: str,
    model: str | os.PathLike,
    rows: "Dataset",
    data: tuple[str, str],
    run: RunSettings,
    *,
    image_tokenizer: str | os.PathLike | None,
    prompt: str | None,
    dtype: str,
    generation: dict[str, Any],
) -> tuple[list[dict[str, Any]], EvaluationReport]:
    """
    Writes a text for each row.

    Args:
        task (`str`): `"caption"` or `"vqa"`.
        model (`str` or `os.PathLike`): `"seed-mini"`, or folder or Hub id of a language model or LoRA adapter.
        rows (`datasets.Dataset`): Rows with `image` or `codes`, and perhaps `question`.
        data (`tuple[str, str]`): Names of their data set and split.
        run ([`RunSettings`]): How to run.
        image_tokenizer (`str` or `os.PathLike`, *optional*): Image tokenizer or pipeline, where the language model has
            none inside; by default the one that its tokenizer names.
        prompt (`str`, *optional*): Words that ask, see [`choose_prompt`].
        dtype (`str`): Type of the weights.
        generation (`dict`): Settings of `generate()`; those that are `None` take their default.

    Returns:
        `tuple[list[dict], EvaluationReport]`: `row` and `text` of each row; a report without scores.

    Raises:
        ValueError: No image can be read, or `generation` has a setting that `generate()` has not.
    """
    if unknown := [name for name in generation if not hasattr(GenerationConfig(), name)]:
        raise ValueError(f"{unknown} are not settings of `generate()`; allowed: those of `GenerationConfig`.")
    is_mini = str(model) == MINI_NAME
    folder = find_folder(model, "language_model", run.revision)
    processor = SeedProcessor.from_pretrained(folder)
    revision = None
    if image_tokenizer is None and "codes" not in rows.column_names:
        image_tokenizer = MINI_NAME if is_mini else _named_image_tokenizer(folder, processor)
        revision = None if is_mini else processor.tokenizer.image_tokenizer_revision
    pipeline_folder = None if image_tokenizer is None else find_folder(image_tokenizer, revision=revision)
    default_prompt, defaults = (_MINI if is_mini else _PAPER)[task]
    own_prompt = processor.caption_prompt if task == "caption" else processor.question_prompt
    settings = {
        "prompt": choose_prompt(prompt or default_prompt, own_prompt),
        "generation": defaults | {name: value for name, value in generation.items() if value is not None},
        "dtype": dtype,
    }
    models = {"language_model": describe_model(model, folder)}
    if pipeline_folder is not None:
        parts = (pipeline_folder, pipeline_folder / "image_tokenizer", pipeline_folder / "image_processor")
        models["image_tokenizer"] = describe_model(image_tokenizer, *parts)
    writer = TextWriter(folder, pipeline_folder, **settings)
    texts, report = measure(task, writer, rows, data, models, settings, run)
    # without images where codes are read
    report.data["num_rows"] = report.data.pop("num_images")
    return texts, report


def _named_image_tokenizer(folder: Path, processor: SeedProcessor) -> str | None:
    """Names the image tokenizer of a language model that has none inside."""
    file = folder / "config.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("image_tokenizer_config"):
        return None
    return processor.tokenizer.image_tokenizer_id


__all__ = ["write_texts"]
