"""What takes minutes to make is made once for all workers of a run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def make_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make(folder)` filled, in whichever worker came first; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder / "done"
    with FileLock(f"{folder}.lock"):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
