"""The page with its tabs, and the server that shows it."""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


# before Gradio is imported, which otherwise tells its makers
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr  # noqa: E402
from gradio.utils import get_space  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

from ..loading import shown_name  # noqa: E402
from ..loopback import LOOPBACK  # noqa: E402
from ..models.image_limits_seed import IMAGE_LIMITS  # noqa: E402
from ..studio import Studio  # noqa: E402
from .chat import add_chat  # noqa: E402
from .chips import CSS as CHIPS_CSS  # noqa: E402
from .draw import add_draw  # noqa: E402
from .guard import Guard, LocalOnly  # noqa: E402
from .limits import Desk, Limits  # noqa: E402
from .mix import add_mix  # noqa: E402
from .parts import Examples  # noqa: E402
from .reconstruct import add_reconstruct  # noqa: E402
from .search import add_search  # noqa: E402


_CSS = """
.picture img {width: 100%; height: 100%; object-fit: contain}
.picture .image-frame {padding-top: 2rem}
.strip .grid-wrap, .found .grid-wrap {min-height: 0 !important; padding-top: 2.2rem}
.strip .grid-wrap, .found .grid-wrap {height: auto !important; max-height: none !important}
.found .grid-container {grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) !important}
@media (max-width: 640px) {.strip .grid-wrap, .found .grid-wrap {padding-top: 3.6rem}}
#chat .message img {min-width: 128px; min-height: 128px; object-fit: contain}
.strip .grid-container {grid-template-columns: repeat(auto-fit, minmax(84px, 1fr)) !important}
#chat [title="Share"], #chat [aria-label="Share"] {display: none}
footer {display: none !important}
"""
_TITLE = "SEED: images as words"


def build_page(
    studio: Studio, limits: Limits | None = None, name: str = "seed-mini", images: Path | None = None
) -> gr.Blocks:
    """
    Makes the page.

    Args:
        studio ([`Studio`]): The models.
        limits ([`Limits`], *optional*): What visitors may do.
        name (`str`, defaults to `"seed-mini"`): What the model is called.
        images (`Path`, *optional*): Folder of images that visitors can search and see.

    Returns:
        `gr.Blocks`: With every tab filled with examples.

    Raises:
        ValueError: `images` has no images.
    """
    desk = Desk(studio, limits)
    examples = Examples(desk)
    keep = desk.limits.keep_seconds
    # files are old enough to go one round before they must be gone
    every = max(1, min(keep // 2, 600))
    with gr.Blocks(
        title=_TITLE, analytics_enabled=False, delete_cache=(every, keep - every), fill_width=False
    ) as page:
        gr.Markdown(
            f"# {_TITLE}\nModel: {name}. What you upload or write is deleted {keep / 60:g} minutes after your last "
            "request at the latest, and when the app stops."
        )
        with gr.Tab("Reconstruct"):
            add_reconstruct(desk, examples)
        with gr.Tab("Mix"):
            add_mix(desk, examples)
        if studio.model is not None:
            with gr.Tab("Chat"):
                add_chat(desk, examples)
            with gr.Tab("Draw"):
                add_draw(desk)
        add_search(desk, examples, images)
    desk.is_open = True
    page.queue(max_size=desk.limits.waiting, default_concurrency_limit=1, api_open=False)
    return page


@contextmanager
def serve_page(
    studio: Studio,
    limits: Limits | None = None,
    name: str = "seed-mini",
    images: Path | None = None,
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
        images (`Path`, *optional*): Folder of images that visitors can search and see.
        host (`str`, *optional*): Address to listen at; by default this machine alone, or `GRADIO_SERVER_NAME`.
        port (`int`, *optional*): By default a free one from 7860 on, or `GRADIO_SERVER_PORT`.
        share (`bool`, defaults to `False`): Whether to make it public through Gradio's servers.

    Returns:
        `Iterator[str]`: Context manager that gives the address.

    Raises:
        OSError: The port is taken.
        ValueError: `images` has no images.
    """
    limits = limits or Limits()
    IMAGE_LIMITS.max_image_pixels = min(IMAGE_LIMITS.max_image_pixels, limits.pixels)
    with tempfile.TemporaryDirectory(prefix="seed_hf_app_") as folder:
        # a folder of its own, which other users of the machine cannot read
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(studio, limits, name, images)
        app, url, _ = page.launch(
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
            app_kwargs={"middleware": [_guard(limits, folder)]},
        )
        if _is_local(host, share):
            # before all middleware of Gradio, which would tell browsers that other websites may ask
            app.middleware_stack = LocalOnly(app.middleware_stack)
        try:
            yield url
        finally:
            page.close(verbose=False)


def run_app(
    model: str = "seed-mini",
    device: str | None = None,
    images: Path | None = None,
    on_start: Callable[[str], None] = lambda url: None,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
) -> None:
    """
    Loads a model and shows its page until the program is interrupted, by SIGTERM and SIGHUP too.

    Args:
        model (`str`, defaults to `"seed-mini"`): Folder or Hub id, as for [`Studio.load`].
        device (`str`, *optional*): Such as `"cpu"`.
        images (`Path`, *optional*): See [`serve_page`], as the others.
        on_start (`Callable`): Called with the address.
        host (`str`, *optional*): Address to listen at.
        port (`int`, *optional*): Port.
        share (`bool`, defaults to `False`): Whether to make it public.

    Raises:
        OSError: The port is taken.
        ValueError: There is no such model or device, or `images` has no images.
    """
    studio = Studio.load(model, device)
    with _signals_interrupt(), serve_page(studio, None, shown_name(model), images, host, port, share) as url:
        on_start(url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Lets what else ends a program, such as `docker stop`, raise `KeyboardInterrupt`: files are deleted then."""
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    # what is ignored, as under `nohup`, stays so
    numbers = {number for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers if is_main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guard(limits: Limits, folder: str) -> Middleware:
    sizes = {"most_bytes": limits.request_bytes, "upload_bytes": limits.uploads_bytes}
    return Middleware(Guard, folder=Path(folder), folder_bytes=limits.folder_bytes, **sizes)


def _is_local(host: str | None, share: bool) -> bool:
    """Whether only this machine is meant to see the page."""
    host = host or os.environ.get("GRADIO_SERVER_NAME") or LOOPBACK[0]
    return host in LOOPBACK and not share and get_space() is None


def _theme() -> gr.themes.Base:
    """Fonts of the visitor's machine: the default ones would come from another host."""
    font, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Soft(primary_hue="emerald", neutral_hue="slate", font=font, font_mono=mono)


__all__ = ["build_page", "run_app", "serve_page"]
