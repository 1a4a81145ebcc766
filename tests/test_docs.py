"""The pages in docs/: their blocks run for somebody who has the package and no checkout; the site builds."""

import ast
import json
import re
from pathlib import Path

import pytest
from pages import blocks, command_lines, run_page, run_python
from tiny import ROOT
from tiny.mini import MiniLoader

from seed_hf import SeedPipeline
from seed_hf.commands import COMMANDS


# these have tests of their own
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.stem not in ("ecosystem", "architecture")]
WITH_CODE = [path for path in PAGES if any(language in ("python", "bash") for language, *_ in blocks(path))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def pictures_in_two_steps(monkeypatch):
    """Pages say how pictures are drawn; nobody looks at these."""
    load = SeedPipeline.from_pretrained

    def load_quick(*args, **kwargs):
        pipeline = load(*args, **kwargs)
        pipeline.register_to_config(num_inference_steps=2)
        return pipeline

    monkeypatch.setattr(SeedPipeline, "from_pretrained", load_quick)


@pytest.fixture(scope="module")
def loader():
    return MiniLoader()


@pytest.fixture(autouse=True)
def one_load_for_all_commands(loader, monkeypatch):
    """Python loads for itself, as its reader does."""
    loader.replace(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place without a checkout, which the pages share."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_blocks_run(path, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    run_page(path, capsys)


def test_commands_of_the_readme_run(folder, monkeypatch, capsys):
    """Its Python runs in test_readme.py."""
    monkeypatch.chdir(folder)
    run_page(ROOT / "README.md", capsys, languages=("bash",))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names = {"__name__": "notebook"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, "saved without outputs"
            run_python("".join(cell["source"]), names, f"{path.name}, cell {number}", capsys)
    if path.stem == "train_a_tiny_seed":
        assert names["right"] > 12, "a guess is right in 4 of 48 cases"
    else:
        assert names["captions"] == ["doughnut", "rainbow", "guitar", "strawberry"]


def test_blocks_that_are_not_run_name_commands_that_exist():
    """A reason stands before each; they are few."""
    every = [block for path in [ROOT / "README.md", *PAGES] for block in blocks(path)]
    skipped = [text for language, text, reason in every if reason]
    assert 0 < len(skipped) < len(every) / 4
    commands = [line.split() for text in skipped for line in command_lines(text) if line.startswith("seed-hf ")]
    assert len(commands) > 10 and {words[1] for words in commands} <= set(COMMANDS)


def messages() -> str:
    """The texts of the package's strings, one a line, with … in place of values."""
    lines = []
    for path in sorted((ROOT / "seed_hf").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                lines.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(node.value)
    return "\n".join(lines)


def test_quoted_errors_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\*\*`(.+)`\*\*$", page, re.MULTILINE)
    ours, text = [quote for quote in quoted if "Torchvision" not in quote], messages()
    assert len(ours) >= 20
    assert [quote for quote in ours if quote not in text] == []


def test_every_page_has_its_place():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f": {page}\n" not in navigation] == []


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path, monkeypatch):
    """Strict: a dead link is an error."""
    build, load_config = (pytest.importorskip(f"mkdocs.{name}") for name in ("commands.build", "config"))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    config = load_config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    build.build(config)
    pages = sorted(Path(config.site_dir).rglob("*.html"))
    assert len(pages) > 30
    loaded = re.compile(r"<(?:script|img|source|iframe|link)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]+>")
    allowed = re.compile(r"rel=[\"']?canonical")
    found = [tag for page in pages for tag in loaded.findall(page.read_text(encoding="utf-8"))]
    assert [tag for tag in found if not allowed.search(tag)] == []
