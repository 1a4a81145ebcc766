"""Fuzzing: damaged images, caption files, checkpoints and codes, and kills at random moments.

    python tests/fuzz/run.py --seconds 180                      # all targets, a new seed
    python tests/fuzz/run.py --targets images --seed 5 --first 1234 --inputs 1    # one input again

Every input has its own random generator, so that a seed, a target and a number give the same input again (a kill, only
about the same moment). Inputs run in processes of their own: crashes, hangs and excesses of memory are counted and not
suffered. What fails is kept in a folder with the reason. The exit code is 1 if anything failed.
"""

import argparse
import importlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tqdm import tqdm  # noqa: E402

from fuzz.workers import Result, Worker, try_inputs  # noqa: E402


TARGETS = {
    "images": "fuzz.images:Images",
    "captions": "fuzz.captions:Captions",
    "checkpoints": "fuzz.checkpoints:Checkpoints",
    "codes": "fuzz.codes:Codes",
    "kills": "fuzz.script_stages:AllKills",
}
OUTCOMES = ("read", "refused", "wrong", "crashed", "hung")
MAX_FAILURES = 20  # of a target, which then ends: nobody looks at more
PACKAGES = ("pillow", "pyarrow", "datasets", "accelerate")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="for all targets together, imports not counted")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help=f"of {list(TARGETS)}, or module:Class")
    parser.add_argument("--inputs", type=int, default=None, help="number of inputs of each target (default: no limit)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--output", type=Path, help="JSON file for the counts")
    parser.add_argument("--readme", type=Path, help="file whose text between the markers <!-- fuzz --> is replaced")
    parser.add_argument("--failures", type=Path, default=ROOT / "runs" / "fuzz", help="folder for inputs that fail")
    args = parser.parse_args(argv)
    args.seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    return args


def set_environment(folder: str) -> None:
    """As the tests: one thread, no network, a cache of its own. Before anything of Hugging Face is imported."""
    os.environ.update(HF_HOME=folder, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
    tqdm.monitor_interval = 0  # its thread would be missing in forks


def load_target(name: str) -> type:
    """The class of a target, with everything that it imports."""
    module, _, attribute = TARGETS.get(name, name).partition(":")
    if not attribute:
        raise SystemExit(f"--targets {name!r} is not known; allowed: {list(TARGETS)}, or module:Class.")
    return getattr(importlib.import_module(module), attribute)


class Counts:
    """What became of the inputs of one target."""

    def __init__(self):
        self.outcomes, self.more = Counter(), Counter()
        self.kinds: dict[str, Counter] = defaultdict(Counter)
        self.slowest = self.largest = 0.0

    def add(self, result: Result) -> None:
        self.outcomes[result.outcome] += 1
        self.more.update(result.more)
        if result.kind:
            self.kinds[result.kind][result.outcome] += 1
        self.slowest, self.largest = max(self.slowest, result.cpu_seconds), max(self.largest, result.megabytes)

    @property
    def num_failures(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome not in ("read", "refused"))

    def as_dict(self) -> dict:
        counts = {"tried": self.outcomes.total(), **{name: self.outcomes[name] for name in OUTCOMES}}
        largest = {"most_cpu_seconds": round(self.slowest, 2), "most_megabytes": round(self.largest)}
        return {
            **counts,
            **self.more,
            **largest,
            "kinds": {kind: dict(self.kinds[kind]) for kind in sorted(self.kinds)},
        }


def keep_failure(folder: Path, name: str, seed: int, result: Result, worker: Worker) -> Path:
    """Copies the input, says what happened, and how to try it again."""
    kept = folder / f"{name.replace(':', '.')}-{seed}-{result.number}-{result.outcome}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    source = worker.folder / "input"
    if source.is_dir():
        shutil.copytree(source, kept / "input", symlinks=True)
    elif source.exists():
        shutil.copy(source, kept / "input")
    command = f"python tests/fuzz/run.py --targets {name} --seed {seed} --first {result.number} --inputs 1"
    report = f"{result.outcome}: {result.detail}\n\nAgain: {command}\n\nPrinted last:\n{worker.log_tail()}"
    (kept / "report.txt").write_text(report)
    return kept


def run_target(name: str, seconds: float, args: argparse.Namespace, folder: Path) -> Counts:
    """Fuzzes one target, with a progress bar."""
    target, counts, started = load_target(name), Counts(), time.monotonic()
    stop = None if args.inputs is None else args.first + args.inputs
    numbers = itertools.count(args.first) if stop is None else range(args.first, stop)
    results = try_inputs(target, name, folder, args.seed, numbers, seconds, target.max_seconds, args.processes)
    with tqdm(desc=name, total=args.inputs, unit="input", mininterval=1) as progress:
        for result, worker in results:
            counts.add(result)
            if result.is_failure:
                kept = keep_failure(args.failures, name, args.seed, result, worker)
                tqdm.write(f"{name} {result.number} {result.outcome}: {kept}", file=sys.stderr)
            left = max(0, seconds - (time.monotonic() - started))
            progress.set_postfix_str(f"{counts.num_failures} failed, {left:.0f} s left", refresh=False)
            progress.update()
            if counts.num_failures >= MAX_FAILURES:
                results.close()
                break
    return counts


def as_table(targets: dict[str, dict]) -> str:
    """Markdown table of the counts."""
    columns = ("tried", *OUTCOMES)
    lines = [f"| target | {' | '.join(columns)} | further |", f"| --- |{' ---: |' * len(columns)} --- |"]
    known = {*columns, "kinds", "most_cpu_seconds", "most_megabytes"}
    for name, counts in targets.items():
        further = [f"{value:,} {key}" for key, value in counts.items() if key not in known]
        further.append(f"at most {counts['most_cpu_seconds']} CPU s and {counts['most_megabytes']} MB an input")
        cells = [name, *(f"{counts[column]:,}" for column in columns), ", ".join(further)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def describe_machine() -> dict:
    """As in the results of the benchmarks."""
    from importlib.metadata import version

    sys.path.insert(0, str(ROOT / "benchmarks"))
    from common import machine

    found = machine()
    return {**found, "versions": {**found["versions"], **{name: version(name) for name in PACKAGES}}}


def write_readme(path: Path, result: dict) -> None:
    """Puts the last run between the markers."""
    sys.path.insert(0, str(ROOT / "training"))
    from results_table import update_file

    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    text = (
        f"{as_table(result['targets'])}\nLast run: {machine['date']}, seed {result['seed']}, {result['seconds']:.0f} "
        f"seconds in {result['processes']} processes; {machine['cpu']}, {machine['cores']} cores, load average "
        f"{machine['load_average']}; Python {machine['python']}, {versions}."
    )
    update_file(path, text, "fuzz")


def main(argv: list[str] | None = None) -> int:
    """Fuzzes the targets one after another; returns the exit code."""
    args = parse_args(argv)
    print(f"seed {args.seed}", flush=True)
    targets, seconds = {}, 0.0
    with tempfile.TemporaryDirectory(prefix="seed_hf_fuzz_") as folder:
        set_environment(f"{folder}/hf_home")
        shares = {name: load_target(name).share for name in args.targets}
        for name, share in shares.items():
            started = time.monotonic()
            counts = run_target(name, args.seconds * share / sum(shares.values()), args, Path(folder))
            targets[name] = counts.as_dict()
            seconds += time.monotonic() - started
    print(as_table(targets))
    result = {"seed": args.seed, "seconds": round(seconds), "processes": args.processes, "targets": targets}
    if args.output or args.readme:
        result["machine"] = describe_machine()
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")
    if args.readme:
        write_readme(args.readme, result)
    failed = [name for name, counts in targets.items() if counts["tried"] != counts["read"] + counts["refused"]]
    if failed:
        print(f"Failed: {', '.join(failed)}. The inputs and what happened are in {args.failures}.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
