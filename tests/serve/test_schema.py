"""Whatever the schema allows is answered as the schema says, and nothing makes the server fail."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_generated_requests(url):
    pytest.importorskip("schemathesis", reason="needs pip install schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", checks]
    command += ["--phases", "fuzzing", "--max-examples", "30", "--request-timeout", "120", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "9 passed" in done.stdout, done.stdout
