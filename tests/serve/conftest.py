"""One studio and one server for all tests of the folder."""

import pytest
from tiny.serve import build_studio, serving


@pytest.fixture(scope="package")
def studio(tmp_path_factory):
    return build_studio(tmp_path_factory.mktemp("studio"))


@pytest.fixture(scope="package")
def url(studio):
    with serving(studio) as url:
        yield url


@pytest.fixture(scope="package")
def client(url):
    import openai  # which takes a second

    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client
