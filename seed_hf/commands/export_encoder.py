"""`seed-hf export-encoder`: [`~seed_hf.export.export_encoder`] on the command line."""

from typing import Annotated, Literal

import typer


EXAMPLES = """examples:
  seed-hf export-encoder seed-mini --format onnx --output encoder
  seed-hf export-encoder seed-mini --format openvino --int8 --output small
  seed-hf export-encoder seed-mini --format onnx --web --output page     # then npm install in the folder
"""


def run(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="'seed-mini', or folder or Hub id of an image tokenizer or a pipeline."),
    ],
    output: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write, which must be new or empty.")],
    format: Annotated[
        Literal["torch-export", "onnx", "openvino"],
        typer.Option(metavar="torch-export|onnx|openvino", help="What is to run it."),
    ] = "onnx",
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Store weights in 8 bits: files are smaller, and some codes change."),
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="Also write a page that encodes images in the browser, from the format onnx.")
    ] = False,
):
    """Exports, and says how many codes stayed the same."""
    # inside `run`, so that `--help` does not wait for torch
    from ..export import export_encoder

    report = export_encoder(model, output, format, int8, web)
    equal = f"{report['num_equal']} of {report['num_codes']} codes of {report['num_images']} drawings are equal"
    print(f"{output}: {report['size'] / 1e6:.0f} MB; {equal}")


__all__ = ["run"]
