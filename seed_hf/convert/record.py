"""What every conversion leaves beside the weights: configuration, code, and a record of each key."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from ..hub.json_files import read_json
from .checkpoint_files import Checkpoint
from .key_tables import KeyReport


RECORD_FILE = "conversion.json"


def check_output(output: str | os.PathLike) -> Path:
    """The folder to write to; `ValueError` if there is something in it."""
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"`output` is {str(output)!r}; allowed: a new or an empty folder.")
    return output


def save_config(model: PreTrainedModel, output: Path, dtype: torch.dtype):
    """Writes what `save_pretrained` writes beside the weights; the model may be on the meta device."""
    model.config.architectures, model.config.dtype = [type(model).__name__], dtype
    if model._auto_class is not None:
        custom_object_save(model, output, config=model.config)
    model.config.save_pretrained(output)


def write_record(output: Path, kind: str, checkpoint: Checkpoint, report: KeyReport, **more):
    """Writes what became of every key, and of which files, to `conversion.json`."""
    files = {file.name: file.stat().st_size for file in checkpoint.files}
    keys = {name: value for name, value in asdict(report).items() if value}
    record = {"kind": kind, **more, "files": files, "others": checkpoint.others, **keys}
    (output / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict:
    """The record of a conversion; empty for a folder that was not converted."""
    return read_json(folder / RECORD_FILE)


__all__ = ["RECORD_FILE", "check_output", "read_record", "save_config", "write_record"]
