"""The language of docstrings, helps and pages: words and forms that have crept in before stay out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import ROOT


CODE = [path for folder in ("seed_hf", "training") for path in sorted((ROOT / folder).rglob("*.py"))]
CODE = [path for path in CODE if not path.is_symlink() and "mini/pipeline" not in path.as_posix()]
PAGES = [
    *ROOT.glob("*.md"),
    *(path for name in ("docs", "training", "model_cards") for path in ROOT.glob(f"{name}/*.md")),
]
# An argument, return value or help whose description begins with the rest of a sentence: "Of the noise."
TELEGRAPHIC = re.compile(r"(?:^|\n)\s*(?:\w+ \([^\n]*\)|`[^`\n]+`): [oO]f (?!course)|^of ")


def docstrings_and_helps(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield from (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))


def faults(text: str) -> list[str]:
    return [match[0] for match in re.finditer(rf"{TELEGRAPHIC.pattern}|\bso many\b|\b[Cc]an not\b", text)]


def test_docstrings_and_helps():
    assert len(CODE) > 200
    found = [(path, fault) for path in CODE for text in docstrings_and_helps(path) for fault in faults(str(text))]
    assert found == []


def test_cannot_is_one_word():
    texts = [(path, path.read_text(encoding="utf-8")) for path in CODE + PAGES]
    assert [(path, line) for path, text in texts for line in re.findall(r".*\b[Cc]an not\b.*", text)] == []


@pytest.mark.parametrize(
    "text",
    ["Args:\n    seed (`int`): Of the noise.", "of the weights", "codes of so many views", " ".join(("can", "not"))],
)
def test_faults_are_noticed(text):
    assert faults(text)


def test_whole_sentences_pass():
    assert (
        faults("Args:\n    seed (`int`): Seed of the noise, of which there is a lot.\n\nReturns:\n    `int`: It.")
        == []
    )
