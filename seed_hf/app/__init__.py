"""The models in a browser: images to codes and back, mixed, talked about, drawn and found."""

from .limits import Limits
from .page import build_page, serve_page


__all__ = ["Limits", "build_page", "serve_page"]
