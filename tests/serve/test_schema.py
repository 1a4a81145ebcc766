"""Whatever the schema allows is answered as the schema says, and nothing makes the server fail."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from seed_hf.serve.schemas import ChatRequest, CodesRequest, EmbeddingRequest, ImageRequest


MANY = 1000


def message(**fields):
    return {"messages": [{"role": "user", **fields}]}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CodesRequest, {"images": [1] * MANY}),
        (CodesRequest, {"codes": [["a"] * MANY]}),
        (CodesRequest, {"codes": [["a"]] * MANY}),
        (EmbeddingRequest, {"input": [1] * MANY}),
        (ChatRequest, {"messages": [1] * MANY}),
        (ChatRequest, message(content=[1] * MANY)),
        (ChatRequest, message(content=[{"type": "image_url", "codes": ["a"] * MANY}])),
        (ChatRequest, {**message(content="a"), "modalities": ["x"] * MANY}),
        (ChatRequest, {**message(content="a"), "stop": [1] * MANY}),
        (ChatRequest, message(content="a", **{f"k{number}": 1 for number in range(MANY)})),
        (ImageRequest, {"prompt": "a", **{f"k{number}": 1 for number in range(MANY)}}),
    ],
)
def test_many_mistakes_take_no_more_than_one(kind, body):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(body)
    # each member of a union says what it does not like
    assert refused.value.error_count() <= 2


@pytest.mark.slow
def test_generated_requests(url):
    pytest.importorskip("schemathesis", reason="needs pip install schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", checks]
    command += ["--phases", "fuzzing", "--max-examples", "30", "--request-timeout", "120", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "9 passed" in done.stdout, done.stdout
