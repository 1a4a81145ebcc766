"""What comes before Gradio: requests that are too large, or would make the server fetch something, are refused."""

import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


_UPLOAD = "/gradio_api/upload"


class Guard:
    """
    ASGI middleware. Gradio limits uploads; this limits all other requests.

    Args:
        app (`ASGIApp`): What answers.
        most_bytes (`int`): Size of a request.
    """

    def __init__(self, app: ASGIApp, most_bytes: int):
        self.app, self.most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        is_checked = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if not is_checked or scope["path"].rstrip("/").endswith(_UPLOAD):
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.most_bytes:
                await _refuse(413, "This request is too large.", scope, receive, send)
                return
            if not message.get("more_body"):
                break
        if _names_address(body):
            await _refuse(400, "Please upload the image as a file, not as an address.", scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"detail": detail, "error": detail}, status)(scope, receive, send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, and then what else there is to hear."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _names_address(body: bytes) -> bool:
    """Whether it has a file that Gradio would fetch from an address, or make of a data URI of any size."""
    try:
        return any(_is_remote(value) for value in _walk(json.loads(body)))
    except (ValueError, RecursionError):
        return False


def _walk(value: Any):
    yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _walk(part)


def _is_remote(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return False
    address = value.get("url")
    return "://" in value["path"] or (isinstance(address, str) and address.startswith("data:"))


__all__ = ["Guard"]
