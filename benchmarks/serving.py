"""Requests per second of `seed-hf serve` with eight clients at once, against the same requests one at a time.

    python benchmarks/serving.py

Both sides ask one server with seed-mini, on loopback and in this process, for the same pictures, captions and
embeddings. The goal is about the wall clock, which a second core helps. The ratio is in CPU seconds, as
everywhere here: what batches alone save.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import common
import httpx
import uvicorn

from seed_hf.mini import mini_image
from seed_hf.serve.app import build_app
from seed_hf.serve.pictures import read_file, to_base64
from seed_hf.studio import Studio


CLIENTS = 8
GOAL = 2  # times as many requests in a second
PROMPTS = ["red apple", "sad face", "blue heart", "yellow star", "green tree", "dog", "sun", "purple square"]


def start(studio: Studio) -> tuple[uvicorn.Server, str]:
    """A server in a thread, and its URL."""
    server = uvicorn.Server(uvicorn.Config(build_app(studio), port=0, log_level="warning"))
    threading.Thread(target=server.run).start()
    while not server.started:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"


def cases() -> dict[str, tuple[str, list[dict]]]:
    """Path and bodies of each kind of request."""
    with open(mini_image("strawberry"), "rb") as file:
        url = f"data:image/png;base64,{to_base64(read_file(file.read(), 'image'))}"
    image = {"type": "image_url", "image_url": {"url": url}}
    questions = [[image, {"type": "text", "text": f"A photo of a {prompt} or"}] for prompt in PROMPTS]
    chats = [{"messages": [{"role": "user", "content": parts}], "max_tokens": 16, "raw": True} for parts in questions]
    return {
        "pictures of words": ("images/generations", [{"prompt": prompt, "seed": 0} for prompt in PROMPTS]),
        "chats about an image": ("chat/completions", chats),
        "embeddings of an image": ("embeddings", [{"input": url}] * CLIENTS),
    }


def ask(client: httpx.Client, path: str, body: dict):
    """One request, which must succeed."""
    client.post(path, json=body, timeout=None).raise_for_status()


def measure(args) -> list[dict]:
    """One row for each kind of request."""
    server, url = start(Studio.load())
    rounds = 1 if args.quick else 2
    with httpx.Client(base_url=url) as client, ThreadPoolExecutor(CLIENTS) as pool:
        rows = [measure_one(client, pool, case, *request, rounds) for case, request in cases().items()]
    server.should_exit = True
    return rows


def measure_one(client, pool, case: str, path: str, bodies: list[dict], rounds: int) -> dict:
    """The same requests from eight threads, and from one."""
    one = partial(ask, client, path)
    timed = common.compare(lambda: list(pool.map(one, bodies)), lambda: list(map(one, bodies)), rounds)
    speeds = [len(bodies) / timed[name] for name in ("ours_s", "baseline_s")]
    faster = speeds[0] / speeds[1]
    return common.row(
        case,
        f"{speeds[0]:.1f} requests/s by {CLIENTS} clients, {faster:.1f} x",
        f"{speeds[1]:.1f} requests/s one at a time",
        timed["ratio"],
        f">= {GOAL} x requests/s",
        faster >= GOAL,
        timed=timed,
        faster=faster,
    )


if __name__ == "__main__":
    common.run("serving", "Serving: requests of eight clients at once against one at a time", measure)
