"""Data sets of images and captions, read from anywhere, and their codes, written once."""

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .codes import read_codes
    from .encode import encode_once, encode_rows
    from .rows import load_rows

_MODULES = {"encode_once": ".encode", "encode_rows": ".encode", "load_rows": ".rows", "read_codes": ".codes"}

__all__ = ["encode_once", "encode_rows", "load_rows", "read_codes"]


def __getattr__(name: str):
    """Imports what is asked for; scripts read their settings from here before they need torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
