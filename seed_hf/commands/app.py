"""`seed-hf app`: the model in a browser, with [`seed_hf.app`]."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .flags import Device, announce, model_flag


EXAMPLES = """examples:
  seed-hf app
  seed-hf app --images photos --port 8080
  seed-hf app --push-to-hub owner/space
"""


def run(
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen at; by default this machine alone.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="Port; by default a free one from 7860 on.")] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of images that visitors can search and see.")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Make the page public through Gradio's servers.")] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="OWNER/SPACE", help="Instead: make this Space on the Hub, which shows the page."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    model: Annotated[str, model_flag("a language model that names its pipeline, or a pipeline")] = "seed-mini",
    device: Device = None,
):
    """Shows the page until it is interrupted."""
    # inside, so that `--help` does not wait for Gradio and torch
    if push_to_hub is not None:
        local = {"--host": host, "--port": port, "--images": images, "--share": share or None, "--device": device}
        if given := [flag for flag, value in local.items() if value is not None]:
            raise ValueError(
                f"{given[0]} is for a page on this machine; allowed with --push-to-hub: --model, --private."
            )
        from ..app.space import push_space

        print(push_space(push_to_hub, model, private=private))
        return
    if private:
        raise ValueError("--private is for a new Space; allowed: together with --push-to-hub.")
    from ..app import run_app

    announce(model, device)
    run_app(model, device, images, lambda url: print(f"open {url} in a browser", file=sys.stderr), host, port, share)


__all__ = ["run"]
