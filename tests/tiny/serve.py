"""A studio of toys, and a server around it in a thread."""

import threading
import time
from contextlib import contextmanager

import uvicorn
from transformers import AutoTokenizer

from seed_hf import SeedPipeline
from seed_hf.serve.app import build_app
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
    server = uvicorn.Server(
        uvicorn.Config(build_app(studio, "toy", ServerSettings(**settings)), port=0, log_level="warning")
    )
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
