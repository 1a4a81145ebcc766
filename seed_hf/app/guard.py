"""What comes before Gradio: requests that are too large, come from other websites, or would make the server fetch
something, are refused."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..loopback import LOOPBACK, host_name


_UPLOAD = "/gradio_api/upload"
# starts a program with what was sent
_RECORDING = "/process_recording"


class Guard:
    """
    ASGI middleware. Gradio limits the size of an uploaded file; this limits all else.

    Args:
        app (`ASGIApp`): What answers.
        folder (`Path`): Where uploads lie.
        most_bytes (`int`): Size of a request.
        upload_bytes (`int`): Size of a request that uploads files.
        folder_bytes (`int`): Size of all files in `folder`, with those that are being uploaded.
    """

    def __init__(self, app: ASGIApp, folder: Path, most_bytes: int, upload_bytes: int, folder_bytes: int):
        self.app, self.folder, self.most_bytes = app, folder, most_bytes
        self.upload_bytes, self.folder_bytes = upload_bytes, folder_bytes
        self._num_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        path = scope["path"].rstrip("/") if scope["type"] == "http" else ""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
        elif path.endswith(_UPLOAD):
            await self._upload(scope, receive, send)
        elif path.endswith(_RECORDING):
            await _refuse(404, "There is no recording.", scope, receive, send)
        else:
            await self._ask(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        # each may become as large as it may be
        self._num_uploads += 1
        try:
            size = await asyncio.to_thread(_size_of, self.folder)
            if size + self._num_uploads * self.upload_bytes > self.folder_bytes:
                await _refuse(507, "There is no room for uploads. Please try again later.", scope, receive, send)
            else:
                await self.app(scope, _at_most(self.upload_bytes, receive), send)
        finally:
            self._num_uploads -= 1

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
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
    if host_name(host) not in LOOPBACK:
        return f"`Host` is {host!r}; allowed without `--host` or `--share`: {', '.join(LOOPBACK)}."
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        return f"`Origin` is {origin!r}; allowed: this page."
    return ""


async def _refuse(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"detail": detail, "error": detail}, status)(scope, receive, send)


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # deleted in the meantime
            size += path.lstat().st_size
    return size


def _at_most(limit: int, receive: Receive) -> Receive:
    """Ends a request that is too large, or breaks off, with the error at which Gradio deletes what it has of it."""
    count, is_over = 0, False

    async def limited() -> Message:
        nonlocal count, is_over
        message = await receive()
        count += len(message.get("body", b""))
        if count > limit:
            raise MultiPartException(f"This upload exceeds the maximum allowed size of {limit} bytes.")
        if message["type"] == "http.disconnect" and not is_over:
            raise MultiPartException("The upload broke off.")
        is_over = not message.get("more_body")
        return message

    return limited


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
    except RecursionError:  # too deep to look into
        return True
    except ValueError:  # no JSON, which Gradio refuses
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


__all__ = ["Guard", "LocalOnly"]
