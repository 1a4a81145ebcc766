"""Image tokenizers without this package: exported for torch, onnxruntime, OpenVINO and the browser."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers.image_utils import PILImageResampling

from ..image_tokenizers import load_image_tokenizer, seed_model
from ..mini import mini_pictures_path
from ..models.image_processing_seed import SeedImageProcessor
from ..models.modeling_seed_image_tokenizer import SeedImageTokenizer
from .formats import PACKAGES, SUFFIXES, import_package, open_graph, write_graph
from .graphs import INPUTS, quantize_weights, trace
from .readme import write_readme


WEB = Path(__file__).with_name("web")


def export_encoder(
    model: str, output: str | os.PathLike, format: str = "onnx", int8: bool = False, web: bool = False
) -> dict[str, Any]:
    """
    Writes an image tokenizer as two files, `encode` and `decode`, that run without this package.

    Args:
        model (`str`): `"seed-mini"`, or folder or Hub id of an image tokenizer or a pipeline.
        output (`str` or `os.PathLike`): Folder to write, which must be new or empty. The settings of the image
            processor and a README that says how to run the files go there, too.
        format (`str`, defaults to `"onnx"`): `"torch-export"`, `"onnx"` or `"openvino"`.
        int8 (`bool`, defaults to `False`): Whether the weights of linear layers are stored in 8 bits.
            The files are smaller; everything is still computed in float32, but some codes change.
        web (`bool`, defaults to `False`): Whether a page that encodes images in the browser is written beside it. It
            needs `format="onnx"`, and `npm install` in the folder.

    Returns:
        `dict`: `num_images`, number of the drawings of seed-mini whose codes were compared with those of the model;
        `num_codes`, number of these codes; `num_equal`, how many of them are equal; `size`, number of bytes of both
        files.

    Raises:
        ValueError: There is no such model or format, the folder is not empty, or a page is asked for in another
            format.
        ModuleNotFoundError: The packages of the format are not installed; they come with the extras `export` and
            `openvino`.

    Example:

    ```python
    >>> from seed_hf.export import export_encoder

    >>> export_encoder("seed-mini", "encoder", format="onnx")  # doctest: +SKIP
    ```
    """
    output = Path(output)
    _check(output, format, web)
    # in float32, since half precision changes some codes
    loaded = load_image_tokenizer(model)
    image_tokenizer, processor = seed_model(loaded, "encoder to export"), loaded.image_processor
    if web and processor.resample != PILImageResampling.BICUBIC:
        raise ValueError(f"`web` is True, and `model` resizes by filter {processor.resample}; allowed: 3, bicubic.")
    exported = quantize_weights(image_tokenizer) if int8 else image_tokenizer
    output.parent.mkdir(parents=True, exist_ok=True)
    # beside the folder at first, so that a failure leaves none with a part
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".incomplete-") as name:
        folder = Path(name)
        paths = {half: write_graph(trace(exported, half), half, format, folder) for half in INPUTS}
        size = sum(file.stat().st_size for file in folder.iterdir())
        processor.to_json_file(folder / "preprocessor_config.json")
        report = _compare(open_graph(paths["encode"]), processor, image_tokenizer) | {"size": size}
        write_readme(folder, image_tokenizer, processor, format, int8, web, report)
        if web:
            shutil.copytree(WEB, folder, dirs_exist_ok=True)
        output.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.replace(output / file.name)
    return report


def _check(output: Path, format: str, web: bool) -> None:
    """Refuses what cannot be done, before anything is loaded."""
    if format not in SUFFIXES:
        raise ValueError(f"`format` is {format!r}; allowed: {', '.join(SUFFIXES)}.")
    if web and format != "onnx":
        raise ValueError(f"`web` is True with `format` {format!r}; allowed: the format onnx, which browsers can run.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"`output` is {str(output)!r}, which is there already; allowed: a new or an empty folder.")
    for package in PACKAGES[format]:
        import_package(package)


def _compare(
    encode: Callable[[np.ndarray], np.ndarray], processor: SeedImageProcessor, model: SeedImageTokenizer
) -> dict[str, int]:
    """Counts the equal codes of seed-mini's drawings; one at a time, as full-size models are large."""
    num_equal = num_codes = 0
    paths = sorted(Path(mini_pictures_path()).glob("*.png"))
    for path in paths:
        pixel_values = processor(str(path), return_tensors="pt")["pixel_values"]
        equal = encode(pixel_values.numpy()) == model.encode(pixel_values).numpy()
        num_equal, num_codes = num_equal + int(equal.sum()), num_codes + equal.size
    return {"num_images": len(paths), "num_codes": num_codes, "num_equal": num_equal}


__all__ = ["export_encoder"]
