"""Downloads: what is fetched, what is refused before anything is sent, and where a download ends."""

import base64
import http.server
import socket
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from seed_hf.models import image_url_seed
from seed_hf.models.image_limits_seed import IMAGE_LIMITS
from seed_hf.models.image_processing_seed import load_rgb_image


def make_photo(file_format="PNG", **options):
    values = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, file_format, **options)
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; a path `/to/<base64>` redirects."""

    def do_GET(self):  # noqa: N802
        self.server.paths.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", base64.urlsafe_b64decode(path.removeprefix("/to/")).decode())
            self.end_headers()
            self.send_forever(b"x" * 2**16 if self.path.endswith("?endless") else b"")
        elif path.startswith("/none"):
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            name = path[1:].partition(".")[0]
            self.wfile.write(make_photo("JPEG" if path.endswith(".jpg") else "PNG") if "photo" in name else b"")
            self.wfile.flush()
            self.send_forever({"photo-endless": b"x" * 2**16, "endless": b"x" * 2**16}.get(name, b""))
            if "drip" in name:
                while not self.server.stopped.wait(0.05):
                    self.wfile.write(b"\0")
                    self.wfile.flush()

    def send_forever(self, block):
        """Until the reader hangs up."""
        while block and not self.server.stopped.is_set():
            self.wfile.write(block)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """The reader hung up, as it should."""


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as running:
        running.paths, running.stopped = [], threading.Event()
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.stopped.set()
        running.shutdown()


@pytest.fixture
def loopback(monkeypatch, server):
    monkeypatch.setattr(IMAGE_LIMITS, "allow_private_urls", True)
    return server


def redirect(server, target):
    return f"{server.url}/to/{base64.urlsafe_b64encode(target.encode()).decode()}"


def test_images_and_redirects(loopback):
    expected = np.asarray(load_rgb_image(make_photo()))
    urls = [
        f"{loopback.url}/photo.png",
        redirect(loopback, "/photo.png"),
        redirect(loopback, f"{loopback.url}/photo.png"),
    ]
    urls += [f" {loopback.url.upper()}/photo.png\n", f"{loopback.url}/ein photo für dich.png?ä=1"]
    for url in urls:
        np.testing.assert_array_equal(np.asarray(load_rgb_image(url)), expected)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_refused_before_anything_is_sent(server, host):
    with pytest.raises(ValueError, match="is no public address; IMAGE_LIMITS.allow_private_urls"):
        load_rgb_image(f"http://{host}:{server.server_port}/photo.png")
    assert server.paths == []


@pytest.mark.parametrize(
    ("ip", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("233.252.1.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(ip, is_public):
    assert image_url_seed._is_public(ip) is is_public


def resolve(monkeypatch, answers):
    """Names that lead to loopback, as a name server of anybody can say."""
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        return real(answers.get(host, host), port, *args, **kwargs)

    monkeypatch.setattr(image_url_seed.socket, "getaddrinfo", getaddrinfo)


def test_the_address_counts_and_not_the_name(server, monkeypatch):
    resolve(monkeypatch, {"images.example.org": "127.0.0.1"})
    with pytest.raises(ValueError, match=r"leads to 127.0.0.1, which is no public address"):
        load_rgb_image(f"http://images.example.org:{server.server_port}/photo.png")
    assert server.paths == []


def test_redirects_are_checked_again(server, monkeypatch):
    """The first host passes for public; the one that it names does not."""
    resolve(monkeypatch, {"public.example.org": "127.0.0.1"})
    is_public, asked = image_url_seed._is_public, []
    monkeypatch.setattr(image_url_seed, "_is_public", lambda ip: asked.append(ip) or len(asked) == 1 or is_public(ip))
    url = redirect(server, f"http://localhost:{server.server_port}/photo.png")
    with pytest.raises(ValueError, match="is no public address"):
        load_rgb_image(url.replace("127.0.0.1", "public.example.org"))
    assert len(server.paths) == 1
    assert len(asked) >= 2


def test_a_name_is_resolved_once(server, monkeypatch):
    """A name server that answers differently the second time gains nothing: what was checked is connected to."""
    asked, real = [], socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        asked.append(host)
        return real("127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(IMAGE_LIMITS, "allow_private_urls", True)
    monkeypatch.setattr(image_url_seed.socket, "getaddrinfo", getaddrinfo)
    load_rgb_image(f"http://images.example.org:{server.server_port}/photo.png")
    assert asked == ["images.example.org", "127.0.0.1"]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a.png", "data:image/png;base64,AAAA"])
def test_redirects_to_other_schemes_are_refused(loopback, target):
    with pytest.raises(ValueError, match="the server answered 302|there is no answer|the download failed"):
        load_rgb_image(redirect(loopback, target))


@pytest.mark.parametrize("url", ["ftp://example.org/a.png", "file:///tmp/a.png", "s3://bucket/a.png", "FILE://a"])
def test_other_schemes_are_refused(url):
    with pytest.raises(ValueError, match=r":// is not read; allowed: http:// and https://"):
        load_rgb_image(url)


def test_secrets_are_not_repeated(loopback):
    for path in ("/none.png", "/empty.png"):
        with pytest.raises(ValueError) as error:
            load_rgb_image(f"{loopback.url}{path}?X-Amz-Signature=secret&a=1#secret")
        assert "secret" not in str(error.value) and path in str(error.value)
    for url in ("http://me:secret@127.0.0.1/a.png", "https://me:sec/ret@secret@127.0.0.1/a?secret"):
        with pytest.raises(ValueError) as error:
            load_rgb_image([url] if url.startswith("https") else url)
        assert "secret" not in str(error.value) and "sec/ret" not in str(error.value)
    with pytest.raises(ValueError, match="holds a user name or password") as error:
        load_rgb_image("http://me:secret@127.0.0.1/a.png")
    with pytest.raises(ValueError) as error:
        load_rgb_image(redirect(loopback, "http://me:secret@127.0.0.1/a.png?secret"))
    assert "secret" not in str(error.value) and "secret" not in str(error.value.__cause__)


@pytest.mark.parametrize("name", ["photo-endless.png", "photo-endless.jpg", "photo-drip.png", "photo-drip.jpg"])
def test_a_download_ends_where_the_image_does(loopback, name):
    start = time.monotonic()
    assert load_rgb_image(f"{loopback.url}/{name}").size == (37, 23)
    assert time.monotonic() - start < IMAGE_LIMITS.max_url_seconds / 2


def test_limit_on_bytes(loopback, monkeypatch):
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_bytes", 2**20)
    for url in (f"{loopback.url}/endless.png", f"{loopback.url}/endless.webp"):
        with pytest.raises(ValueError, match="cannot identify image|1048576 bytes that IMAGE_LIMITS.max_image_bytes"):
            load_rgb_image(url)
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_bytes", 100)
    with pytest.raises(ValueError, match="100 bytes that IMAGE_LIMITS.max_image_bytes"):
        load_rgb_image(f"{loopback.url}/photo.png")


def test_limit_on_time(loopback, monkeypatch):
    """A byte now and then keeps a time limit for each read alive for ever, but not one for the whole."""
    monkeypatch.setattr(IMAGE_LIMITS, "max_url_seconds", 1)
    start = time.monotonic()
    with pytest.raises(ValueError, match="longer than the 1 seconds that IMAGE_LIMITS.max_url_seconds"):
        load_rgb_image(f"{loopback.url}/drip.png")
    assert 0.5 < time.monotonic() - start < 30


def test_time_counts_for_headers_too(monkeypatch):
    monkeypatch.setattr(IMAGE_LIMITS, "max_url_seconds", 1)
    monkeypatch.setattr(IMAGE_LIMITS, "allow_private_urls", True)
    stopped = threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stopped.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        start = time.monotonic()
        with pytest.raises(ValueError, match="there is no answer|TimeoutError"):
            load_rgb_image(f"http://127.0.0.1:{listener.getsockname()[1]}/a.png")
        assert time.monotonic() - start < 30
        stopped.set()
        thread.join()


def test_the_body_of_a_redirect_is_not_read(loopback):
    """urllib would read all of it."""
    assert load_rgb_image(redirect(loopback, "/photo.png") + "?endless").size == (37, 23)
