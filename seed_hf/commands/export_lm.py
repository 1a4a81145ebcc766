"""`seed-hf export-lm`: [`~seed_hf.convert.export.export_language_model`] on the command line."""

import re
from typing import Annotated, Literal

import typer


EXAMPLES = """examples:
  seed-hf export-lm seed-mini plain
  seed-hf export-lm out/stage3 plain --dtype bfloat16
"""


def _check_size(size: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]i?B", size, re.IGNORECASE):
        raise typer.BadParameter(f"{size!r}; allowed: a number with a unit, such as 500MB or 5GB.")
    return size


def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="'seed-mini', or folder or Hub id of a language model or a LoRA adapter, which is merged.",
        ),
    ],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder to write, made if missing.")],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(metavar="float32|bfloat16|float16", help="Type of the weights."),
    ] = "float32",
    max_shard_size: Annotated[
        str,
        typer.Option(metavar="SIZE", callback=_check_size, help="Size of the largest weights file, such as 500MB."),
    ] = "5GB",
    grammar: Annotated[
        bool,
        typer.Option(
            "--grammar",
            help="Also write grammar/: what an image looks like, as GBNF, regular expression and llguidance grammar.",
        ),
    ] = False,
    revision: Annotated[str | None, typer.Option(metavar="REVISION", help="Branch, tag or commit on the Hub.")] = None,
):
    """Exports, and says what was written."""
    # inside `run`, so that `--help` does not wait for torch
    import torch

    from ..convert.export import export_language_model
    from ..hub.fetch import check_model_exists, resolve_mini

    check_model_exists(model, revision)
    plain = export_language_model(
        resolve_mini(model, "language_model"),
        output,
        dtype=getattr(torch, dtype),
        max_shard_size=max_shard_size,
        revision=revision,
        grammar=grammar,
    )
    print(f"{output}: {type(plain).__name__} with {plain.config.vocab_size} tokens")


__all__ = ["run"]
