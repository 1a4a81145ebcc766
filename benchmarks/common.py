"""What every benchmark shares: alternating measurements, the machine's description, tables."""

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch


RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "diffusers", "peft", "safetensors", "numpy")


def children_time() -> float:
    """CPU seconds of the child processes that have ended: a clock for [`compare`]."""
    times = os.times()
    return times.children_user + times.children_system


def compare(
    ours: Callable[[], object],
    baseline: Callable[[], object],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.process_time,
    enough_seconds: float = 10.0,
) -> dict:
    """Time two callables in turns (A B, B A, A B, ...), so that drift of the machine falls on both alike.

    Args:
        ours (`Callable`): The code of this package.
        baseline (`Callable`): The same work without it.
        rounds (`int`): Most pairs of timed calls.
        warmup (`int`, defaults to 1): Untimed calls of each before.
        clock (`Callable[[], float]`, *optional*): What the ratio is measured in. CPU seconds of this process by
            default, which a busy machine disturbs far less than the wall clock; `time.perf_counter` for work on a GPU,
            and [`children_time`] for child processes.
        enough_seconds (`float`, defaults to 10.0): Number of seconds after which a slow machine stops, once it has
            timed three pairs.

    Returns:
        `dict`: medians of wall-clock seconds and of what `clock` says (`..._cpu_s`) of both, and `ratio`: the median
        over rounds of ours divided by baseline by `clock`, with the distance of its quartiles as `ratio_spread`.
    """
    timed = time_in_turns({"ours": ours, "baseline": baseline}, rounds, warmup, clock, enough_seconds)
    return summarise(timed["ours"], timed["baseline"])


def time_in_turns(
    functions: dict[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.process_time,
    enough_seconds: float = 10.0,
) -> dict[str, list[tuple[float, float]]]:
    """Time any number of callables in turns, each round in the reverse order of the one before.

    Args:
        functions (`dict[str, Callable]`): What to time, by name.
        rounds (`int`): Most timed calls of each.
        warmup, clock, enough_seconds: As in [`compare`].

    Returns:
        `dict[str, list[tuple[float, float]]]`: wall-clock seconds of each call and what `clock` says, by name.
    """
    for _ in range(warmup):
        for function in functions.values():
            function()
    gc.collect()
    gc.disable()  # a collection in the middle of one side's turn would be charged to it
    timed = {name: [] for name in functions}
    began = time.perf_counter()
    for index in range(rounds):
        if index >= 3 and time.perf_counter() - began > enough_seconds:
            break
        for name in functions if index % 2 == 0 else reversed(functions):
            wall, cpu = time.perf_counter(), clock()
            functions[name]()
            timed[name].append((time.perf_counter() - wall, clock() - cpu))
    gc.enable()
    return timed


def summarise(ours: list[tuple[float, float]], baseline: list[tuple[float, float]]) -> dict:
    """Medians and ratio, as [`compare`] gives them, of two sides that [`time_in_turns`] has timed."""
    ratios = [a[1] / b[1] for a, b in zip(ours, baseline, strict=True)]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return {
        "ours_s": statistics.median(wall for wall, _ in ours),
        "baseline_s": statistics.median(wall for wall, _ in baseline),
        "ours_cpu_s": statistics.median(cpu for _, cpu in ours),
        "baseline_cpu_s": statistics.median(cpu for _, cpu in baseline),
        "ratio": statistics.median(ratios),
        "ratio_spread": quarters[2] - quarters[0],
        "rounds": len(ratios),
    }


def row(
    case: str,
    ours: str,
    baseline: str,
    ratio: float | None,
    goal: str,
    met: bool | None,
    better: str = "lower",
    point: dict | None = None,
    **details,
) -> dict:
    """One line of the result table.

    Args:
        case (`str`): What is measured; the same in every run, since runs are compared by it.
        ours (`str`): What this package does, with its unit.
        baseline (`str`): What is named beside it.
        ratio (`float`, *optional*): Ours divided by the other.
        goal (`str`): What the ratio should be.
        met (`bool`, *optional*): Whether it is.
        better (`str`, defaults to `"lower"`): Which ratio is the better one, `"lower"` or `"higher"`.
        point (`dict`, *optional*): Makes the row a point of a curve, which `run.py` draws: `curve` (its title), `line`
            (which line it is on), and `x` and `y`, mappings from the name of an axis to the value.
        details: what goes to the JSON file only, such as the `timed` of [`compare`].

    Returns:
        `dict`: for [`run`].
    """
    # a long run that is stopped has then shown what it measured
    print(f"{case}: {ours}, {baseline}, ratio {ratio}", file=sys.stderr, flush=True)
    fields = {"case": case, "ours": ours, "baseline": baseline, "ratio": ratio, "goal": goal, "met": met}
    return {**fields, "better": better, **({"point": point} if point else {}), **details}


def machine() -> dict:
    """The machine, the versions and the date that a table is worth nothing without."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "seed_hf": _package_version(),
    }


def _package_version() -> str:
    import seed_hf

    return seed_hf.__version__


def as_table(rows: list[dict]) -> str:
    """Markdown table of `row` results."""
    lines = ["| case | seed_hf | without | ratio | goal | met |", "| --- | --- | --- | --- | --- | --- |"]
    for item in rows:
        ratio = "" if item["ratio"] is None else f"{item['ratio']:.3f}"
        met = {None: "", True: "yes", False: "**no**"}[item["met"]]
        lines.append(f"| {item['case']} | {item['ours']} | {item['baseline']} | {ratio} | {item['goal']} | {met} |")
    return "\n".join(lines)


def run(name: str, title: str, measure: Callable[[argparse.Namespace], list[dict]], argv: list[str] | None = None):
    """Command line of one benchmark: measure, print the table, write `results/<name>.json`."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="toy sizes, few rounds: only shows that it runs")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1: the steadiest)")
    parser.add_argument("--output_dir", type=Path, default=RESULTS, help="folder of the result files")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    started = time.perf_counter()
    rows = measure(args)
    result = {"name": name, "title": title, "quick": args.quick, "machine": machine(), "rows": rows}
    result["seconds"] = round(time.perf_counter() - started, 1)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    (args.output_dir / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{title}\n\n{as_table(rows)}")
