"""Reads what a card says about a model and its training, from their own files."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

from ..data.codes import count_encoded, part_paths
from ..hub.json_files import read_json
from ..models.configuration_seed import SeedConfig
from ..models.configuration_seed_image_tokenizer import SeedImageTokenizerConfig
from ..trainer.curves import read_metrics
from ..trainer.metrics import MACHINE_FILE


def find_facts(kind: str, folder: Path) -> dict:
    r"""
    Reads sizes and names from configurations and weights.

    Args:
        kind (`str`): Kind of the repository, as [`repository_kind`] returns it.
        folder (`Path`): Folder of the repository.

    Returns:
        `dict`: The values that the template of this kind shows.

    Raises:
        ValueError: The splits of a data set of codes come from different weights.
    """
    return _READERS[kind](folder)


def _adapter_facts(folder: Path) -> dict:
    config = read_json(folder / "adapter_config.json")
    names = {"base_model": "base_model_name_or_path", "revision": "revision", "rank": "r", "alpha": "lora_alpha"}
    return {"num_parameters": count_parameters(folder)} | {name: config.get(key) for name, key in names.items()}


def _image_tokenizer_facts(folder: Path) -> dict:
    config = SeedImageTokenizerConfig.from_pretrained(folder)
    names = ("num_query_tokens", "codebook_size", "code_dim", "num_generation_tokens", "generation_dim")
    facts = {"num_parameters": count_parameters(folder), "image_size": config.vision_config.image_size}
    return facts | {name: getattr(config, name) for name in names}


def _pipeline_facts(folder: Path) -> dict:
    return _image_tokenizer_facts(folder / "image_tokenizer") | {"num_parameters": count_parameters(folder)}


def _language_model_facts(folder: Path) -> dict:
    config = SeedConfig.from_pretrained(folder)
    names = ("codebook_size", "num_query_tokens", "vocab_size", "image_tokenizer_id")
    return {name: getattr(config, name) for name in names} | {
        "num_parameters": count_parameters(folder),
        "architecture": (config.text_config.architectures or [config.text_config.model_type])[0],
        "has_image_tokenizer": config.image_tokenizer_config is not None,
    }


def _codes_facts(folder: Path) -> dict:
    descriptions = {
        path.stem.removeprefix("encoding-"): read_json(path) for path in sorted(folder.glob("encoding-*.json"))
    }
    first, *others = descriptions.values()
    if any(other["weights"] != first["weights"] for other in others):
        raise ValueError(
            f"`folder` {str(folder)!r} has splits of different weights; allowed: codes of one image tokenizer."
        )
    splits = []
    for name, split in descriptions.items():
        num_images, num_skipped = count_encoded(part_paths(folder, name, split["num_rows"], split["rows_per_file"]))
        splits.append({"name": name, "num_images": num_images, "num_skipped": num_skipped, **split})
    return {**first, "splits": splits}


_READERS = {
    "adapter": _adapter_facts,
    "codes": _codes_facts,
    "image-tokenizer": _image_tokenizer_facts,
    "language-model": _language_model_facts,
    "pipeline": _pipeline_facts,
}


def count_parameters(folder: Path) -> int:
    """Counts the numbers in all weights of a folder; the weights are not loaded."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        if "checkpoint-" not in str(path.relative_to(folder)):
            with safe_open(path, framework="pt") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total


def find_runs(folders: Sequence[str | os.PathLike]) -> list[dict]:
    r"""
    Reads training runs.

    Args:
        folders (`Sequence[str | os.PathLike]`): Output folders of the training scripts, in order.

    Returns:
        `list[dict]`: For each run its `name`, `hours`, `machine`, `num_processes`, `dataset` and `text`, a line for
        the card. What a log does not say is `None`.

    Raises:
        ValueError: A folder holds no training log.
    """
    return [_read_run(Path(folder)) for folder in folders]


def _read_run(folder: Path) -> dict:
    arguments, machine = read_json(folder / "training_arguments.json"), read_json(folder / MACHINE_FILE)
    lines = read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").is_file() else []
    if not arguments or not lines:
        raise ValueError(
            f"`training` has {str(folder)!r}, which has no metrics.jsonl with training_arguments.json; allowed: "
            "output folders of the training scripts."
        )
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    hours = sum(seconds) / 3600 if seconds else None
    num_processes = machine.get("num_processes")
    batch = arguments.get("global_batch_size") or (
        arguments["batch_size"] * arguments["gradient_accumulation_steps"] * num_processes if num_processes else None
    )
    dataset = next((arguments[name] for name in ("codes", "dataset") if arguments.get(name)), None)
    name = Path(arguments["recipe"]).stem if arguments.get("recipe") else folder.name
    words = [
        f"`{name}`",
        f"{lines[-1]['step']:,} steps of {batch:,} samples" if batch else f"{lines[-1]['step']:,} steps",
        f"learning rate {arguments['learning_rate']:g}",
        f"precision {arguments.get('mixed_precision') or 'float32'}",
        f"seed {arguments['seed']}",
        f"data `{_name_of(str(dataset))}`" if dataset else "",
        f"{hours:.2f} hours on {machine['machine']}" if hours is not None and machine else "",
    ]
    text = ", ".join(word for word in words if word)
    facts = {"hours": hours, "machine": machine.get("machine"), "num_processes": num_processes, "dataset": dataset}
    return {"name": name, "text": text, **facts}


def _name_of(dataset: str) -> str:
    """The last part of a name or path, or the folder of a pattern of files."""
    return next((part for part in reversed(Path(dataset).parts) if "*" not in part), dataset)


__all__ = ["count_parameters", "find_facts", "find_runs"]
