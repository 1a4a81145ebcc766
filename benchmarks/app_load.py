"""Many visitors of `seed-hf app` at once, over loopback: each is answered, or refused politely, and memory is bounded.

python benchmarks/app_load.py --users 50 --requests 4
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx


WORDS = ("red fruit", "animal", "face", "music", "green heart")
FOREVER = httpx.Timeout(None)


def ask(url: str, name: str, data: list) -> dict:
    """What an endpoint answers: `data`, or `error`, or `refused` with the status."""
    base = f"{url}gradio_api/call/{name}"
    answer = httpx.post(base, json={"data": data}, timeout=FOREVER)
    if answer.status_code != 200:
        return {"refused": answer.status_code, "message": answer.text}
    with httpx.stream("GET", f"{base}/{answer.json()['event_id']}", timeout=FOREVER) as lines:
        event = ""
        for line in lines.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event in ("complete", "error"):
                return {"data" if event == "complete" else "error": line.removeprefix("data: ")}
    return {"error": "the answer broke off"}


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def visit(url: str, users: int, requests: int, pid: int) -> dict:
    """Lets visitors search and draw, all at once; counts what they got, and how much memory the server took more."""
    before, most, is_over = memory_mib(pid), [memory_mib(pid)], threading.Event()

    def watch():
        while not is_over.wait(0.2):
            most.append(memory_mib(pid))

    def one(user: int) -> Counter:
        counts = Counter()
        for number in range(requests):
            words = WORDS[(user + number) % len(WORDS)]
            is_drawing = user % 10 == 9
            data = [words, 1, user, 2, 4] if is_drawing else ["Example images", words, None]
            answer = ask(url, "draw" if is_drawing else "search", data)
            counts["answered" if "data" in answer else "refused" if "refused" in answer else "failed"] += 1
        return counts

    watcher, start = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    with ThreadPoolExecutor(users) as pool:
        counts = dict.fromkeys(("answered", "refused", "failed"), 0)
        for counted in pool.map(one, range(users)):
            counts = {name: count + counted[name] for name, count in counts.items()}
    is_over.set()
    watcher.join()
    growth = max(most) - before
    return {**counts, "seconds": round(time.perf_counter() - start, 1), "growth_mib": round(growth)}


def main(argv=None):
    """Starts the app in a process of its own, and visits it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=50, help="Number of visitors at a time.")
    parser.add_argument("--requests", type=int, default=4, help="Number of requests of each, one after the other.")
    args = parser.parse_args(argv)
    command = [sys.executable, "-c", "from seed_hf.commands import main; main()", "app", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as app:
        try:
            url = next(line.split()[1] for line in app.stderr if line.startswith("open http"))
            visit(url, 1, 2, app.pid)
            result = {"users": args.users, "memory_before_mib": round(memory_mib(app.pid))}
            result |= visit(url, args.users, args.requests, app.pid)
            result["memory_after_mib"] = round(memory_mib(app.pid))
            print(json.dumps(result))
        finally:
            app.terminate()


if __name__ == "__main__":
    main()
