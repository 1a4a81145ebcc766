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
_APPS = """
import os, signal
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
# one after the other, forked, as gradio takes seconds to import
for _ in range({count}):
    pid = os.fork()
    if not pid:
        page.run_app(on_start=lambda url: print(os.getpid(), url, flush=True))
        print("ended", flush=True)
        break
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print("exit code", code, flush=True)
    assert code == 0
"""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def test_no_file_is_left(tmp_path):
    pipe = {"stdout": subprocess.PIPE, "text": True, "env": {**os.environ, "TMPDIR": str(tmp_path)}}
    with processes.Popen([sys.executable, "-c", _APPS.format(count=len(_SIGNALS))], **pipe) as apps:
        for number in _SIGNALS:
            pid, url = apps.stdout.readline().split()
            httpx.post(f"{url}gradio_api/upload", files={"files": ("x.png", b"secret")}).raise_for_status()
            assert {path.name for path in tmp_path.rglob("x.png")} == {"x.png"}
            # chats lie in the same folder
            assert [path.parent.name[:11] for path in tmp_path.rglob("seed_hf_talk_*")] == ["seed_hf_app"]
            os.kill(int(pid), number)
            said = []
            while not said or said[-1] and "exit code" not in said[-1]:
                said.append(apps.stdout.readline())
            assert "ended\n" in said and said[-1] == "exit code 0\n", (number, said)
            assert not list(tmp_path.glob("seed_hf_*"))
        assert apps.wait() == 0
