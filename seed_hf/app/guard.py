"""What comes before Gradio: requests that are too large, come from other websites, or would make the server fetch
something, are refused."""

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


_UPLOAD = "/gradio_api/upload"
# names of this machine, for itself alone
LOOPBACK = ("127.0.0.1", "localhost", "::1")


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


class LocalOnly:
    """
    ASGI middleware of a page that is for this machine alone: websites that its user visits cannot reach it, neither
    through a name that leads here (DNS rebinding) nor with requests of their own.

    Args:
        app (`ASGIApp`): What answers.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] == "http" and (problem := _foreign(Headers(scope=scope))):
            await _refuse(403, problem, scope, receive, send)
            return
        await self.app(scope, receive, send)


def _foreign(headers: Headers) -> str:
    host, origin = headers.get("host", ""), headers.get("origin")
    # a port comes behind the last colon; an address of version 6 stands in brackets
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.strip("[]").lower() not in LOOPBACK:
        return f"`Host` is {host!r}; allowed without `--host` or `--share`: {', '.join(LOOPBACK)}."
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        return f"`Origin` is {origin!r}; allowed: this page."
    return ""


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


__all__ = ["LOOPBACK", "Guard", "LocalOnly"]
