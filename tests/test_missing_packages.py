"""Where an extra is not installed, one line says which, in every program."""

import json
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from tiny import ROOT

from seed_hf.commands import COMMANDS
from seed_hf.missing_packages import EXTRAS, describe_missing


OPTIONAL = sorted({name for extra, names in EXTRAS.items() if extra for name in names} - {"pytest", "parameterized"})
LINE = re.compile(
    r"[\w. /-]+: the package '(?P<package>\w+)' is not installed; it comes with "
    r"pip install \"seed_hf(?P<extra>\S*)\" .*"
)


def start_all(*names, cwd) -> dict[str, str]:
    command = [sys.executable, str(ROOT / "tests" / "missing_packages_checks.py"), *names]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_program_without_extras(tmp_path):
    written = start_all(*OPTIONAL, cwd=tmp_path)
    scripts = {path.name for path in (ROOT / "training").rglob("*.py") if "__main__" in path.read_text()}
    assert written.keys() == {*COMMANDS, "python -m seed_hf.demo", *scripts}
    assert {name: text for name, text in written.items() if "Traceback" in text} == {}
    lines = {name: LINE.fullmatch(text.strip()) for name, text in written.items()}
    extras = {name: line["extra"] for name, line in lines.items() if line}
    assert extras["eval"] == "[eval]" and extras["encode"] == "[train]" and extras["build_emoji_dataset.py"] == "[dev]"
    assert extras["serve"] == "[serve]" and extras["export-encoder"] == "[export]"
    needed = (
        "train_qformer",
        "train_codebook",
        "train_causal_lm",
        "train_decoder",
        "train_vae",
        "prepare_data",
        "plot_curves",
    )
    assert {extras[f"{name}.py"] for name in needed} == {"[train]"}
    # what needs none says nothing of packages
    light = {"tokenize", "reconstruct", "caption", "ask", "draw", "info", "search", "demo", "python -m seed_hf.demo"}
    assert not {"convert", "export-lm", "card", "push", *light, "results_table.py"} & extras.keys()


def test_every_extra_names_what_it_brings():
    """Names of imports are not those of packages; those that `pip` knows here are compared with setup.py."""
    brought = metadata.packages_distributions()
    required = [Requirement(text) for text in metadata.requires("seed_hf")]
    for extra, names in EXTRAS.items():
        own = {
            r.name.lower().replace("_", "-")
            for r in required
            if r.marker is None or extra and r.marker.evaluate({"extra": extra})
        }
        for name in set(names) - {"pyarrow", "pandas"}:  # by way of `datasets`
            known = {package.lower().replace("_", "-") for package in brought.get(name, [])}
            assert not known or known & own, f"{name} of {extra}"


@pytest.mark.parametrize(
    "error, line",
    [
        (ModuleNotFoundError("No module named 'a.b'", name="a.b"), None),
        (ImportError("cannot import name 'x' from 'datasets'", name="datasets"), None),
        (ImportError("needs `pip install\n that`"), "needs `pip install that`"),
    ],
)
def test_errors_of_the_code_keep_their_traceback(error, line):
    assert describe_missing(error) == line


def test_the_extra_that_was_asked_for_is_named():
    error = ModuleNotFoundError("No module named 'pyarrow.parquet'", name="pyarrow.parquet")
    assert "seed_hf[train]" in describe_missing(error) and "seed_hf[eval]" in describe_missing(error, "eval")
    assert '".[train]"' in describe_missing(error)


def test_what_comes_with_the_package_itself_is_named():
    line = describe_missing(ModuleNotFoundError("No module named 'diffusers'", name="diffusers"), "convert")
    assert "'diffusers'" in line and '"seed_hf"' in line and '"."' in line
