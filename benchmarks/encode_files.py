"""`seed-hf encode` from shards to parquet files, against a bare loop over tensors that are ready in memory.

    python benchmarks/encode_files.py

Reading, resizing, computing and writing are all in our side; the other only calls the model's `encode`. The rows
"with all of its reading" count the CPU seconds of the whole process. Those "beside readers" count the process that
computes, while one other process reads: what there is where cores are left for readers. The row about two processes
counts the CPU seconds of each while both run: on two idle cores, two are that many times as fast as one.

Reading alone is held against the shortest code that gives the same RGB images: one read for each, and Pillow.
"""

import json
import os
import tarfile
import tempfile
import time
from functools import partial
from io import BytesIO
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from encode import build
from PIL import Image

from seed_hf import SeedImageProcessor, SeedImageTokenizerConfig
from seed_hf.data.encode import _CodeParts
from seed_hf.data.part_records import PartRecords
from seed_hf.data.reading import split_location
from seed_hf.data.resumable import Claims, Progress, run_parts
from seed_hf.data.row_parts import _Reader
from seed_hf.data.rows import load_rows
from seed_hf.image_tokenizers import find_image_tokenizer_files
from seed_hf.mini import mini_pipeline_path


GOAL, TWICE_GOAL = 0.95, 1.8
SIDE = 160  # of the small images, in pixels


def picture(number: int) -> bytes:
    """A JPEG of smooth noise."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_data(folder: Path, count: int) -> dict[str, str]:
    """The same images as a tar shard, as parquet and as files; what `load_rows` takes, by kind."""
    files = [picture(number) for number in range(count)]
    (folder / "files").mkdir()
    with tarfile.open(folder / "train.tar", "w") as tar:
        for number, data in enumerate(files):
            (folder / "files" / f"{number:06d}.jpg").write_bytes(data)
            info = tarfile.TarInfo(f"{number:06d}.jpg")
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    images = [{"bytes": data, "path": None} for data in files]
    pq.write_table(pa.table({"image": images, "caption": ["a picture"] * count}), folder / "train.parquet")
    return {"tar": str(folder / "train.tar"), "parquet": str(folder / "train.parquet"), "files": str(folder / "files")}


def load(dataset: str):
    """Rows as the command has them."""
    return load_rows(dataset, keep_unusable=True, captions="optional")


def read_plainly(kind: str, dataset: str, rows) -> None:
    """Each image as RGB, with nothing around it."""
    if kind == "parquet":
        for image in pq.read_table(dataset, columns=["image"])["image"].to_pylist():
            Image.open(BytesIO(image["bytes"])).convert("RGB")
    elif kind == "tar":
        with open(dataset, "rb") as file:
            for _, offset, size in (split_location(image["path"]) for image in rows["image"]):
                file.seek(offset)
                Image.open(BytesIO(file.read(size))).convert("RGB")
    else:
        for path in sorted(Path(dataset).iterdir()):
            Image.open(path).convert("RGB")


def read_batches(rows, batch_size: int = 64) -> None:
    """What a reader of `seed-hf encode` does before the image processor."""
    reader = _Reader(rows, lambda image, number: image)
    for start in range(0, len(rows), batch_size):
        reader.__getitems__(range(start, min(start + batch_size, len(rows))))


def measure_reading(data: dict[str, str], rounds: int) -> list[dict]:
    """One row for each kind of data set."""
    results = []
    for kind, dataset in data.items():
        rows = load(dataset)
        timed = common.compare(partial(read_batches, rows), partial(read_plainly, kind, dataset, rows), rounds)
        results.append(
            common.row(
                f"reading a JPEG of {SIDE} x {SIDE} pixels, {kind}",
                f"{1000 * timed['ours_cpu_s'] / len(rows):.3f} CPU ms",
                f"{1000 * timed['baseline_cpu_s'] / len(rows):.3f} CPU ms (read, Pillow)",
                timed["ratio"],
                "",
                None,
                timed=timed,
            )
        )
    return results


def make_parts(
    rows, folder: str | Path, *, output: Path, dtype: str, batch_size: int, rows_per_file: int, workers: int
):
    """What `encode_rows` runs in each process."""
    description = {"dtype": dtype, "augmented_views": 0, "columns": ["key", "caption"]}
    records = PartRecords(rows, rows_per_file, "benchmark")
    paths = [output / "data" / f"train-{part:05d}.parquet" for part in range(len(records.sizes))]
    return CountedParts(find_image_tokenizer_files(folder), paths, description, records, batch_size, workers)


class CountedParts(_CodeParts):
    """Notes the CPU seconds and the images of each process that takes part."""

    def make_parts(self, claims: Claims, progress: Progress) -> None:
        """As it is, between two looks at the clock."""
        before = time.process_time()
        super().make_parts(claims, progress)
        note = {"cpu_s": time.process_time() - before, "images": self.skipped.num_read}
        (self.paths[0].parent / f"{os.getpid()}.json").write_text(json.dumps(note))


def encode_all(parts: CountedParts) -> None:
    """All parts anew, with the model that is loaded."""
    for path in parts.paths:
        path.unlink(missing_ok=True)
    with Progress(parts.paths, parts.records.sizes, disable=True) as progress, Claims(parts.paths) as claims:
        parts.make_parts(claims, progress)


def encode_ready(parts: CountedParts, pixel_values: torch.Tensor) -> None:
    """The bare loop: every batch is there."""
    with torch.inference_mode():
        for batch in pixel_values.split(parts.batch_size):
            parts.model.encode(batch).tolist()


def measure_loop(case: str, parts: CountedParts, rounds: int, clock=time.process_time, device: str = "cpu") -> dict:
    """One row: end to end against the bare loop."""
    parts.load(device)
    size = parts.model.image_size
    count = len(parts.records.rows)
    pixel_values = torch.randn(count, 3, size, size, device=device).to(parts.model.dtype)
    ours, bare = partial(encode_all, parts), partial(encode_ready, parts, pixel_values)
    encode_ready(parts, pixel_values[: parts.batch_size])  # the first batch takes memory from the system
    timed = common.compare(ours, bare, rounds, warmup=int(device == "cuda"), clock=clock)
    speed = 1 / timed["ratio"]
    unit, scale = ("s", 1) if timed["ours_cpu_s"] / count > 0.5 else ("ms", 1000)
    ours, bare = (f"{scale * timed[side] / count:.3g} {unit} an image" for side in ("ours_cpu_s", "baseline_cpu_s"))
    goal = f">= {GOAL} of the bare loop's speed"
    return common.row(case, ours, bare, speed, goal, speed >= GOAL, better="higher", timed=timed)


def measure_two_processes(make, output: Path) -> dict:
    """CPU seconds an image of one process, and of two at once."""
    needed = {}
    for processes in (1, 2):
        parts = make(output=output / str(processes))
        run_parts(parts, parts.paths, parts.records.sizes, processes)
        notes = [json.loads(path.read_text()) for path in parts.paths[0].parent.glob("*.json")]
        needed[processes] = sum(note["cpu_s"] for note in notes) / sum(note["images"] for note in notes)
    times = 2 * needed[1] / needed[2]
    return common.row(
        "seed-mini, two processes on two cores",
        f"{times:.2f} x the images/s of one ({1000 * needed[2]:.3g} CPU ms an image in each)",
        f"{1000 * needed[1]:.3g} CPU ms an image in one process",
        needed[2] / needed[1],
        f">= {TWICE_GOAL} x images/s",
        times >= TWICE_GOAL,
        cpu_s_an_image=needed,
    )


def make_config(quick: bool) -> SeedImageTokenizerConfig:
    """Full size, or a toy."""
    toy = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    return SeedImageTokenizerConfig(**({"vision_config": toy, "qformer_config": toy} if quick else {}))


def save_full_size(folder: Path, quick: bool) -> Path:
    """A folder with an image tokenizer of random weights and its processor."""
    config = make_config(quick)
    build(config, torch.float32).save_pretrained(folder)
    size = config.vision_config.image_size
    SeedImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)
    return folder


def measure(args) -> list[dict]:
    """Rows for reading, seed-mini, two processes, and full size."""
    count, rounds = (16, 1) if args.quick else (192, 3)
    with tempfile.TemporaryDirectory(prefix="seed_hf_benchmark_") as name:
        folder = Path(name)
        data = write_data(folder, count)
        rows = measure_reading(data, 2 * rounds + 1)
        shard = load(data["tar"])
        settings = {"dtype": "float32", "batch_size": 32, "rows_per_file": count // 2}
        make = partial(make_parts, shard, mini_pipeline_path(), output=folder / "mini", **settings)
        rows.append(measure_loop("seed-mini, with all of its reading", make(workers=0), rounds))
        rows.append(measure_loop("seed-mini, beside readers", make(workers=1), rounds))
        if not args.quick:
            rows.append(measure_two_processes(partial(make, workers=0), folder / "two"))
        full = save_full_size(folder / "full", args.quick)
        few = shard.select(range(4))
        settings = {"dtype": "float32", "batch_size": 4, "rows_per_file": 4}
        parts = make_parts(few, full, output=folder / "large", workers=0, **settings)
        rows.append(measure_loop("full size, float32, batch 4, with all of its reading", parts, 1))
    return rows


if __name__ == "__main__":
    common.run("encode_files", "seed-hf encode: from shards to files against a bare loop", measure)
