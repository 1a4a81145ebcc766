"""A studio of toys, and a server around it in a thread."""

import base64
import io
import re
import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn
from PIL import Image
from transformers import AutoTokenizer

from seed_hf import SeedPipeline
from seed_hf.serve.app import build_app
from seed_hf.serve.pictures import to_base64
from seed_hf.serve.settings import ServerSettings
from seed_hf.studio import Studio
from tiny.demo import build_seed, save_pipeline


def build_studio(folder) -> Studio:
    """A studio with every part; its pipeline is saved in the folder."""
    model, processor = build_seed(save_pipeline(folder / "pipeline"))
    pipeline = SeedPipeline.from_pretrained(folder / "pipeline", language_model=model, processor=processor)
    pipeline.set_progress_bar_config(disable=True)
    return Studio(pipeline, text_tokenizer=AutoTokenizer.from_pretrained(folder / "pipeline" / "image_tokenizer"))


@contextmanager
def serving(studio: Studio, **settings):
    """The URL of a server that runs meanwhile."""
    app = build_app(studio, "toy", ServerSettings(**settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=30))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def held(model, number: int = 1):
    """Holds a model back at its call of this number until the event that this gives is set."""
    calls, release = [], threading.Event()

    def hold(*args):
        calls.append(1)
        if len(calls) == number:
            release.wait()

    handle = model.register_forward_pre_hook(hold)
    try:
        yield release
    finally:
        release.set()
        handle.remove()


def metric(url: str, name: str, **headers) -> float:
    """The sum of a metric over its labels."""
    lines = httpx.get(f"{url}/metrics", headers=headers).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(\{{|\s)", line))


def wait_for(condition):
    """Waits until a condition holds; gives up after minutes, since a machine may be busy."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("this never came")


def picture_of(data: str) -> Image.Image:
    """The picture in base64 or a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2] or data)))


def data_uri(image: Image.Image) -> str:
    """An image as a data URI."""
    return f"data:image/png;base64,{to_base64(image)}"
