"""The README and the model card: every Python snippet runs, offline; links lead somewhere; tables are up to date."""

import importlib
import json
import re
import shutil

import pytest
import torch
from PIL import Image
from tiny import ROOT

from seed_hf.cards import markdown


README, CARD = ROOT / "README.md", ROOT / "model_cards" / "seed-mini.md"
NUMBERS = ROOT / "docs" / "numbers.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = ROOT / "model_cards" / "seed-mini-results.json"
MAX_SHEET_BYTES = 400_000
BASH = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def snippets(path):
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder: a snippet runs anywhere."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


def test_short_snippets():
    lengths = [len([line for line in code.splitlines() if line.strip()]) for code in snippets(README)]
    assert len(lengths) >= 3 and max(lengths[:3]) < 10 and max(lengths) <= 12


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
@pytest.mark.parametrize("index", range(len(snippets(README))))
def test_snippet_runs(index, elsewhere, capsys):
    names, code = {"__name__": "snippet"}, snippets(README)[index]
    exec(compile(code, f"README.md, snippet {index + 1}", "exec"), names)
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert printed == re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE), "what the comments say is printed"
    if index == 0:
        codes = names["codes"]
        assert codes.shape == (1, 32) and codes.dtype == torch.long and 0 <= codes.min() and codes.max() < 4096
        assert Image.open(elsewhere / "rainbow.png").size == (64, 64)
    if index == 1:
        assert len(printed) == 1
    if index == 2:
        assert Image.open(elsewhere / "apple.png").size == (64, 64)


def test_snippets_and_commands_need_no_checkout():
    """Somebody with the wheel alone has none of these folders; scripts and make targets say so themselves."""
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    of_a_checkout = re.compile(rf"[\"' ](?:\./)?(?:{folders})/")
    pages = [page for page in PAGES if page.stem != "ecosystem"]  # which says that it is about a checkout
    codes = [code for page in pages for code in snippets(page)]
    assert len(codes) >= 7
    assert [code for code in codes if of_a_checkout.search(code)] == []
    blocks = [block for page in pages for block in BASH.findall(page.read_text(encoding="utf-8"))]
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("seed-hf ")]
    assert len(commands) > 10 and [line for line in commands if of_a_checkout.search(line)] == []


def test_no_package_index_is_asked_for_this_package():
    """Until it is on one; the form in a checkout works."""
    assert [p.name for p in PAGES if re.search(r"pip install [\"']?seed_hf", p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", [*PAGES, CARD, *ROOT.glob("examples/*.md")], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith(("http://", "https://", "#"))]
    assert local or path.parent.name == "reference"
    assert [target for target in local if not (path.parent / target.partition("#")[0]).exists()] == []


def test_named_files_exist():
    commands = "\n".join(BASH.findall(CARD.read_text(encoding="utf-8")))
    named = set(re.findall(r"training/[\w/]+\.(?:py|json|yaml)", commands))
    assert named == {"training/train_mini.py", "training/mini_results.py"}
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_sheet_is_modest():
    path = ROOT / "model_cards" / "assets" / "seed-mini-sheet.png"
    assert path.stat().st_size < MAX_SHEET_BYTES
    assert Image.open(path).width >= 1000


@pytest.mark.parametrize("path", [NUMBERS, CARD], ids=lambda path: path.name)
def test_results_are_those_of_the_file(path, tmp_path):
    """`python training/mini/results_table.py` would change nothing."""
    copy = tmp_path / path.name
    shutil.copyfile(path, copy)
    assert not markdown.update_file(copy, markdown.format_table(json.loads(RESULTS.read_text(encoding="utf-8"))))


def test_the_short_table_is_of_the_same_results(tmp_path):
    results = importlib.import_module("results_table").headline(json.loads(RESULTS.read_text(encoding="utf-8")))
    copy = tmp_path / README.name
    shutil.copyfile(README, copy)
    assert len(results["rows"]) == 6 and not markdown.update_file(copy, markdown.format_table(results), "headline")


def test_results_table(tmp_path, monkeypatch):
    results = {
        "command": "python training/mini/evaluate_mini.py",
        "splits": {"a": "drawings", "b": "concepts"},
        "rows": [
            {"name": "R@1", "unit": "%", "a": 41.26, "b": None, "chance": 0.207},
            {"name": "codes used", "note": "of 1024", "a": 1000, "b": 7},
        ],
    }
    assert markdown.format_table(results).splitlines() == [
        "| measured | drawings | concepts | chance |",
        "| --- | ---: | ---: | ---: |",
        "| R@1 | 41.3 % | – | 0.21 % |",
        "| codes used (of 1024) | 1,000 | 7 | – |",
        "",
        "Measured by `python training/mini/evaluate_mini.py`.",
    ]
    page, source = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    source.write_text(json.dumps(results))
    short = tmp_path / "short.md"
    short.write_text("<!-- headline -->\n<!-- /headline -->\n")
    script = importlib.import_module("results_table")
    monkeypatch.setattr(script, "HEADLINE", ("codes used",))
    script.main(["--results", str(source), "--targets", str(page), "--readme", str(short)])
    assert "| codes used (of 1024) | 1,000 | 7 |" in short.read_text() and "R@1" not in short.read_text()
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "| R@1 | 41.3 %" in text
    assert not markdown.update_file(page, markdown.format_table(results))


@pytest.mark.parametrize("text", ["no markers", "<!-- /results --> <!-- results -->"])
def test_results_table_refuses_other_files(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="`path` is .*page.md"):
        markdown.update_file(page, "table")
    assert page.read_text() == text


def test_results_table_refuses_empty_results():
    with pytest.raises(ValueError, match="0 rows"):
        markdown.format_table({"splits": {"a": "b"}, "rows": []})
