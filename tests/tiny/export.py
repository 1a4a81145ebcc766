"""What the tests of the export need beside the package."""

import contextlib
import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import assert_codes_of_images, assert_equal_up_to_rounding

from seed_hf.export.formats import PACKAGES, import_package


def need_packages(format: str) -> None:
    """Skips where the packages of a format are not installed."""
    for package in PACKAGES[format]:
        try:
            import_package(package)
        except ModuleNotFoundError:
            pytest.skip(f"{format} needs the package {package}")


def check_batches(model, encode: Callable, decode: Callable, pixel_values: torch.Tensor) -> None:
    """Exported halves give what the model gives for one image, and for three, also where one of these has no codes."""
    for batch_size in (1, 3):
        pixels = pixel_values[-batch_size:].clone()
        codes = encode(pixels.numpy())
        assert codes.dtype == np.int64 and codes.shape == (batch_size, model.config.num_query_tokens)
        assert_codes_of_images(model, pixels, torch.from_numpy(codes))
        embeds = torch.from_numpy(decode(codes))
        assert_equal_up_to_rounding(embeds, model.decode(torch.from_numpy(codes)).detach())
    # an image without codes does not cost the others theirs
    pixels[1, 0, 0, 0] = torch.nan
    with_nan = encode(pixels.numpy())
    assert (with_nan[1] == -1).all()
    assert_codes_of_images(model, pixels[[0, 2]], torch.from_numpy(with_nan[[0, 2]]))


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
