"""What the tests of the export need beside the package."""

import contextlib
import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seed_hf.export.formats import PACKAGES, import_package


def need_packages(format: str) -> None:
    """Skips where the packages of a format are not installed."""
    for package in PACKAGES[format]:
        try:
            import_package(package)
        except ModuleNotFoundError:
            pytest.skip(f"{format} needs the package {package}")


def node_modules() -> Path:
    """Where `make test` installs onnxruntime-web; skips where it is not, except where CI is set and there is npm."""
    folder = Path(os.environ.get("NODE_MODULES", Path(sys.prefix) / "web" / "node_modules"))
    if not (folder / "onnxruntime-web").is_dir():
        has_npm = os.environ.get("CI") and shutil.which("npm")
        (pytest.fail if has_npm else pytest.skip)(f"needs the npm package onnxruntime-web in {folder}")
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The files of a folder, as `python -m http.server` serves them."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()
