"""Runs the suite with the lowest and the newest versions that `setup.py` allows, and on the other versions of Python.

    python tests/version_sets.py [SET ...]        # what `make test-versions` runs

Each set has an environment of its own, `.venv-<set>`. torch is always a build for the CPU: others fetch gigabytes of
accelerator libraries. A set for which there is no interpreter, or no such build, is named and left out.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT = re.compile(r'"([A-Za-z][\w.-]*)(?:\[[\w,-]+\])?>=([\d.]+)"')
PYTHONS = ("3.12", "3.13", "3.14")


def lowest_versions() -> dict[str, str]:
    """The bound of each requirement in `setup.py`."""
    return dict(REQUIREMENT.findall((ROOT / "setup.py").read_text(encoding="utf-8")))


def tested_torch() -> str:
    """The version of torch in `constraints.txt`."""
    return re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]


def make_environment(name: str, python: str) -> Path:
    """A new environment; what an earlier run left there may not be the newest any more."""
    environment = ROOT / f".venv-{name}"
    subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
    return environment


def has_cpu_build(environment: Path, version: str) -> bool:
    """Whether torch of this version can be had for the CPU alone; outside Linux the ordinary builds are."""
    requirement = f"torch=={version}+cpu" if sys.platform == "linux" else f"torch=={version}"
    command = [environment / "bin" / "python", "-m", "pip", "install", "--dry-run", "--no-deps", requirement]
    return subprocess.run(command, capture_output=True).returncode == 0


def find_python(version: str) -> str | None:
    """An interpreter of this version: on the path, or one that pyenv has installed."""
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in (shutil.which(f"python{version}"), *map(str, installed)):
        # a name on the path may be pyenv's shim, which fails where the version is not switched on
        if candidate and subprocess.run([candidate, "-c", "import venv"], capture_output=True).returncode == 0:
            return candidate
    return None


def constraints_of(name: str, torch: str) -> str:
    """The text of the constraints of a set."""
    if name in PYTHONS:
        return (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = (lowest_versions() if name == "lowest" else {}) | {"torch": torch}
    return "".join(f"{package}=={version}\n" for package, version in pins.items())


def run_set(name: str) -> str:
    """What came of the suite in one set; where it cannot be had, a line says why."""
    python = find_python(name) if name in PYTHONS else sys.executable
    if python is None:
        print(f"{name}: left out, there is no interpreter of Python {name}.")
        return "left out"
    environment = make_environment(name, python)
    wanted = [lowest_versions()["torch"]] if name == "lowest" else []
    torch = next((version for version in [*wanted, tested_torch()] if has_cpu_build(environment, version)), None)
    if torch is None:
        print(f"{name}: left out, torch {tested_torch()} for it can only be had with gigabytes of CUDA libraries.")
        return "left out"
    without = f" ({wanted[0]} can only be had with CUDA libraries)" if wanted and torch != wanted[0] else ""
    print(f"{name}: {python}, torch {torch}{without}", flush=True)
    constraints = environment / "constraints.txt"
    constraints.write_text(constraints_of(name, torch), encoding="utf-8")
    variables = [f"VENV={environment.name}", f"CONSTRAINTS={constraints.relative_to(ROOT)}"]
    done = subprocess.run(["make", "--no-print-directory", "test", *variables], cwd=ROOT)
    return "failed" if done.returncode else "passed"


def main() -> int:
    """Runs the sets; 1 where a suite fails."""
    results = {name: run_set(name) for name in sys.argv[1:] or ("lowest", "newest", *PYTHONS)}
    print(*(f"{name}: {result}" for name, result in results.items()), sep="\n")
    return int("failed" in results.values())


if __name__ == "__main__":
    sys.exit(main())
