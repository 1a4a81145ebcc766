"""The pages in docs/: their blocks run for somebody who has the package and no checkout; the site builds."""

import pytest
from pages import run_page
from tiny import ROOT


# these have tests of their own
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.stem not in ("ecosystem", "architecture")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place without a checkout, which the pages share."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_blocks_run(path, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    run_page(path, capsys)


def test_commands_of_the_readme_run(folder, monkeypatch, capsys):
    """Its Python runs in test_readme.py."""
    monkeypatch.chdir(folder)
    run_page(ROOT / "README.md", capsys, languages=("bash",))
