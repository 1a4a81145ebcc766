"""Key, limits, addresses of images, and the end."""

import asyncio
import http.server
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import processes
import pytest
import torch
from PIL import Image
from tiny import ROOT
from tiny.pictures import build_images
from tiny.serve import data_uri, held, metric, serving, wait_for

from seed_hf.commands import main
from seed_hf.models.image_limits_seed import IMAGE_LIMITS
from seed_hf.serve.desk import Desk
from seed_hf.serve.settings import ServerSettings
from seed_hf.serve.work import Item


KEY = {"Authorization": "Bearer secret"}
CHAT = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def guarded(studio):
    with serving(studio, api_key="secret", max_body_bytes=2000, max_requests=1) as url:
        yield url


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer secre"}, {"Authorization": "Basic secret"}])
def test_the_key_is_needed(guarded, headers):
    for answer in (
        httpx.post(f"{guarded}/v1/chat/completions", json=CHAT, headers=headers),
        httpx.get(f"{guarded}/v1/models", headers=headers),
        httpx.get(f"{guarded}/metrics", headers=headers),
    ):
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{guarded}/health").status_code == 200
    assert httpx.post(f"{guarded}/v1/chat/completions", json=CHAT, headers=KEY).status_code == 200


def test_only_named_hosts_are_served(studio):
    """Else a page of another site, whose name was made to lead to this machine, could use the server."""
    with serving(studio, hosts=("127.0.0.1", "localhost", "::1")) as url:
        port = url.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
            answer = httpx.get(f"{url}/v1/models", headers={"Host": host})
            assert answer.status_code == 403 and "`Host` is" in answer.json()["error"]["message"]
        for host in ("127.0.0.1", f"localhost:{port}", f"LOCALHOST:{port}", "[::1]", f"[::1]:{port}"):
            assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code == 200
        # browsers post forms of other sites without asking first
        form = {"data": {"prompt": "a"}, "files": {"image": ("a.png", b"no image")}}
        for origin in ("http://evil.example", "https://localhost.evil.example", "null", "", "file://localhost"):
            answer = httpx.post(f"{url}/v1/images/edits", **form, headers={"Origin": origin})
            assert answer.status_code == 403 and answer.json()["error"]["code"] == "origin_not_allowed"
        for origin in (f"http://127.0.0.1:{port}", "http://localhost:3000", "http://[::1]"):
            answer = httpx.post(f"{url}/v1/images/edits", **form, headers={"Origin": origin})
            assert answer.status_code == 400 and answer.json()["error"]["param"] == "image"


def test_a_large_body_is_not_read(guarded):
    host, port = guarded.removeprefix("http://").split(":")
    head = (
        "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 999999999\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    # without a length it is counted
    body = (b" " * 500 for _ in range(5))
    answer = httpx.post(f"{guarded}/v1/embeddings", content=body, headers=KEY)
    assert answer.status_code == 413 and "2000 bytes" in answer.json()["error"]["message"]


def test_a_full_server_says_when_to_come_back(guarded, studio):
    with ThreadPoolExecutor() as pool, held(studio.model) as release:
        first = pool.submit(httpx.post, f"{guarded}/v1/chat/completions", json=CHAT, headers=KEY, timeout=None)
        wait_for(lambda: metric(guarded, "seed_requests_in_flight", **KEY) == 1)
        second = httpx.post(f"{guarded}/v1/chat/completions", json=CHAT, headers=KEY)
        release.set()
        assert first.result().status_code == 200
    assert second.status_code == 429 and second.headers["Retry-After"] == "1"


def test_a_request_that_takes_too_long_is_given_up(studio):
    with serving(studio, max_seconds=0.5) as url, held(studio.model) as release:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=None)
        release.set()
    assert answer.status_code == 503 and answer.headers["Retry-After"] and answer.json()["error"]["code"] == "timeout"


def test_a_stream_that_takes_too_long_ends_with_an_error(studio):
    with serving(studio, max_seconds=2) as url, held(studio.model, number=2) as release:
        answer = httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=None)
        release.set()
    assert '"code": "timeout"' in answer.text.strip().splitlines()[-1]


def test_an_image_of_too_many_pixels_is_refused(url, monkeypatch):
    monkeypatch.setattr(IMAGE_LIMITS, "max_image_pixels", 100)
    error = httpx.post(f"{url}/v1/images/codes", json={"images": [data_uri(build_images(1)[0])]}).json()["error"]
    assert error["param"] == "images.0" and "more than the 100" in error["message"]


def test_the_pixels_of_a_request_are_limited(studio):
    """Small files can hold large images: sixteen black ones take no more memory than one."""
    black, count = data_uri(Image.new("RGB", (100, 100))), 16
    with serving(studio, max_request_pixels=30000) as url:
        path, part = f"{url}/v1/images/codes", {"type": "image_url", "image_url": {"url": black}}
        assert len(httpx.post(path, json={"images": [black] * 3}).json()["data"]) == 3
        chat = {"messages": [{"role": "user", "content": [part] * count}]}
        refused = {
            "images.3": httpx.post(path, json={"images": [black] * count}),
            "input.3": httpx.post(f"{url}/v1/embeddings", json={"input": [black] * count}),
            "messages.0.content.3.image_url.url": httpx.post(f"{url}/v1/chat/completions", json=chat),
        }
    for name, answer in refused.items():
        assert answer.status_code == 400 and answer.json()["error"]["param"] == name
        assert answer.json()["error"]["message"].endswith("to 40000 pixels; allowed: 30000.")


def test_only_the_input_of_the_model_waits(studio):
    images = [image.resize((700, 500)) for image in build_images(3)]
    desk = Desk(studio, "toy", ServerSettings())
    values = asyncio.run(desk.read_images([("images", data_uri(image)) for image in images]))
    desk.close()
    assert torch.equal(torch.stack(values), studio.pipeline.image_processor(images, return_tensors="pt").pixel_values)
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in values)
    # what nobody waits for is not computed
    items = [Item(value, is_cancelled=number == 1) for number, value in enumerate(values)]
    first, none, last = desk.work.encode(items, None)
    assert none is None and torch.equal(torch.stack([first, last]), studio.encode(images)[::2])
    assert [row is None for row in desk.work.embed_images(items, None)] == [False, True, False]
    assert desk.work.encode(items[1:2], None) == desk.work.embed_images(items[1:2], None) == [None]


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.num_requests += 1


def test_urls_are_fetched_only_where_they_are_allowed(studio, tmp_path, monkeypatch):
    (image,) = build_images(1)
    image.save(tmp_path / "a.png")
    files = http.server.HTTPServer(("127.0.0.1", 0), lambda *args: _Files(*args, directory=tmp_path))
    files.num_requests = 0
    threading.Thread(target=files.serve_forever).start()
    body = {"images": [f"http://127.0.0.1:{files.server_port}/a.png"]}
    with serving(studio, allow_image_urls=True) as url:
        refused = httpx.post(f"{url}/v1/images/codes", json=body)
        assert refused.status_code == 400 and files.num_requests == 0
        assert "could not be fetched" in refused.json()["error"]["message"] and "127.0" not in refused.text
        path = httpx.post(f"{url}/v1/images/codes", json={"images": [str(tmp_path / "a.png")]})
        assert path.json()["error"]["code"] == "invalid_image_url"
        monkeypatch.setattr(IMAGE_LIMITS, "allow_private_urls", True)
        fetched = httpx.post(f"{url}/v1/images/codes", json=body).json()
    files.shutdown()
    files.server_close()
    assert fetched["data"][0]["codes"] == studio.encode([image])[0].tolist() and files.num_requests == 1


def test_the_command_finishes_its_work_when_it_is_told_to_stop(studio, tmp_path):
    studio.pipeline.save_pretrained(tmp_path / "toy")
    code = "import sys, seed_hf_script; sys.exit(seed_hf_script.main())"
    command = [sys.executable, "-c", code, "serve", "--model", str(tmp_path / "toy"), "--port", "0"]
    with processes.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stderr if "serving at" in line)
        url = line.split()[-1].removesuffix("/v1")
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "toy"
        with ThreadPoolExecutor() as pool:
            body = {"prompt": "a cat", "n": 2, "steps": 250}
            running = pool.submit(httpx.post, f"{url}/v1/images/generations", json=body, timeout=None)
            wait_for(lambda: metric(url, "seed_requests_in_flight") == 1)
            process.terminate()
            wait_for(lambda: refuses(url))
            assert len(running.result().json()["data"]) == 2
        assert process.wait() == 0
        assert process.stderr.read() == ""


def refuses(url) -> bool:
    try:
        return httpx.post(f"{url}/v1/images/codes", json={}).status_code == 503
    except httpx.TransportError:
        return True


@pytest.mark.parametrize(
    "flags, problem",
    [
        (["--max-tokens", "0"], "`--max-tokens` is 0; allowed: more than 0."),
        (["--api-key-file", "nowhere"], "nowhere"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_line(flags, problem, capsys):
    assert main(["serve", *flags]) == 1
    assert problem in capsys.readouterr().err.splitlines()[-1]
