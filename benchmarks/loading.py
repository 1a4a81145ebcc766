"""Time and peak memory of constructing and loading the full-size image tokenizer, against the size of its weights.

    python benchmarks/loading.py

Each case runs in a fresh process, which reads its own peak resident memory from the kernel (Linux). Weights are
touched after loading, so that pages which are mapped but not yet read do count.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import torch
from encode import build

from seed_hf import SeedImageTokenizer, SeedImageTokenizerConfig


GOAL = 1.1
TOY = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


def memory(field: str) -> int:
    """Bytes of a field of this process's status, for example `VmHWM`: the peak of resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def load(folder: str) -> dict:
    """What the fresh process does."""
    # the loader's own lazy imports are no part of what loading costs
    SeedImageTokenizer.from_pretrained(Path(folder) / "toy")
    before, started = memory("VmRSS"), time.perf_counter()
    model = SeedImageTokenizer.from_pretrained(folder, dtype="auto")
    loaded = time.perf_counter() - started
    for parameter in model.parameters():
        parameter.detach().flatten().view(torch.uint8)[::4096].sum()
    touched = time.perf_counter() - started
    weights = sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])
    return {
        "load_s": loaded,
        "load_and_touch_s": touched,
        "peak_bytes": memory("VmHWM") - before,
        "anonymous_bytes_after": memory("RssAnon"),
        "weight_bytes": weights,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def plain(folder: str) -> dict:
    """The baseline process: construct on the CPU, read the whole file, `load_state_dict`."""
    from safetensors.torch import load_file

    config = SeedImageTokenizerConfig.from_pretrained(folder)
    before, started = memory("VmRSS"), time.perf_counter()
    model = SeedImageTokenizer(config).to(getattr(torch, str(config.dtype).removeprefix("torch.")))
    state = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        state |= load_file(path)
    model.load_state_dict(state)
    return {"load_and_touch_s": time.perf_counter() - started, "peak_bytes": memory("VmHWM") - before}


def in_fresh_process(function: str, folder: str) -> dict:
    command = [sys.executable, __file__, "--in_process", function, folder]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(args) -> list[dict]:
    """One row per data type."""
    toy = SeedImageTokenizerConfig(vision_config=TOY, qformer_config=TOY)
    config = toy if args.quick else SeedImageTokenizerConfig()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        with tempfile.TemporaryDirectory(prefix="seed_hf_benchmark_") as folder:
            build(config, dtype).save_pretrained(folder)
            build(toy, dtype).save_pretrained(Path(folder) / "toy")
            ours, baseline = in_fresh_process("load", folder), in_fresh_process("plain", folder)
        ratio = ours["peak_bytes"] / ours["weight_bytes"]
        rows.append(
            common.row(
                f"{str(dtype).removeprefix('torch.')}, {ours['parameters'] / 1e6:.0f}M parameters, "
                f"weights {ours['weight_bytes'] / 2**30:.2f} GiB",
                f"{ours['load_and_touch_s']:.1f} s, peak {ours['peak_bytes'] / 2**30:.2f} GiB",
                f"{baseline['load_and_touch_s']:.1f} s, peak {baseline['peak_bytes'] / 2**30:.2f} GiB "
                "(construct, read, copy)",
                ratio,
                f"peak <= {GOAL} x weights",
                ratio <= GOAL,
                measured=ours,
                measured_plain=baseline,
            )
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in_process"]:
        torch.set_num_threads(1)
        print(json.dumps({"load": load, "plain": plain}[sys.argv[2]](sys.argv[3])))
    else:
        common.run("loading", "Construct and load at full size: time and peak memory", measure)
