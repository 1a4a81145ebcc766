"""Runs every benchmark, one process each, and writes `results/README.md` beside their JSON files.

python benchmarks/run.py
python benchmarks/run.py --only quantizer generation --quick --output_dir /tmp/results
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import common


BENCHMARKS = ("encode", "loading", "quantizer", "generation", "pipeline", "packing", "serving")


def write_report(folder: Path) -> Path:
    """Gather the results in `folder` into one markdown page; returns its path."""
    lines = ["# Benchmark results", "", "Written by `python benchmarks/run.py`; `../README.md` says how to read them."]
    for path in (folder / f"{name}.json" for name in BENCHMARKS):
        if path.exists():
            result = json.loads(path.read_text())
            machine = result["machine"]
            versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
            lines += ["", f"## {result['title']}", "", common.as_table(result["rows"]), ""]
            lines += [
                f"{machine['date']}; {machine['cpu']}, {machine['cores']} cores, {machine['torch_threads']} torch "
                f"thread(s), {machine['memory_gib']} GiB, load average {machine['load_average']}; Python "
                f"{machine['python']}, {versions}, seed_hf {machine['seed_hf']}"
                + ("; **toy sizes**" if result["quick"] else "")
                + "."
            ]
    report = folder / "README.md"
    report.write_text("\n".join(lines) + "\n")
    return report


def main(argv=None):
    """Run the chosen benchmarks in order, then write the page; a failed benchmark fails the run at its end."""
    parser = argparse.ArgumentParser(description="Run the benchmarks and write one page of results.")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, help="which ones (default: all)")
    parser.add_argument("--quick", action="store_true", help="toy sizes, few rounds: only shows that they run")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1: the steadiest)")
    parser.add_argument("--output_dir", type=Path, default=common.RESULTS, help="folder of the result files")
    args = parser.parse_args(argv)
    failed = []
    for name in args.only:
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py"), "--threads", str(args.threads)]
        command += ["--output_dir", str(args.output_dir), *(["--quick"] if args.quick else [])]
        if subprocess.run(command).returncode != 0:
            failed.append(name)
        print(flush=True)
    print(f"wrote {write_report(args.output_dir)}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
