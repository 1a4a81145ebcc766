"""`seed-hf serve`: a model behind HTTP, in the shapes of OpenAI's API."""

import argparse
import os
import sys
from pathlib import Path

from .loading import add_model_arguments, announce


EXAMPLES = """examples:
  seed-hf serve
  SEED_HF_API_KEY=secret seed-hf serve --host 0.0.0.0 --port 8080
  curl http://127.0.0.1:8000/v1/images/generations -H "Content-Type: application/json" -d '{"prompt": "red apple"}'
"""
KEY = "SEED_HF_API_KEY"


def add_arguments(parser: argparse.ArgumentParser):
    """Adds the arguments of the sub-command."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="port, or 0 for a free one (default: 8000)")
    key_help = f"file with a key that clients must send as bearer token (default: the environment variable {KEY})"
    parser.add_argument("--api-key-file", type=Path, help=key_help)
    urls_help = "fetch images that clients name by http(s) URLs, from public addresses only (default: refuse them)"
    parser.add_argument("--allow-image-urls", action="store_true", help=urls_help)
    _add_limits(parser)
    add_model_arguments(parser, "a language model that names its pipeline, or a pipeline")


def _add_limits(parser: argparse.ArgumentParser):
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body-bytes", type=int, default=2**24, help="largest request (default: 16 MiB)")
    pixels_help = "largest image in pixels, width times height (default: 16777216)"
    limits.add_argument("--max-image-pixels", type=int, default=2**24, help=pixels_help)
    limits.add_argument("--max-tokens", type=int, default=1024, help="largest answer (default: 1024)")
    limits.add_argument("--max-images", type=int, default=16, help="images or pictures of a request (default: 16)")
    limits.add_argument("--max-seconds", type=float, default=120.0, help="time for a request (default: 120)")
    requests_help = "requests that wait or are answered at a time; others get status 429 (default: 64)"
    limits.add_argument("--max-requests", type=int, default=64, help=requests_help)
    limits.add_argument("--max-batch", type=int, default=16, help="rows that are worked on at once (default: 16)")
    batch_help = "how long a first request waits for others to share its batch (default: 0.005)"
    limits.add_argument("--batch-seconds", type=float, default=0.005, help=batch_help)


def run(args: argparse.Namespace):
    """Loads the model, and serves until it is told to stop."""
    # these bring fastapi and torch, for which `--help` must not wait
    from ..models.image_limits_seed import IMAGE_LIMITS
    from ..serve.app import build_app
    from ..serve.run import serve
    from ..serve.settings import ServerSettings
    from ..studio import Studio

    names = [name for name in vars(args) if name.startswith("max_")]
    for name in (*names, "batch_seconds"):
        if getattr(args, name) <= 0:
            raise ValueError(f"`--{name.replace('_', '-')}` is {getattr(args, name)}; allowed: more than 0.")
    IMAGE_LIMITS.max_image_pixels = args.max_image_pixels
    limits = {name: getattr(args, name) for name in (*names, "batch_seconds") if name != "max_image_pixels"}
    key = _api_key(args.api_key_file)
    if key is None and args.host not in ("127.0.0.1", "::1", "localhost"):
        print(f"whoever reaches {args.host} can use this server: there is no API key ({KEY})", file=sys.stderr)
    settings = ServerSettings(api_key=key, allow_image_urls=args.allow_image_urls, **limits)
    name = Path(args.model).name if Path(args.model).exists() else args.model
    app = build_app(Studio.load(*announce(args)), name, settings)
    serve(app, lambda url: print(f"serving at {url}", file=sys.stderr, flush=True), args.host, args.port)


def _api_key(file: Path | None) -> str | None:
    if file is None and KEY not in os.environ:
        return None
    key = (os.environ[KEY] if file is None else file.read_text(encoding="utf-8")).strip()
    if not key or not key.isascii():
        source = f"The environment variable {KEY}" if file is None else f"`--api-key-file` {str(file)!r}"
        raise ValueError(f"{source} holds no key; allowed: ASCII characters.")
    return key


__all__ = ["add_arguments", "run"]
