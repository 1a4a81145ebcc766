"""`transformers serve`, over HTTP, in a process without this package: the exported seed-mini, and seed-mini itself.

With continuous batching, which transformers keeps for models that have a tokenizer and no processor: for the exported
one, and for one without an image tokenizer. seed-mini itself is served one request after the other.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import ROOT
from tiny.language import NUM_QUERY_TOKENS, build_seed_model
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
def toy():
    """A model that likes to open images, without an image tokenizer; its tokenizer shows all that it writes."""
    model, tokenizer = build_seed_model("llama", "learned", tied=False)
    with torch.no_grad():
        model.language_model.get_output_embeddings().weight[tokenizer.boi_token_id] *= 100
    return model, tokenizer.to_plain_tokenizer()


@pytest.fixture(scope="module")
def server(tmp_path_factory, seed_mini, toy):
    """URL and working directory of a server; in that are `plain`, as the guide exports it, `seed-mini` and `toy`."""
    folder = tmp_path_factory.mktemp("server")
    export_language_model(mini_language_model_path(), folder / "plain")
    for part in seed_mini:
        part.save_pretrained(folder / "seed-mini")
    for part in toy:
        part.save_pretrained(folder / "toy")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(folder / "home"), "NO_PROXY": "localhost"}
    flags = ["--trust-remote-code", "--device", "cpu", "--port", str(port), "--model-timeout", "-1"]
    # without a size it would fill most of the memory with its cache
    flags += ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "256"]
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


def post(url: str, **body) -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]


def chat(url: str, model: str, content, **settings) -> str:
    messages = [{"role": "user", "content": content}]
    settings = {"temperature": 0, **settings}
    return post(f"{url}/v1/chat/completions", model=model, messages=messages, **settings)["message"]["content"]


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


def test_the_client_of_the_guide_draws(server, monkeypatch):
    url, folder = server
    names = run_client(ROOT / "docs" / "guides" / "serve.md", url, monkeypatch)
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


HOT = {"generation_mode": "interleaved", "do_sample": True, "temperature": 5.0, "max_new_tokens": 100}
HOT["eos_token_id"] = -1
SPAN = re.compile(rf"<img>(<img_\d{{5}}>){{{NUM_QUERY_TOKENS}}}</img>")


def test_ten_thousand_hot_samples_of_a_hundred_requests_at_a_time(server):
    """A request says by its `generation_config` what it wants; the grammar holds in every one of its tokens."""
    pytest.importorskip("transformers", minversion="5.23", reason="processors for each request are that new")
    url, folder = server

    def sample(number: int) -> dict:
        prompt, config = f"a photo of a {number}", json.dumps(HOT)
        return post(f"{url}/v1/completions", model="toy", prompt=prompt, generation_config=config)

    with ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(sample, range(100)))
    assert re.search("Model: toy.*, CB: True", (folder / "log").read_text())
    assert all(reply["finish_reason"] == "length" for reply in replies)
    texts = [reply["text"] for reply in replies]
    assert sum(len(SPAN.findall(text)) for text in texts) > 0
    for text in texts:
        assert "<img" not in SPAN.sub("", text) and "</img>" not in SPAN.sub("", text)
