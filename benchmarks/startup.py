"""CPU seconds until `import seed_hf` and `seed-hf --help` are done, each in a fresh process.

    python benchmarks/startup.py

`import seed_hf` registers the models with transformers' Auto classes, for which it loads torch and transformers' own
models. That costs about as much as the import of one of those models. The help waits for neither.
"""

import subprocess
import sys
from functools import partial

import common


HELP = "import sys, seed_hf_script; sys.argv[1:] = ['--help']; seed_hf_script.main()"
GOAL = 1.1
# case, ours, what it is held against, its code, goal
CASES = (
    ("import seed_hf, against a model of transformers", "import seed_hf", "from transformers import Blip2Model", GOAL),
    ("import seed_hf, against transformers alone", "import seed_hf", "import transformers", None),
    ("seed-hf --help, against Python alone", HELP, "pass", None),
)


def start(code: str) -> None:
    """One process."""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def measure(args) -> list[dict]:
    """One row for each case."""
    rows, rounds = [], 1 if args.quick else 5
    for case, ours, baseline, most in CASES[-1:] if args.quick else CASES:
        timed = common.compare(partial(start, ours), partial(start, baseline), rounds, clock=common.children_time)
        rows.append(
            common.row(
                case,
                f"{timed['ours_cpu_s']:.2f} CPU s",
                f"{timed['baseline_cpu_s']:.2f} CPU s (python -c {baseline!r})",
                timed["ratio"],
                "" if most is None else f"CPU time <= {most} x",
                None if most is None else timed["ratio"] <= most,
                timed=timed,
            )
        )
    return rows


if __name__ == "__main__":
    common.run("startup", "Start: imports and help", measure)
