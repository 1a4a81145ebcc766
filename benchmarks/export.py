"""Images per second of the exported encoder against `SeedImageTokenizer.encode`, and how many codes are equal.

    python benchmarks/export.py

The model is seed-mini. Each format is written to a temporary folder and run by its own library, with as many threads
as torch.
"""

import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import common
import torch

from seed_hf import SeedImageTokenizer
from seed_hf.export.formats import open_graph, write_graph
from seed_hf.export.graphs import quantize_weights, trace
from seed_hf.image_tokenizers import load_image_tokenizer
from seed_hf.mini import mini_pictures_path


NAMES = {"onnx": "onnxruntime", "openvino": "OpenVINO"}


def measure_case(model: SeedImageTokenizer, encode, name: str, pixel_values: torch.Tensor, rounds: int) -> list[dict]:
    """One row for single images, one for all at once."""
    expected = model.encode(pixel_values)
    equal = (torch.from_numpy(encode(pixel_values.numpy())) == expected).sum().item()
    rows = []
    for batch_size in (1, len(pixel_values)):
        batch = pixel_values[:batch_size]
        timed = common.compare(partial(encode, batch.numpy()), partial(model.encode, batch), rounds)
        ours, baseline = (f"{batch_size / timed[side]:.3g} images/s" for side in ("ours_s", "baseline_s"))
        speed = 1 / timed["ratio"]
        case, ours = f"{name}, batch {batch_size}", f"{ours}, {equal} of {expected.numel()} codes equal"
        details = {"timed": timed, "codes_equal": equal / expected.numel()}
        details["version"] = version(name.split(",")[0].lower())
        rows.append(common.row(case, ours, baseline, speed, ">= 1 of torch", speed >= 1, "higher", **details))
    return rows


def measure(args) -> list[dict]:
    """Two rows for each format and each precision of the weights."""
    loaded = load_image_tokenizer("seed-mini")
    model, processor = loaded.model, loaded.image_processor
    files = sorted(str(path) for path in Path(mini_pictures_path()).glob("*.png"))
    pixel_values, rows = processor(files, return_tensors="pt")["pixel_values"], []
    for int8 in (False, True):
        graph = trace(quantize_weights(model) if int8 else model, "encode")
        for format, name in [*NAMES.items()][:1] if args.quick else NAMES.items():
            with tempfile.TemporaryDirectory() as folder:
                encode = open_graph(write_graph(graph, "encode", format, Path(folder)))
                name += ", weights in 8 bits" if int8 else ""
                rows += measure_case(model, encode, name, pixel_values, 1 if args.quick else 15)
    return rows


if __name__ == "__main__":
    common.run("export", "The exported encoder: images to codes", measure)
