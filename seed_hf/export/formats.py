"""Graphs of torch as files, and files as functions of arrays: torch-export, ONNX and OpenVINO."""

import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from .graphs import INPUTS, OUTPUTS


SUFFIXES = {"torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
# the packages that a format needs, to be named before minutes of work
PACKAGES = {"torch-export": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
# by default OpenVINO computes in bfloat16 where the processor has it, which changes codes
OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}


def import_package(name: str) -> ModuleType:
    """
    Imports a package of an extra.

    Args:
        name (`str`): Such as `"openvino"`.

    Returns:
        `ModuleType`: The package.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    if name == "openvino":
        # it reports its use to its makers over the network, but not without this package
        sys.modules.setdefault("openvino_telemetry", None)
    return importlib.import_module(name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about torchvision, and about names of its own that it uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def write_graph(graph: torch.export.ExportedProgram, name: str, format: str, folder: Path) -> Path:
    """
    Writes a graph.

    Args:
        graph (`torch.export.ExportedProgram`): What [`trace`] gives.
        name (`str`): `"encode"` or `"decode"`, which is also the name of the file.
        format (`str`): `"torch-export"`, `"onnx"` or `"openvino"`.
        folder (`Path`): Folder to write to.

    Returns:
        `Path`: The file. OpenVINO has the weights in a file beside it, with the suffix .bin; ONNX only if it is larger
        than 2 GB.
    """
    path = folder / f"{name}{SUFFIXES[format]}"
    with _quiet():
        if format == "torch-export":
            torch.export.save(graph, path)
        elif format == "onnx":
            _write_onnx(graph, name, path)
        else:
            _write_openvino(graph, name, path)
    return path


def _write_onnx(graph: torch.export.ExportedProgram, name: str, path: Path) -> None:
    names = {"input_names": [INPUTS[name]], "output_names": [OUTPUTS[name]]}
    torch.onnx.export(graph, dynamo=True, verbose=False, **names).save(path)


def _write_openvino(graph: torch.export.ExportedProgram, name: str, path: Path) -> None:
    openvino = import_package("openvino")
    model = openvino.convert_model(graph)
    # the conversion forgets names, and that only the first axis may change
    model.input(0).get_tensor().set_names({INPUTS[name]})
    model.output(0).get_tensor().set_names({OUTPUTS[name]})
    (node,) = (node for node in graph.graph.nodes if node.name in graph.graph_signature.user_inputs)
    model.reshape([-1, *node.meta["val"].shape[1:]])
    openvino.save_model(model, path, compress_to_fp16=False)


def open_graph(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """
    Opens a file of [`write_graph`] with what its format is for, on the CPU.

    Args:
        path (`Path`): The file; its suffix says which format it has.

    Returns:
        `Callable[[np.ndarray], np.ndarray]`: float32 pixel values to int64 codes, or int64 codes to float32
        generation embeddings. It uses as many threads as torch does.

    Raises:
        ModuleNotFoundError: The package that runs it is not installed.
    """
    threads = torch.get_num_threads()
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda inputs: module(torch.from_numpy(inputs)).detach().numpy()
    if path.suffix == ".onnx":
        runtime = import_package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        return lambda inputs: session.run(None, {entry.name: inputs})[0]
    settings = {**OPENVINO_SETTINGS, "INFERENCE_NUM_THREADS": threads}
    model = import_package("openvino").compile_model(path, "CPU", settings)
    return lambda inputs: model(inputs)[0]


__all__ = ["OPENVINO_SETTINGS", "PACKAGES", "SUFFIXES", "import_package", "open_graph", "write_graph"]
