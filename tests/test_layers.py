"""The folders of the package import in one direction, and scripts import the package only."""

import ast

import pytest
from tiny import ROOT, TRAINING


# Each may import what stands on a line above its own, and its own folder.
LAYERS = (
    ("loopback", "provenance", "licences", "sealed_files", "missing_packages", "models"),
    ("hub",),
    ("image_tokenizers",),
    ("data", "convert", "edits", "inference", "packed"),
    ("mini",),
    ("evaluation", "loading"),
    ("export", "rewards", "studio", "trainer"),
    ("app", "cards", "demo", "serve"),
    ("report",),
    ("commands",),
)
PACKAGE = ROOT / "seed_hf"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "pipeline" not in path.parts)


def imported_names(path):
    """The dotted names that a file imports, those of its own package made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join((*above, *filter(None, [node.module])))


def layer_of(name):
    return next((number for number, layer in enumerate(LAYERS) if name in layer), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_folders_import_in_one_direction(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return
    assert layer_of(own) is not None, "a new folder needs a place in LAYERS"
    for name in imported_names(path):
        root, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if root == "seed_hf" and other and other != own:
            # what travels to the Hub uses the package's upload where the package is installed
            is_upload = path.name == "hub_mixin_seed.py" and name == "seed_hf.hub"
            assert is_upload or layer_of(other) < layer_of(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", sorted(TRAINING.rglob("*.py")), ids=lambda path: path.name)
def test_scripts_import_no_script(path):
    scripts = {other.stem for other in TRAINING.rglob("*.py")} - {path.stem}
    assert not scripts & set(imported_names(path))
