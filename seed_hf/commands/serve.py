"""`seed-hf serve`: a model behind HTTP, in the shapes of OpenAI's API."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..loopback import LOOPBACK
from .flags import DRAWING_MODEL, Device, announce, model_flag


EXAMPLES = """examples:
  seed-hf serve
  SEED_HF_API_KEY=secret seed-hf serve --host 0.0.0.0 --port 8080
  curl http://127.0.0.1:8000/v1/images/generations -H "Content-Type: application/json" -d '{"prompt": "red apple"}'
"""
KEY = "SEED_HF_API_KEY"


def _limit(text: str, metavar: str = "NUMBER"):
    return typer.Option(metavar=metavar, help=text)


def run(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen at; 127.0.0.1 is this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port, or 0 for a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"File with a key that clients must send as bearer token; by default the environment variable {KEY}.",
        ),
    ] = None,
    allow_image_urls: Annotated[
        bool,
        typer.Option(
            "--allow-image-urls",
            help="Fetch images that clients name by http(s) URLs, from public addresses only; else they are refused.",
        ),
    ] = False,
    max_body_bytes: Annotated[int, _limit("Largest request.", "BYTES")] = 2**24,
    max_image_pixels: Annotated[int, _limit("Largest image, width times height.", "PIXELS")] = 2**24,
    max_request_pixels: Annotated[int, _limit("Pixels of all images of a request.", "PIXELS")] = 2**26,
    max_tokens: Annotated[int, _limit("Largest answer.")] = 1024,
    max_images: Annotated[int, _limit("Images or pictures of a request.")] = 16,
    max_seconds: Annotated[float, _limit("Time for a request.", "SECONDS")] = 120.0,
    max_requests: Annotated[int, _limit("Requests that wait or are answered at a time; others get status 429.")] = 64,
    max_batch: Annotated[int, _limit("Rows that are worked on at once.")] = 16,
    batch_seconds: Annotated[
        float, _limit("How long a first request waits for others to share its batch.", "SECONDS")
    ] = 0.005,
    model: Annotated[str, model_flag(DRAWING_MODEL)] = "seed-mini",
    device: Device = None,
):
    """Loads the model, and serves until it is told to stop."""
    # these bring fastapi and torch, for which `--help` must not wait
    from ..loading import shown_name
    from ..models.image_limits_seed import IMAGE_LIMITS
    from ..serve.app import build_app
    from ..serve.run import serve
    from ..serve.settings import ServerSettings
    from ..studio import Studio

    limits = {
        "max_body_bytes": max_body_bytes,
        "max_request_pixels": max_request_pixels,
        "max_tokens": max_tokens,
        "max_images": max_images,
        "max_seconds": max_seconds,
        "max_requests": max_requests,
        "max_batch": max_batch,
        "batch_seconds": batch_seconds,
    }
    for name, value in (limits | {"max_image_pixels": max_image_pixels}).items():
        if value <= 0:
            raise ValueError(f"`--{name.replace('_', '-')}` is {value}; allowed: more than 0.")
    IMAGE_LIMITS.max_image_pixels = max_image_pixels
    key = _api_key(api_key_file)
    hosts = LOOPBACK if key is None and host in LOOPBACK else None
    if key is None and hosts is None:
        print(f"whoever reaches {host} can use this server: there is no API key ({KEY})", file=sys.stderr)
    settings = ServerSettings(api_key=key, hosts=hosts, allow_image_urls=allow_image_urls, **limits)
    app = build_app(Studio.load(*announce(model, device)), shown_name(model), settings)
    serve(app, lambda url: print(f"serving at {url}", file=sys.stderr, flush=True), host, port)


def _api_key(file: Path | None) -> str | None:
    if file is None and KEY not in os.environ:
        return None
    key = (os.environ[KEY] if file is None else file.read_text(encoding="utf-8")).strip()
    if not key or not key.isascii():
        source = f"The environment variable {KEY}" if file is None else f"`--api-key-file` {str(file)!r}"
        raise ValueError(f"{source} holds no key; allowed: ASCII characters.")
    return key


__all__ = ["run"]
