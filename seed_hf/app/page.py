"""The page with its tabs, and the server that shows it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


# before Gradio is imported, which otherwise tells its makers
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr  # noqa: E402

from ..models.image_limits_seed import IMAGE_LIMITS  # noqa: E402
from ..studio import Studio  # noqa: E402
from .chips import CSS as CHIPS_CSS  # noqa: E402
from .limits import Desk, Limits  # noqa: E402
from .parts import Examples  # noqa: E402
from .reconstruct import add_reconstruct  # noqa: E402


_CSS = """
.picture img {width: 100%; height: 100%; object-fit: contain}
.picture .image-frame {padding-top: 2rem}
.strip .grid-wrap {height: auto !important; max-height: none !important; padding-top: 2.2rem}
.strip .grid-container {grid-template-columns: repeat(auto-fit, minmax(84px, 1fr)) !important}
footer {display: none !important}
"""
_TITLE = "SEED: images as words"


def build_page(studio: Studio, limits: Limits | None = None, name: str = "seed-mini") -> gr.Blocks:
    """
    Makes the page.

    Args:
        studio ([`Studio`]): The models.
        limits ([`Limits`], *optional*): What visitors may do.
        name (`str`, defaults to `"seed-mini"`): What the model is called.

    Returns:
        `gr.Blocks`: With every tab filled with examples.
    """
    desk = Desk(studio, limits)
    examples = Examples(desk)
    keep = desk.limits.keep_seconds
    with gr.Blocks(
        title=_TITLE, analytics_enabled=False, delete_cache=(min(keep, 600), keep), fill_width=False
    ) as page:
        gr.Markdown(f"# {_TITLE}\nModel: {name}. Nothing that you upload or write is kept.")
        with gr.Tab("Reconstruct"):
            add_reconstruct(desk, examples)
    page.queue(max_size=desk.limits.waiting, default_concurrency_limit=1, api_open=False)
    return page


@contextmanager
def serve_page(
    studio: Studio,
    limits: Limits | None = None,
    name: str = "seed-mini",
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
) -> Iterator[str]:
    """
    Shows the page until the context ends, and then deletes what visitors uploaded.

    Args:
        studio ([`Studio`]): The models.
        limits ([`Limits`], *optional*): What visitors may do. The number of pixels holds for the whole process.
        name (`str`, defaults to `"seed-mini"`): What the model is called.
        host (`str`, *optional*): Address to listen at; by default this machine alone, or `GRADIO_SERVER_NAME`.
        port (`int`, *optional*): By default a free one from 7860 on, or `GRADIO_SERVER_PORT`.
        share (`bool`, defaults to `False`): Whether to make it public through Gradio's servers.

    Returns:
        `Iterator[str]`: Context manager that gives the address.

    Raises:
        OSError: The port is taken.
    """
    limits = limits or Limits()
    IMAGE_LIMITS.max_image_pixels = min(IMAGE_LIMITS.max_image_pixels, limits.pixels)
    with tempfile.TemporaryDirectory(prefix="seed_hf_app_") as folder:
        # a folder of its own, which other users of the machine cannot read
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(studio, limits, name)
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            theme=_theme(),
            css=CHIPS_CSS + _CSS,
            footer_links=[],
            ssr_mode=False,
            allowed_paths=[],
            max_file_size=limits.upload_bytes,
            enable_monitoring=False,
            state_session_capacity=500,
        )
        try:
            yield url
        finally:
            page.close(verbose=False)


def _theme() -> gr.themes.Base:
    """Fonts of the visitor's machine: the default ones would come from another host."""
    font, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Soft(primary_hue="emerald", neutral_hue="slate", font=font, font_mono=mono)


__all__ = ["build_page", "serve_page"]
