"""What is refused before Gradio sees it."""

import json

import pytest


pytest.importorskip("gradio", reason="the app needs gradio")
from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from seed_hf.app.guard import Guard, LocalOnly  # noqa: E402


async def echo(request):
    return PlainTextResponse(await request.body())


@pytest.fixture
def client():
    routes = [Route(path, echo, methods=["POST"]) for path in ("/gradio_api/upload", "/gradio_api/queue/join")]
    return TestClient(Guard(Starlette(routes=routes), most_bytes=1000))


def test_a_request_passes_whole(client):
    body = json.dumps({"data": [{"path": "/tmp/x", "url": "http://127.0.0.1/file=/tmp/x"}]})
    answer = client.post("/gradio_api/queue/join", content=iter([body[:9].encode(), body[9:].encode()]))
    assert (answer.status_code, answer.text) == (200, body)


def test_only_uploads_may_be_large(client):
    assert client.post("/gradio_api/upload", content=bytes(2000)).status_code == 200
    assert client.post("/gradio_api/queue/join", content=bytes(2000)).status_code == 413


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
    client.app = LocalOnly(client.app)
    answer = TestClient(client.app).post("/gradio_api/queue/join", headers=headers, json={})
    assert answer.status_code == status
