"""Builds the source archive and the wheel, and uses both as somebody does who has no clone.

    python tests/package_checks.py          # or: make test-package

The wheel goes into an environment of its own with what the package needs and no extra, at the versions of
constraints.txt. There the Python of the README and of the pages in docs/ runs from an empty folder, and so do commands
about seed-mini. Pages that need an extra must say so and nothing else. Of the unpacked source archive some tests run.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
# quick ones that need fixtures, builders and pages beside them
SDIST_TESTS = ["tests/models/test_parity.py", "tests/test_packaging.py", "tests/models/test_configuration_seed.py"]
# A command, and what it says where an extra is missing; `None`: it works without one.
COMMANDS = [
    ("seed-hf export-lm seed-mini plain", None),
    ("seed-hf encode seed-mini images codes", 'pip install "seed_hf[train]"'),
    ("seed-hf eval caption seed-mini --dataset emoji --output x.json", 'pip install "seed_hf[eval]"'),
    ("python -m seed_hf.demo --num-pictures 1 --num-inference-steps 1", None),
]
# Of the pages, by what is in their blocks: what they say. The last is a line of transformers.
PAGES_WITH_EXTRAS = {
    "from datasets": 'pip install "seed_hf[train]"',
    "import evaluate": 'pip install "seed_hf[eval]"',
    "from openai": 'pip install "seed_hf[serve]"',
    "BitsAndBytesConfig": "requires bitsandbytes",
}
# a block with a reason before it is not run
BLOCK = re.compile(r"(?:^<!-- (not run: [^\n]+) -->\n+)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN_PAGE = """
import sys
import seed_hf_script
sys.argv = ["snippet"]
exec(compile(sys.stdin.read(), "page", "exec"))
"""


def main():
    """All checks, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="of an environment that has the requirements, instead of a new one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seed_hf_package_") as name:
        folder = Path(name)
        python = args.python or make_environment(folder / "venv")
        source, wheel = build(python, folder)
        run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel])
        (folder / "elsewhere").mkdir()
        check_pages(python, folder / "elsewhere")
        check_commands(python, folder / "elsewhere")
        run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", "pytest"])
        run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SDIST_TESTS], cwd=source)
    print("wheel and source archive are whole")


def make_environment(folder: Path) -> str:
    """A new environment with what the package needs; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    (torch,) = re.findall(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    run([*install, torch, "setuptools", "wheel"])
    run([*install, *re.findall(r"^    \"([\w.>=]+)\",$", requirements(), re.MULTILINE)])
    return python


def requirements() -> str:
    """The part of setup.py that lists them."""
    return (ROOT / "setup.py").read_text().partition("INSTALL_REQUIRES = [")[2].partition("]")[0]


def build(python: str, folder: Path) -> tuple[Path, Path]:
    """The source archive, unpacked, and the wheel that is made of it."""
    back_end = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]))"
    for kind in ("sdist", "wheel"):
        (folder / kind).mkdir()
    run([python, "-c", back_end.format("sdist"), folder / "sdist"], cwd=ROOT, stdout=subprocess.DEVNULL)
    (archive,) = (folder / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder / "sdist", filter="data")
    (source,) = (path for path in (folder / "sdist").iterdir() if path.is_dir())
    run([python, "-c", back_end.format("wheel"), folder / "wheel"], cwd=source, stdout=subprocess.DEVNULL)
    (wheel,) = (folder / "wheel").glob("*.whl")
    for path in (archive, wheel):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    assert wheel.stat().st_size < 100e6, "more than PyPI takes"
    return source, wheel


def check_pages(python: str, folder: Path):
    """The Python of the README and of every page of the documentation that is not about a checkout."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = [block for reason, block in BLOCK.findall(page.read_text("utf-8")) if not reason]
        if blocks and page.stem != "ecosystem":
            check_page(python, folder, page.name, "\n".join(blocks))


def check_page(python: str, folder: Path, name: str, text: str):
    """The blocks of a page, one after the other."""
    missing = [said for part, said in PAGES_WITH_EXTRAS.items() if part in text]
    done = run([python, "-c", RUN_PAGE], cwd=folder, input=text, check=False, capture_output=True)
    check_end(f"the Python of {name}", done, missing[0] if missing else None)
    for said in re.findall(r"^print\(.*\)  # (.+)$", text, re.MULTILINE):
        assert missing or said in done.stdout, f"{name} prints {done.stdout!r} and not {said!r}"


def check_commands(python: str, folder: Path):
    """The command line; an extra that is missing is one line that names it."""
    for command, missing in COMMANDS:
        program, *flags = command.split()
        done = run([Path(python).with_name(program), *flags], cwd=folder, check=False, capture_output=True)
        check_end(command, done, missing)


def check_end(what: str, done: subprocess.CompletedProcess, missing: str | None):
    """Success, or one line about what is missing."""
    last = (done.stdout if missing is None else done.stderr).strip().rpartition("\n")[2]
    print(f"{what}: {last}", flush=True)
    if missing is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and missing in last, done.stderr
        assert "Traceback" not in done.stderr, done.stderr


def run(command: list, check: bool = True, **settings) -> subprocess.CompletedProcess:
    """A command without a network of models, and without the clone on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run([*map(str, command)], check=check, env=environment, text=True, **settings)


if __name__ == "__main__":
    sys.exit(main())
