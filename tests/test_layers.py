"""The folders of the package import in one direction, and scripts import the package only."""

import ast

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


def test_folders_import_in_one_direction():
    assert len(FILES) > 200
    for path in FILES:
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert layer_of(own) is not None, f"{path}: a new folder needs a place in LAYERS"
        for name in imported_names(path):
            root, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if root == "seed_hf" and other and other != own:
                # what travels to the Hub uses the package's upload where the package is installed
                is_upload = path.name == "hub_mixin_seed.py" and name == "seed_hf.hub"
                assert is_upload or layer_of(other) < layer_of(own), f"{path} imports {name}"


def test_scripts_import_no_script():
    scripts = sorted(TRAINING.rglob("*.py"))
    assert len(scripts) > 10
    for path in scripts:
        others = {other.stem for other in scripts} - {path.stem}
        assert not others & set(imported_names(path)), path
