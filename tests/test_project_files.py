"""Workflows, templates, citation and changelog: they are well formed, agree, and call what is there."""

import re

import pytest
import yaml
from tiny import ROOT

import seed_hf


GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def read(path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(workflow: dict) -> list[str]:
    """What the steps run, once for each entry of a matrix that is filled in."""
    found = []
    for job in workflow["jobs"].values():
        targets = job.get("strategy", {}).get("matrix", {}).get("target", [""])
        runs = [step["run"] for step in job["steps"] if "run" in step]
        found += [run.replace("${{ matrix.target }}", target) for run in runs for target in targets]
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist(path):
    workflow = read(path)
    targets = set(re.findall(r"^([\w-]+)(?: [\w -]+)?:", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = [command.split() for command in commands(workflow)]
    assert called and [words for words in called if words[0] != "make" or words[1] not in targets] == []
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 180 for job in workflow["jobs"].values())


def test_ci_does_what_is_promised():
    jobs = read(GITHUB / "workflows" / "ci.yml")["jobs"]
    assert {"lint", "tests", "versions", "docs", "wheel"} <= jobs.keys()
    assert set(jobs["versions"]["strategy"]["matrix"]["set"]) == {"lowest", "newest"}
    setup = (ROOT / "setup.py").read_text()
    classified = re.findall(r"Python :: (3\.\d+)", setup)
    assert jobs["tests"]["strategy"]["matrix"]["python"] == classified
    assert f'python_requires=">={classified[0]}"' in setup


def test_issue_templates_ask_for_something():
    templates = [path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(templates) == 2
    for path in templates:
        form = read(path)
        assert form["name"] and form["description"]
        assert any(part.get("validations", {}).get("required") for part in form["body"]), path.name


def test_the_version_is_the_same_everywhere():
    citation = read(ROOT / "CITATION.cff")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## \[(\d[\w.]*)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE).groups()
    assert (citation["version"], str(citation["date-released"])) == (version, date)
    # between two releases the version is the next one's, with .dev0
    assert seed_hf.__version__ == version or seed_hf.__version__.endswith(".dev0")
