"""What is refused before Gradio sees it."""

import importlib.util
import json

import pytest


# gradio takes seconds to import, which only the worker that runs these tests should spend
pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the app needs gradio")

pytest.importorskip("starlette", reason="the app needs gradio, which brings starlette")
from starlette.applications import Starlette  # noqa: E402
from starlette.formparsers import MultiPartException  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


async def echo(request):
    return PlainTextResponse(await request.body())


async def upload(request):
    """As Gradio takes files."""
    try:
        return PlainTextResponse(b"".join([chunk async for chunk in request.stream()]))
    except MultiPartException as error:
        return PlainTextResponse(error.message, 413)


@pytest.fixture
def client(tmp_path):
    from seed_hf.app.guard import Guard

    routes = [Route("/gradio_api/queue/join", echo, methods=["POST"])]
    routes += [Route("/gradio_api/upload", upload, methods=["POST"])]
    limits = {"most_bytes": 1000, "upload_bytes": 3000, "folder_bytes": 5000}
    return TestClient(Guard(Starlette(routes=routes), tmp_path, **limits))


def test_a_request_passes_whole(client):
    body = json.dumps({"data": [{"path": "/tmp/x", "url": "http://127.0.0.1/file=/tmp/x"}]})
    answer = client.post("/gradio_api/queue/join", content=iter([body[:9].encode(), body[9:].encode()]))
    assert (answer.status_code, answer.text) == (200, body)


def test_only_uploads_may_be_large(client):
    assert client.post("/gradio_api/upload", content=bytes(2000)).status_code == 200
    assert client.post("/gradio_api/queue/join", content=bytes(2000)).status_code == 413


def test_uploads_cannot_fill_the_disk(client, tmp_path):
    answer = client.post("/gradio_api/upload", content=iter([bytes(2000)] * 2))
    assert answer.status_code == 413 and "3000 bytes" in answer.text
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.png").write_bytes(bytes(3000))
    assert client.post("/gradio_api/upload", content=b"x").status_code == 507


@pytest.mark.parametrize(
    "file",
    [
        {"path": "http://example.org/x.png"},
        {"path": "HTTPS://example.org/x.png", "url": None},
        {"path": "x.png", "url": "data:image/png;base64,AAAA"},
    ],
)
def test_addresses_are_refused_wherever_they_stand(client, file):
    answer = client.post("/gradio_api/queue/join", json={"data": [1, {"files": [file]}]})
    assert answer.status_code == 400 and "as a file" in answer.json()["detail"]


def test_deep_nesting_is_no_way_around(client):
    body = b'{"a":' * 150 + b'{"path": "http://example.org"}' + b"}" * 150
    assert client.post("/gradio_api/queue/join", content=body).status_code == 400
    # too deep for a look at it
    body = b'{"a":' * 150_000 + b'{"path": "http://example.org"}'
    client.app.most_bytes = len(body)
    assert client.post("/gradio_api/queue/join", content=body).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, 200),
        ({"host": "LOCALHOST:7860", "origin": "http://localhost:7860"}, 200),
        ({"host": "example.org:7860"}, 403),
        ({"host": "127.0.0.1.example.org"}, 403),
        ({"host": ""}, 403),
        ({"host": "127.0.0.1:7860", "origin": "http://example.org"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:80"}, 403),
        ({"host": "127.0.0.1:7860", "origin": "null"}, 403),
    ],
)
def test_a_page_of_this_machine_answers_itself_alone(client, headers, status):
    from seed_hf.app.guard import LocalOnly

    client.app = LocalOnly(client.app)
    answer = TestClient(client.app).post("/gradio_api/queue/join", headers=headers, json={})
    assert answer.status_code == status
