"""Data sets of images and captions, read from anywhere, and their codes, written once."""

from .codes import read_codes
from .encode import encode_once, encode_rows
from .rows import load_rows


__all__ = ["encode_once", "encode_rows", "load_rows", "read_codes"]
