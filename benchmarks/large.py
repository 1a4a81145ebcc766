"""What a data set costs as it grows from ten thousand rows to three million: seconds and memory of one process.

    python benchmarks/large.py

Codes, keys and captions are made up; rows are as small as those of CC3M. The shards that are indexed are one file
under many names, with images of 1 kB. Seconds are CPU seconds of the process and of its children, so that other work
on the machine disturbs them little. The ratio is what a row costs in units of what it costs at the smallest size: 1 is
linear.
"""

import itertools
import json
import multiprocessing
import os
import re
import tempfile
import time
from pathlib import Path

import common
import datasets
import numpy as np
import pyarrow as pa

from seed_hf.data.batches import make_batches
from seed_hf.data.codes import codes_identity, count_part, description_path, part_paths, read_codes
from seed_hf.data.part_records import PartRecords
from seed_hf.data.resumable import check_description, drop_parts
from seed_hf.data.shards import index_shards
from seed_hf.provenance import rows_digest
from seed_hf.sealed_files import write_part
from seed_hf.trainer.packing import collate_samples


SIZES, INDEX_SIZES = (10_000, 100_000, 1_000_000, 3_162_278), (10_000, 31_623, 100_000)
PROCESSES, BATCH_SIZE, ROW_LENGTH = 64, 64, 2048
ROWS_PER_SHARD, ROWS_PER_FILE, NUM_CODES, CODEBOOK_SIZE = 1000, 8192, 32, 8192
WORDS = "a small red bird on the branch of an old tree in front of water".split()


def seconds(work) -> tuple[float, object]:
    """CPU seconds of a call, those of its processes included, and what it returns."""

    def now() -> float:
        return time.process_time() + sum(os.times()[2:4])

    before = now()
    result = work()
    return now() - before, result


def write_codes(folder: Path, count: int) -> datasets.Dataset:
    """A folder as `seed-hf encode` leaves it; returns the rows that it would have been made from."""
    random = np.random.default_rng(0)
    captions = [" ".join(random.choice(WORDS, 10)) for _ in range(1000)]
    table = {
        "key": [f"{number:09d}" for number in range(count)],
        "caption": [captions[i % 1000] for i in range(count)],
    }
    rows = datasets.Dataset(pa.table(table))
    description = {"split": "train", "num_rows": count, "rows": "", "rows_per_file": ROWS_PER_FILE, "weights": ""}
    check_description(description_path(folder, "train"), description)
    records = PartRecords(rows, ROWS_PER_FILE, codes_identity(description), count_part)
    for part, path in enumerate(part_paths(folder, "train", count, ROWS_PER_FILE)):
        path.parent.mkdir(exist_ok=True, parents=True)
        numbers = records.numbers(part)
        codes = random.integers(0, CODEBOOK_SIZE, len(numbers) * NUM_CODES, dtype=np.uint16)
        columns = pa.table(table_slice(rows, numbers)).append_column(
            "codes", pa.FixedSizeListArray.from_arrays(pa.array(codes), NUM_CODES)
        )
        write_part(path, columns, PartRecords.finish(records.start(part), []))
    return rows


def table_slice(rows: datasets.Dataset, numbers: range) -> dict:
    """Columns of some rows."""
    return rows.data.table.slice(numbers.start, len(numbers)).to_pydict()


def look_again(folder: Path, rows: datasets.Dataset) -> None:
    """What `seed-hf encode` does before it finds that everything is there."""
    description = json.loads(description_path(folder, "train").read_text())
    rows_digest(rows)
    paths = part_paths(folder, "train", len(rows), ROWS_PER_FILE)
    PartRecords(rows, ROWS_PER_FILE, codes_identity(description), count_part).drop_stale(paths)
    drop_parts(paths, lambda part: True, lambda part: True)


def first_batch(codes: datasets.Dataset, start_step: int) -> list[dict]:
    """The first samples of one of many processes."""
    settings = {"num_processes": min(PROCESSES, len(codes) // BATCH_SIZE), "process_index": 17}
    batches = make_batches(codes, BATCH_SIZE, seed=0, start_step=start_step, collate_fn=list, **settings)
    return next(batches)


def pack(samples: list[dict]) -> None:
    """A batch as full rows of tokens: a caption as bytes, then the codes."""
    tokens = [[*sample["caption"].encode(), *sample["codes"]] for sample in samples]
    made = [{"input_ids": ids, "labels": ids, "is_image_task": True} for ids in tokens]
    collate_samples(made, pad_token_id=0, row_length=ROW_LENGTH)


def private_mib(folder: Path, result) -> None:
    """What one more process takes for itself, and does not share as it does the pages of files, up to ten batches."""

    def private() -> int:
        return int(re.search(r"Private_Dirty:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])

    before, codes = private(), read_codes(folder)
    settings = {"num_processes": min(PROCESSES, len(codes) // BATCH_SIZE), "process_index": 17}
    batches = make_batches(codes, BATCH_SIZE, seed=0, collate_fn=list, **settings)
    for samples in itertools.islice(batches, 10):
        pack(samples)
    result.put((private() - before) / 1024)


def memory(folder: Path) -> float:
    """`private_mib` in a process of its own."""
    context = multiprocessing.get_context("fork")
    result = context.Queue()
    process = context.Process(target=private_mib, args=(folder, result))
    process.start()
    found = result.get()
    process.join()
    return found


def measure_codes(count: int) -> dict[str, float]:
    """All costs of codes at one size."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        writing, rows = seconds(lambda: write_codes(folder, count))
        print(f"{count} rows written in {writing:.1f} CPU s", flush=True)
        costs = {"encode again, all is there": seconds(lambda: look_again(folder, rows))[0]}
        costs["read_codes, the first time"] = seconds(lambda: read_codes(folder))[0]
        costs["read_codes, again"], codes = seconds(lambda: read_codes(folder))
        # imports, and what is kept for the next call, are not counted
        first_batch(codes.select(range(10_000)), 0)
        costs["first batch, 64 processes"], samples = seconds(lambda: first_batch(codes, 0))
        first_batch(codes.select(range(10_000)), 0)
        middle = len(codes) // BATCH_SIZE // min(PROCESSES, len(codes) // BATCH_SIZE) // 2
        costs["first batch after a resume"], _ = seconds(lambda: first_batch(codes, middle))
        # the shortest of several, since other work takes caches away
        costs["packing of ten batches"] = min(seconds(lambda: [pack(samples) for _ in range(10)])[0] for _ in range(5))
        costs["private memory of a process"] = memory(folder)
    return costs


def write_shards(folder: Path, count: int) -> list[str]:
    """One shard under many names: an image of 1 kB and its caption, a thousand times."""
    import io
    import tarfile

    first = folder / "00000.tar"
    with tarfile.open(first, "w") as tar:
        for number in range(ROWS_PER_SHARD):
            for suffix, content in (("jpg", bytes(1000)), ("txt", b"a small red bird on the branch of a tree")):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    names = [folder / f"{number:05d}.tar" for number in range(-(-count // ROWS_PER_SHARD))]
    for name in names[1:]:
        os.link(first, name)
    return [str(name) for name in names]


def measure_index(count: int, num_processes: int) -> float:
    """CPU seconds of all processes that index."""
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        shards = write_shards(Path(folder), count)
        return seconds(lambda: index_shards(shards, num_processes))[0]


def curve(case: str, sizes, costs, unit: str, is_flat: bool = False) -> list[dict]:
    """A row for each size, with what a row costs there in units of what it costs at the smallest size."""
    rows = []
    for size, cost in zip(sizes, costs, strict=True):
        growth = (cost / max(costs[0], 1e-3)) / (1 if is_flat else size / sizes[0])
        is_first = size == sizes[0]
        goal = "" if is_first else "<= 1.2: flat" if is_flat else "<= 1.2: no more than linear"
        axis = "MiB of memory" if unit == "MiB" else "CPU seconds"
        point = {"curve": f"{axis} over rows", "line": case, "x": {"rows": size}, "y": {axis: cost}}
        ours, ratio = f"{cost:.3g} {unit}", None if is_first else growth
        met = None if is_first else growth <= 1.2
        rows.append(common.row(f"{case}, {size:,} rows", ours, "", ratio, goal, met, point=point))
    return rows


def measure(args) -> list[dict]:
    """The table; at toy size with `--quick`."""
    sizes, index_sizes = ((10_000, 20_000), (1000, 2000)) if args.quick else (SIZES, INDEX_SIZES)
    with tempfile.TemporaryDirectory() as folder:  # the first time imports and compiles
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        index_shards(write_shards(Path(folder), ROWS_PER_SHARD))
    rows = []
    for processes in (1, 2):
        found = [measure_index(count, processes) for count in index_sizes]
        rows += curve(f"index in {processes} process{'es' * (processes > 1)}", index_sizes, found, "CPU s")
        share = found[-1] / index_sizes[-1] * 5e6 / 16
        print(f"index of 5 M samples in 16 processes, from {processes}: {share:.0f} CPU s each", flush=True)
    costs = [measure_codes(count) for count in sizes]
    for case in costs[0]:
        unit = "MiB" if "memory" in case else "CPU s"
        rows += curve(case, sizes, [max(cost[case], 1e-3) for cost in costs], unit, is_flat="packing" in case)
    return rows


if __name__ == "__main__":
    common.run("large", "Data sets as they grow", measure)
