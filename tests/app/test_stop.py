"""What visitors leave behind is deleted, however the app is stopped."""

import importlib.util
import os
import signal
import subprocess
import sys

import httpx
import processes
import pytest


pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the app needs gradio")

# a toy without weights: what is stopped is the server around it
_APP = """
import signal
# tests under `nohup` would hand down that it is ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from contextlib import contextmanager
import gradio as gr
from seed_hf.app import page
from seed_hf.app.chat import Talk

talks = []

def build_page(*args):
    talks.append(Talk())
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Markdown("A page")
    return blocks

page.build_page = build_page
page.Studio.load = lambda *args: None
page.run_app(on_start=lambda url: print(url, flush=True))
print("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_no_file_is_left(tmp_path, number):
    pipe = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "TMPDIR": str(tmp_path)}}
    with processes.Popen([sys.executable, "-c", _APP], **pipe) as app:
        url = app.stdout.readline().strip()
        httpx.post(f"{url}gradio_api/upload", files={"files": ("x.png", b"secret")}).raise_for_status()
        assert {path.name for path in tmp_path.rglob("x.png")} == {"x.png"}
        # chats lie in the same folder
        assert [path.parent.name[:11] for path in tmp_path.rglob("seed_hf_talk_*")] == ["seed_hf_app"]
        app.send_signal(number)
        assert "ended" in app.stdout.read() and app.wait() == 0
    assert not list(tmp_path.glob("seed_hf_*"))
