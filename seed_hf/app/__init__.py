"""The model in a browser: images to codes and back, mixed, talked about, drawn and found."""

from .page import build_page, run_app, serve_page


__all__ = ["build_page", "run_app", "serve_page"]
