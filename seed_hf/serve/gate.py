"""What stands before the endpoints: key, limits, time, and the end of work that nobody waits for."""

import asyncio
import hmac
import json
import re
import time

from ..loopback import host_name
from .desk import Desk
from .errors import RequestError


class Gate:
    """
    Middleware that lets requests in one by one.

    Args:
        app: The application behind it.
        desk ([`Desk`]): What does the work; has limits and switches, and metrics.
        paths (`frozenset[str]`): Paths that metrics name; others are one.
    """

    def __init__(self, app, desk: Desk, paths: frozenset[str]):
        self.app, self.desk, self.paths = app, desk, paths
        self.settings, self.metrics = desk.settings, desk.metrics
        self.num_in_flight = 0

    async def __call__(self, scope, receive, send):
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        started, answer = time.perf_counter(), _Sending(send)
        try:
            await self._answer(scope, receive, answer)
        except RequestError as error:
            await answer.fail(error, scope)
        finally:
            self.metrics.requests.labels(path, str(answer.status or "none")).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _answer(self, scope, receive, answer: "_Sending"):
        self._check_host(scope)
        if scope["path"] == "/health":
            await self.app(scope, receive, answer)
            return
        self._check_key(scope)
        if scope["method"] != "POST":
            await self.app(scope, receive, answer)
            return
        self._check_room()
        self.num_in_flight += 1
        self.metrics.in_flight.inc()
        try:
            async with asyncio.timeout(self.settings.max_seconds):
                body = await self._read(scope, receive)
                await self._run(scope, body, receive, answer)
        except TimeoutError:
            message = f"The request took longer than {self.settings.max_seconds:g} seconds."
            raise RequestError(message, status=503, code="timeout", retry_after=10) from None
        finally:
            self.num_in_flight -= 1
            self.metrics.in_flight.dec()

    def _check_host(self, scope):
        if self.settings.hosts is None:
            return
        headers = dict(scope["headers"])
        self._check_name("Host", headers.get(b"host", b"").decode("latin-1"))
        if b"origin" in headers:
            # a page of another site can post forms here, and its browser names the site
            self._check_name("Origin", headers[b"origin"].decode("latin-1"))

    def _check_name(self, header: str, value: str):
        host = re.sub(r"^https?://", "", value) if header == "Origin" else value
        if host_name(host) not in self.settings.hosts:
            message = f"`{header}` is {value!r}; allowed without an API key: {', '.join(self.settings.hosts)}."
            raise RequestError(message, status=403, code=f"{header.lower()}_not_allowed")

    def _check_key(self, scope):
        if self.settings.api_key is None:
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        wanted = self.settings.api_key.encode()
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), wanted):
            raise RequestError("The API key is missing or wrong.", status=401, code="invalid_api_key")

    def _check_room(self):
        if self.desk.is_draining:
            raise RequestError("The server is about to stop.", status=503, code="stopping", retry_after=10)
        if self.num_in_flight >= self.settings.max_requests:
            message = f"The server is at work on {self.num_in_flight} requests, the most that it takes."
            raise RequestError(message, status=429, code="queue_full", retry_after=1)

    async def _read(self, scope, receive) -> bytes:
        """The body, unless it is too large: then as little of it as says so."""
        limit, body = self.settings.max_body_bytes, bytearray()
        refusal = RequestError(f"The body is larger than {limit} bytes.", status=413, code="body_too_large")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            raise refusal
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError("The body is not whole.", code="body_not_whole")
            body += message.get("body", b"")
            if len(body) > limit:
                raise refusal
            if not message.get("more_body", False):
                return bytes(body)

    async def _run(self, scope, body: bytes, receive, answer: "_Sending"):
        """Runs the application, and cancels it when the client leaves."""
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        has_left = asyncio.Event()

        async def receive_again():
            for message in messages:
                return message
            await has_left.wait()
            return {"type": "http.disconnect"}

        work = asyncio.create_task(self.app(scope, receive_again, answer))
        leaving = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait([work, leaving], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
            else:
                self.metrics.disconnected.inc()
        finally:
            work.cancel()
            leaving.cancel()
            has_left.set()
            await asyncio.wait([work, leaving])


async def _until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


class _Sending:
    """Remembers how far an answer is, so that an error fits behind it."""

    def __init__(self, send):
        self._send, self.status, self.is_stream, self.is_over = send, None, False, False

    async def __call__(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_stream = (b"content-type", b"text/event-stream; charset=utf-8") in message["headers"]
        elif message["type"] == "http.response.body":
            self.is_over = not message.get("more_body", False)
        await self._send(message)

    async def fail(self, error: RequestError, scope):
        """Sends an error as the answer or, in a stream that has begun, as its last event."""
        if self.status is None:
            await error.response(scope, None, self)
        elif self.is_stream and not self.is_over:
            await self({"type": "http.response.body", "body": f"data: {json.dumps(error.content)}\n\n".encode()})


__all__ = ["Gate"]
