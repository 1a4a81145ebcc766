"""Images per second at batch 256 on a GPU, in bfloat16 and float16: the modules alone, `encode`, and `seed-hf encode`.

    python benchmarks/encode_gpu.py

For each data type, one row holds `SeedImageTokenizer.encode` against the bare ViT and Q-Former on a batch that is
there, and one `seed-hf encode`, from a shard of JPEGs to parquet files with a reader for each core, against `encode`
on batches that are there. Times are those of the wall clock. The share of the peak (MFU) counts the operations of the
matrix products, and takes the peak from NVIDIA's data sheets. `--quick` runs the same code at toy size on a CPU.
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import common
import torch
from encode import build, make_bare
from encode_files import load, make_config, make_parts, measure_loop, write_data
from torch.utils.flop_counter import FlopCounterMode

from seed_hf import SeedImageProcessor


GOAL = 0.95
# dense half-precision operations a second
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12, "L4": 121e12, "T4": 65e12}


def find_peak(device: str) -> float | None:
    """The peak of this GPU, if it is known."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((peak for card, peak in PEAKS.items() if card in name), None)


def count_operations(model, pixels: torch.Tensor) -> int:
    """Operations of the matrix products for one image, a multiplication and an addition as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode(pixels[:1])
    return counter.get_total_flops()


def finished(function, *arguments) -> None:
    """Calls, and waits until the GPU is done."""
    function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_modules(model, pixels: torch.Tensor, rounds: int) -> dict:
    """One row: `encode` against the bare modules."""
    calls = (partial(finished, function, pixels) for function in (model.encode, make_bare(model)))
    timed = common.compare(*calls, rounds, warmup=3, clock=time.perf_counter)
    speeds = [len(pixels) / timed[side] for side in ("ours_s", "baseline_s")]
    operations, peak, speed = count_operations(model, pixels), find_peak(pixels.device.type), 1 / timed["ratio"]
    used = f", {speeds[0] * operations / peak:.0%} of the peak" if peak else ""
    return common.row(
        f"encode, {str(model.dtype).removeprefix('torch.')}, batch {len(pixels)}",
        f"{speeds[0]:.4g} images/s{used}",
        f"{speeds[1]:.4g} images/s (bare modules)",
        speed,
        f">= {GOAL} of the bare modules",
        speed >= GOAL,
        better="higher",
        operations_an_image=operations,
        peak=peak,
        timed=timed,
    )


def measure_files(folder: Path, model, shard: str, batch_size: int, device: str, workers: int) -> dict:
    """One row: from a shard to files against `encode` on what is ready."""
    dtype, size = str(model.dtype).removeprefix("torch."), model.config.vision_config.image_size
    saved = folder / dtype
    model.save_pretrained(saved)
    SeedImageProcessor(size={"height": size, "width": size}).save_pretrained(saved)
    rows = load(shard)
    settings = {"dtype": dtype, "batch_size": batch_size, "rows_per_file": max(1, len(rows) // 2), "workers": workers}
    parts = make_parts(rows, saved, output=folder / f"{dtype}-codes", **settings)
    case = f"seed-hf encode, {dtype}, batch {batch_size}, {workers} readers"
    return measure_loop(case, parts, 1 if workers < 2 else 3, clock=time.perf_counter, device=device)


def measure(args) -> list[dict]:
    """Two rows for each data type."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not args.quick:
        raise SystemExit("encode_gpu.py needs a GPU; --quick runs the same code at toy size without one")
    config = make_config(args.quick)
    batch_size, count, rounds = (8, 16, 1) if args.quick else (256, 8192, 9)
    size, rows = config.vision_config.image_size, []
    with tempfile.TemporaryDirectory(prefix="seed_hf_benchmark_") as name:
        folder = Path(name)
        shard = write_data(folder, count)["tar"]
        for dtype in (torch.bfloat16, torch.float16):
            model = build(config, dtype).to(device).requires_grad_(False)
            pixels = torch.randn(batch_size, 3, size, size, device=device, dtype=dtype)
            rows.append(measure_modules(model, pixels, rounds))
            workers = 1 if args.quick else os.cpu_count()
            rows.append(measure_files(folder, model, shard, batch_size, device, workers))
    return rows


if __name__ == "__main__":
    common.run("encode_gpu", "Encoding on a GPU at full size", measure)
