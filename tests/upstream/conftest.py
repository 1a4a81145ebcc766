"""The peers' suites on our classes: where they are, and that a check of theirs is skipped for a listed reason only."""

import os
import sys
import tomllib
from pathlib import Path

import pytest
from fetch_suites import SUITES, suite_folder


# slow checks too; those of them that need a GPU or a download ask for it themselves
os.environ.setdefault("RUN_SLOW", "1")

MARKERS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test")
MARKERS += ("is_training_test", "torch_compile_test")
WAS_SKIPPED = pytest.StashKey[bool]()
MISSING = [folder for folder in map(suite_folder, SUITES) if not folder.is_dir()]
sys.path.extend(map(str, map(suite_folder, SUITES)))


def read_allowed_skips() -> dict[str, dict]:
    """Entries of the list by the name of each check, such as `SeedOPTTest::test_cpu_offload`."""
    entries = tomllib.loads(Path(__file__).with_name("allowed_skips.toml").read_text(encoding="utf-8"))["skip"]
    named = [(f"{group}::{test}", entry) for entry in entries for group in entry["of"] for test in entry["tests"]]
    if len(named) != len(dict(named)):
        raise pytest.UsageError("allowed_skips.toml names a check twice")
    return dict(named)


ALLOWED = read_allowed_skips()


def name_of(item) -> str:
    """`Class::test`, or for peft's checks `test_peft::parameters`."""
    name = item.nodeid.partition("::")[2]
    return name if "::" in name else name.removesuffix("]").replace("[", "::", 1)


def pytest_configure(config):
    for name in MARKERS:
        config.addinivalue_line("markers", f"{name}: of transformers")


class MissingSuite(pytest.Module):
    """Stands in for a module that could not be imported."""

    def collect(self):
        pytest.skip(f"{MISSING[0]} is not there: tests/upstream/fetch_suites.py says why", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return MissingSuite.from_parent(parent, path=module_path) if MISSING else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        item.add_marker(pytest.mark.upstream)
        # the suites themselves use what their packages deprecate
        item.add_marker(pytest.mark.filterwarnings("default::FutureWarning"))
    unknown = set(ALLOWED) - set(map(name_of, items))
    if unknown and not MISSING and all(Path(argument).is_dir() for argument in config.args):
        raise pytest.UsageError(f"allowed_skips.toml names checks that are not there: {sorted(unknown)}")


def pytest_sessionfinish(session, exitstatus):
    if MISSING and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK  # fetch_suites.py has made an error of it where it is one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Makes a failure of a skip that is not listed, and of a listed one that does not happen."""
    report = yield
    name = name_of(item)
    entry = ALLOWED.get(name)
    if report.skipped and entry is None:
        report.outcome = "failed"
        report.longrepr = f"{name} was skipped and is not in allowed_skips.toml: {report.longrepr[2]}"
    elif report.skipped:
        item.stash[WAS_SKIPPED] = True  # in a subtest; the check as a whole may pass then
        path, line, said = report.longrepr
        report.longrepr = (path, line, f"{said} [{entry['reason']}]")
    elif report.passed and report.when == "call" and entry is not None and not entry.get("optional"):
        if WAS_SKIPPED in item.stash:
            return report
        report.outcome = "failed"
        report.longrepr = f"{name} runs: take it out of allowed_skips.toml"
    return report
