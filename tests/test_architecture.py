"""docs/architecture.md and CONTRIBUTING.md: what they name exists, and the figure is that of the configuration."""

import ast
import importlib
import re

import pytest
from tiny import ROOT


PAGE, FIGURE = ROOT / "docs" / "architecture.md", ROOT / "docs" / "architecture.svg"
STEPS = sorted(set(re.findall(r"`([\w/]+\.py):(\w+)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path, function", STEPS, ids=lambda value: value.rpartition("/")[2])
def test_steps_exist(path, function):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_flow_has_its_steps():
    flows = re.findall(r"^## (\w+): .*?\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert [name for name, _ in flows] == ["Encode", "Caption", "Draw", "Train"]
    assert all(4 <= len(re.findall(r"^\d\. ", text, re.MULTILINE)) <= 6 for _, text in flows)


def test_figure_shows_the_configuration(monkeypatch):
    monkeypatch.syspath_prepend(str(PAGE.parent))
    figure = importlib.import_module("draw_architecture")
    assert figure.draw() == FIGURE.read_text(encoding="utf-8"), "run python docs/draw_architecture.py"
    sizes = figure.read_sizes()
    sizes["tokenizer"]["num_query_tokens"] = 7
    assert "7 causal embeddings" in str(figure.boxes(sizes)) and "32 causal" in figure.draw()


def test_files_to_change_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where would I change")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text.partition("\n## ")[0], re.MULTILINE)[2:]
    assert len(rows) == 10
    assert [path for _, cell in rows for path in re.findall(r"`([\w/.]+)`", cell) if not (ROOT / path).is_file()] == []
    assert all(len(re.findall(r"`[\w/.]+`", cell)) == 1 for _, cell in rows), "one file each"


def test_map_names_every_folder():
    """The tree in the README: each folder once, with a comment, and none that is not there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Map")[2]
    lines = re.search(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1].splitlines()
    parents, mapped = {0: ROOT}, set()
    for line in lines:
        indent, name, comment = re.fullmatch(r"( *)([\w.]+/?)(?: +(\S.*))?", line).groups()
        path = parents[len(indent)] / name
        assert path.exists() and (comment or name == "seed_hf/"), line
        parents[len(indent) + 2] = path
        mapped.add(path)
    code = {path.parent for path in (ROOT / "seed_hf").glob("*/*.py")} | {path.parent for path in ROOT.glob("*/*.py")}
    assert code <= mapped
