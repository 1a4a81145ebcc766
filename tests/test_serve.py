"""`transformers serve`, over HTTP, in a process without this package: the exported seed-mini, and seed-mini itself."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from tiny import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from seed_hf.convert.export import export_language_model
from seed_hf.mini import mini_language_model, mini_language_model_path, mini_pictures_path


SERVE = (
    "import sys; sys.modules['seed_hf'] = None\n"  # any import of it fails
    "from transformers.cli.transformers import main\n"
    "sys.argv = ['transformers', 'serve', *sys.argv[1:]]; main()"
)


def wait_until_healthy(url: str, process: subprocess.Popen, log: Path):
    for _ in range(1800):  # a machine may be busy; a server that fails is seen at once
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
                assert json.load(response) == {"status": "ok"}
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def seed_mini():
    return mini_language_model()


@pytest.fixture(scope="module")
def server(tmp_path_factory, seed_mini):
    """URL and working directory of a server; in that are `plain`, as README exports it, and `seed-mini`."""
    folder = tmp_path_factory.mktemp("server")
    export_language_model(mini_language_model_path(), folder / "plain")
    for part in seed_mini:
        part.save_pretrained(folder / "seed-mini")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(folder / "home"), "NO_PROXY": "localhost"}
    flags = ["--trust-remote-code", "--device", "cpu", "--port", str(port), "--model-timeout", "-1"]
    log = folder / "log"
    with open(log, "w") as file:
        command = [sys.executable, "-c", SERVE, *flags]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_until_healthy(f"http://localhost:{port}", process, log)
            yield f"http://localhost:{port}", folder
        finally:
            process.terminate()
            process.wait()


def chat(url: str, model: str, content, **settings) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, **settings}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def greedy_reply(folder: Path, messages: list[dict], max_new_tokens: int) -> str:
    """What the exported model writes by itself."""
    model, tokenizer = (auto.from_pretrained(folder) for auto in (AutoModelForCausalLM, AutoTokenizer))
    settings = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = tokenizer.apply_chat_template(messages, **settings)
    ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def run_client(page: Path, url: str, monkeypatch) -> dict:
    """Runs the snippet of a page that talks to a server; returns its variables."""
    snippets = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (code,) = (snippet for snippet in snippets if "http://localhost:8000" in snippet)
    monkeypatch.setenv("NO_PROXY", "localhost")
    names = {"__name__": "client"}
    exec(compile(code.replace("http://localhost:8000", url), f"{page.name}, client", "exec"), names)
    return names


def test_the_client_of_the_readme_draws(server, monkeypatch):
    url, folder = server
    names = run_client(ROOT / "README.md", url, monkeypatch)
    assert names["reply"].choices[0].message.content == greedy_reply(folder / "plain", names["chat"], 64)
    pictures = [part for part in names["parts"] if isinstance(part, Image.Image)]
    assert [picture.size for picture in pictures] == [(64, 64)]


def test_pictures_in_as_text(server, seed_mini):
    """To the exported model a picture is its codes."""
    model, processor = seed_mini
    url, folder = server
    inputs = processor(images=mini_pictures_path() + "/owl.png", text=processor.caption_prompt, return_tensors="pt")
    codes = model.get_image_codes(inputs["pixel_values"])
    text = processor.caption_prompt.replace("<image>", processor.tokenizer.codes_to_text(codes))
    reply = chat(url, "plain", text, max_tokens=8)
    assert reply == greedy_reply(folder / "plain", [{"role": "user", "content": text}], 8)


def test_pictures_in_as_pictures(server, seed_mini, monkeypatch):
    model, processor = seed_mini
    monkeypatch.chdir(ROOT)
    reply = run_client(ROOT / "docs" / "ecosystem.md", server[0], monkeypatch)["reply"].choices[0].message.content
    settings = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    content = [{"type": "image", "path": f"{mini_pictures_path()}/turtle.png"}, {"type": "text", "text": "A photo of"}]
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], **settings)
    ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert reply == processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert reply.strip()
