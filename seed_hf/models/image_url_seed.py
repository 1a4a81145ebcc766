# Copyright 2026 The seed_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Downloads images by http and https, from public addresses only, and never for longer than allowed."""

import functools
import http.client
import io
import ipaddress
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .image_limits_seed import IMAGE_LIMITS, ImageRefusedError


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@contextmanager
def open_url(url: str) -> Iterator[http.client.HTTPResponse]:
    """Sends a request and follows redirects; each host that is connected to is checked.

    Args:
        url (`str`): http or https. No part of it but its host is repeated in errors: queries may hold signatures.

    Yields:
        `http.client.HTTPResponse`: Raises `TimeoutError` if it is read for too long.

    Raises:
        ImageRefusedError: If an address is not public and `IMAGE_LIMITS.allow_private_urls` is not set, or the URL
            holds a user name or password.
        OSError: If there is no answer, or another one than 200.
    """
    deadline = time.monotonic() + IMAGE_LIMITS.max_url_seconds
    # some servers refuse Python's own name
    request = urllib.request.Request(_ascii_url(url), headers={"User-Agent": "seed_hf"})
    try:
        response = _opener(deadline).open(request, timeout=IMAGE_LIMITS.max_url_seconds)
    except ImageRefusedError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"the server answered {error.code} {http.client.responses.get(error.code, '')}") from None
    except urllib.error.URLError as error:
        raise OSError(f"there is no answer: {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # their words may hold the URL
        raise OSError(f"the download failed with {type(error).__name__}") from None
    with response:
        yield response


def _ascii_url(url: str) -> str:
    """Spaces and letters beyond ASCII as they are sent, and no secrets, which a redirect would carry elsewhere."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.encode("idna").decode()
    except ValueError as error:  # UnicodeError too
        raise ImageRefusedError("its host is none") from error
    if "@" in host:
        raise ImageRefusedError("it holds a user name or password; allowed: a URL without")
    quoted = [urllib.parse.quote(part, safe="%/:?#[]@!$&'()*+,;=~|") for part in (parts.path, parts.query)]
    return urllib.parse.urlunsplit((parts.scheme, host, *quoted, ""))


def _opener(deadline: float) -> urllib.request.OpenerDirector:
    """Without the handlers of files, FTP and data, which a redirect could lead to."""
    opener = urllib.request.OpenerDirector()
    handlers = (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Handler(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens connections that check the address and keep the deadline."""

    def __init__(self, deadline: float):
        super().__init__()
        self.deadline = deadline

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connector(http.client.HTTPConnection, request), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connector(http.client.HTTPSConnection, request), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connector(self, kind: type[http.client.HTTPConnection], request: urllib.request.Request) -> Callable:
        is_proxied = request.has_proxy() or bool(request._tunnel_host)
        if is_proxied:
            _check_name(urllib.parse.urlsplit(request.full_url).hostname or "")

        def connect(host: str, timeout: float) -> http.client.HTTPConnection:
            connection = kind(host, timeout=max(self.deadline - time.monotonic(), 0.001))
            connection.response_class = functools.partial(_Response, deadline=self.deadline)
            if not is_proxied:  # the user chose the proxy, and only the proxy knows what it connects to
                connection._create_connection = functools.partial(_connect, deadline=self.deadline)
            return connection

        return connect


def _connect(address: tuple[str, int], timeout: float, source_address=None, *, deadline: float) -> socket.socket:
    """Resolves the name once and connects to the very address that was checked."""
    host, port = address
    failure = OSError(f"{host} has no address")
    for ip in _addresses(host, port):
        try:
            return socket.create_connection((ip, port), max(deadline - time.monotonic(), 0.001), source_address)
        except OSError as error:
            failure = error
    raise failure


def _addresses(host: str, port: int | None = None) -> list[str]:
    """All addresses of a host, each of them public."""
    found = list(dict.fromkeys(info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    private = [ip for ip in found if not _is_public(ip)]
    if private and not IMAGE_LIMITS.allow_private_urls:
        raise ImageRefusedError(
            f"it leads to {private[0]}, which is no public address; IMAGE_LIMITS.allow_private_urls (or the "
            "environment variable SEED_HF_ALLOW_PRIVATE_URLS=1) allows it"
        )
    return found


def _check_name(host: str) -> None:
    """As far as a name behind a proxy can be checked: it may be one that only the proxy knows."""
    try:
        _addresses(host)
    except socket.gaierror:
        return


def _is_public(ip: str) -> bool:
    """Whether the whole internet reaches this address, also where it stands in an IPv6 address for an IPv4 one."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if address.version == 6:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        address = address.ipv4_mapped or address.sixtofour or inner or address
    return address.is_global and not address.is_multicast


class _Response(http.client.HTTPResponse):
    """An answer whose every read, headers included, ends at the deadline."""

    def __init__(self, sock: socket.socket, *args, deadline: float, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_UntilDeadline(self.fp.detach(), sock, deadline))

    def begin(self) -> None:
        super().begin()
        if 300 <= self.status < 400:  # urllib reads the body of a redirect, however long it is
            self.length, self.chunked, self.will_close = 0, False, True


class _UntilDeadline(io.RawIOBase):
    """The bytes of a socket, up to a point in time."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float):
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
