"""Runs every benchmark, one process each, writes `results/README.md` beside their JSON files, and says what is worse.

python benchmarks/run.py
python benchmarks/run.py --only quantizer generation --quick --output_dir /tmp/results
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import common
from history import draw_curves, read_results, what_got_worse


# A new benchmark is a script beside this one that calls `common.run`, and its name here.
BENCHMARKS = (
    "startup",
    "encode",
    "encode_files",
    "loading",
    "quantizer",
    "generation",
    "pipeline",
    "packing",
    "large",
    "serving",
    "export",
    "training",
)
# Run by name only, on a machine that has a GPU.
ON_A_GPU = ("encode_gpu",)


def write_report(folder: Path) -> Path:
    """Gather the results in `folder` into one markdown page; returns its path."""
    lines = ["# Benchmark results", "", "Written by `python benchmarks/run.py`; `../README.md` says how to read them."]
    for name, result in read_results(folder, BENCHMARKS + ON_A_GPU).items():
        lines += ["", f"## {result['title']}", "", common.as_table(result["rows"])]
        for path in draw_curves(folder, name, result["rows"]):
            lines += ["", f"![{path.stem}]({path.name})"]
        lines += ["", _describe(result)]
    report = folder / "README.md"
    report.write_text("\n".join(lines) + "\n")
    return report


def _describe(result: dict) -> str:
    """The machine, the versions and the date in one sentence."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = f"{machine['gpu']}, " if machine.get("gpu") else ""
    return (
        f"{machine['date']}; {gpu}{machine['cpu']}, {machine['cores']} cores, {machine['torch_threads']} torch "
        f"thread(s), {machine['memory_gib']} GiB, load average {machine['load_average']}; Python "
        f"{machine['python']}, {versions}, seed_hf {machine['seed_hf']}"
        + ("; **toy sizes**" if result["quick"] else "")
        + "."
    )


def main(argv=None):
    """Run the chosen benchmarks in order, then write the page; a failed benchmark fails the run at its end."""
    parser = argparse.ArgumentParser(description="Run the benchmarks and write one page of results.")
    known = BENCHMARKS + ON_A_GPU
    parser.add_argument("--only", nargs="+", choices=known, default=BENCHMARKS, help="which ones (default: all)")
    parser.add_argument("--quick", action="store_true", help="toy sizes, few rounds: only shows that they run")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1: the steadiest)")
    parser.add_argument("--output_dir", type=Path, default=common.RESULTS, help="folder of the result files")
    parser.add_argument("--kept_dir", type=Path, default=common.RESULTS, help="folder of the results to compare with")
    args = parser.parse_args(argv)
    kept, failed, seconds = read_results(args.kept_dir, args.only), [], {}
    for name in args.only:
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py"), "--threads", str(args.threads)]
        command += ["--output_dir", str(args.output_dir), *(["--quick"] if args.quick else [])]
        started = time.monotonic()
        if subprocess.run(command).returncode != 0:
            failed.append(name)
        seconds[name] = time.monotonic() - started
        print(flush=True)
    print(f"wrote {write_report(args.output_dir)}")
    print("seconds:", ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    now = read_results(args.output_dir, [name for name in args.only if name not in failed])
    print("\n".join(["worse than the results that were kept:", *(what_got_worse(kept, now) or ["nothing"])]))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
