"""The package as a whole: what the wheel holds, what is tracked, what docstrings promise."""

import ast
import email
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tiny import ROOT
from version_sets import lowest_versions

import seed_hf


LIBRARY_FILES = sorted(path for path in (ROOT / "seed_hf").rglob("*.py") if "mini/pipeline" not in path.as_posix())
COPIED_FILES = sorted((ROOT / "seed_hf" / "models").glob("*.py"))
MAX_TRACKED_BYTES = 30 * 2**20

# "codes (`torch.LongTensor`, *optional*, defaults to `None`): ..." in an Args section.
DOCUMENTED_ARGUMENT = re.compile(r"^(?P<name>\*{0,2}[a-z_]\w*) \((?P<type>.*?)\):(?:\s|$)", re.DOTALL)
STATED_DEFAULT = re.compile(r"defaults to (?P<value>`[^`]*`|[^\s,)]+)")
SECTION = re.compile(r"^(Args|Arguments|Returns|Yields|Raises|Example|Examples|Source|Note|Notes|Attributes|See).*:")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The tracked files only, as a clone has them."""
    folder = tmp_path_factory.mktemp("source")
    for path in tracked_files():
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, as a clone would build it: by the back end that pip would call, which lists the sources as well."""
    target = tmp_path_factory.mktemp("wheel")
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=source, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.fixture(scope="module")
def requirements(wheel) -> list[Requirement]:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    lines = wheel.read(name).decode().splitlines()
    return [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]


def test_wheel_holds_the_package_and_nothing_else(wheel):
    top_level = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"seed_hf", "seed_hf_script.py"}


def test_wheel_holds_every_tracked_file_of_the_package(wheel):
    tracked = {str(path.relative_to(ROOT)) for path in tracked_files() if path.is_relative_to(ROOT / "seed_hf")}
    assert tracked - set(wheel.namelist()) == set()


@pytest.mark.usefixtures("wheel")
def test_source_archive_holds_every_tracked_file(source):
    """With what its tests, training and benchmarks need beside the package. Only listed, by the build of the wheel."""
    listed = set((source / "seed_hf.egg-info" / "SOURCES.txt").read_text().splitlines())
    tracked = {path.relative_to(ROOT).as_posix() for path in tracked_files()}
    assert tracked - listed == set()
    assert {name for name in listed - tracked if not name.startswith("seed_hf.egg-info/")} == set()


def test_description_leads_nowhere_that_does_not_exist(wheel):
    """On a package index there are no files of the repository beside it, and no address is made up."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(wheel.read(name).decode())
    assert metadata.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2307.08041"]
    text = metadata.get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links and [link for link in links if not link.startswith(("https://", "#"))] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text) > 0.9 * len(re.sub(r"\]\([^)]*\)", "]", readme)), "only where links lead is left out"


def test_constraints_pin_a_version_that_every_requirement_allows(requirements):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, version in pins.items()}
    # torchvision must fit the build of torch, which is the user's choice
    installed_by_make = [r for r in requirements if r.marker is None or "torchvision" not in str(r.marker)]
    assert len(installed_by_make) > 8
    for requirement in installed_by_make:
        pin = pins.get(re.sub(r"[-_.]+", "-", requirement.name).lower())
        assert pin is not None, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow the tested {pin}"


def test_requirements_are_lower_bounds(requirements):
    pinned = [str(r) for r in requirements if any(s.operator in ("==", "~=", "<", "<=") for s in r.specifier)]
    assert pinned == []


def test_the_lowest_set_has_every_bound(requirements):
    """What `make test-versions` tries is what the metadata promise."""
    promised = {canonicalize_name(r.name): str(r.specifier).removeprefix(">=") for r in requirements}
    assert {canonicalize_name(name): bound for name, bound in lowest_versions().items()} == promised


@pytest.mark.parametrize("name", sorted(seed_hf.__all__))
def test_public_name_is_importable_and_documented(name):
    public = getattr(seed_hf, name)
    if name != "__version__":
        assert public.__doc__ and public.__doc__.strip(), f"{name} has no docstring"


def test_version_is_in_the_metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {seed_hf.__version__}\n" in wheel.read(name).decode()


def test_no_large_file_is_tracked():
    large = [str(path.relative_to(ROOT)) for path in tracked_files() if path.stat().st_size > MAX_TRACKED_BYTES]
    assert large == []


def test_no_machine_path_is_tracked():
    path_of_one_machine = re.compile(rb"(?<![\w.~])/(?:home|Users|root|work)/\w")
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content and (match := path_of_one_machine.search(content)):
            found.append(f"{path.relative_to(ROOT)}: {match.group().decode()}")
    assert found == []


@pytest.mark.parametrize("path", COPIED_FILES, ids=lambda path: path.name)
def test_relative_imports_survive_the_hub_copy(path):
    """The copiers of transformers and diffusers read text, follow `from .module import Name` only, and one level."""
    source = path.read_text(encoding="utf-8")
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    wrong = [ast.unparse(node) for node in statements if node.level > 1 or not node.module or "." in node.module]
    assert wrong == []
    lines_that_look_relative = re.findall(r"^\s*(?:from|import)\s+\.(?:\w|\s)", source, re.MULTILINE)
    assert len(lines_that_look_relative) == len(statements), "a docstring or comment holds an import-looking line"


def documented_arguments(docstring: str) -> dict[str, str]:
    """Return {argument: its type text} of the `Args` section of a Google-style docstring."""
    lines = docstring.splitlines()
    arguments, inside, indent = {}, False, None
    for number, line in enumerate(lines):
        stripped = line.strip()
        if SECTION.match(stripped):
            inside, indent = stripped.startswith(("Args:", "Arguments:")), None
            continue
        if not inside or not stripped:
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        if depth == indent and (match := DOCUMENTED_ARGUMENT.match(" ".join(x.strip() for x in lines[number:]))):
            arguments[match["name"].lstrip("*")] = match["type"]
    return arguments


def signature_defaults(node: ast.AST) -> dict[str, ast.expr | None]:
    """Return {parameter: default or None} of a function, or of a class: its `__init__` and its annotated fields."""
    if isinstance(node, ast.ClassDef):
        fields = {item.target.id: item.value for item in node.body if isinstance(item, ast.AnnAssign)}
        plain = [item for item in node.body if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name)]
        fields |= {item.targets[0].id: item.value for item in plain}
        constructors = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return fields | (signature_defaults(constructors[0]) if constructors else {})
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    padding = [None] * (len(positional) - len(arguments.defaults))
    found = {a.arg: d for a, d in zip(positional, [*padding, *arguments.defaults], strict=True)}
    return found | {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)}


def same_default(stated: str, default: ast.expr, constants: dict[str, ast.expr]) -> bool:
    """Whether the stated default is the one of the signature, by value where both are literals, else by text."""
    default = constants.get(default.id, default) if isinstance(default, ast.Name) else default
    stated = stated.strip("`").rstrip(".") if "[`" not in stated else stated.strip("[`]")
    try:
        values = [ast.literal_eval(stated), ast.literal_eval(default)]
        # JSON has no tuples: a list and a tuple are the same configuration value
        first, second = ([*value] if isinstance(value, tuple) else value for value in values)
        return first == second
    except (ValueError, SyntaxError):
        # of a dotted name the last part: `Resampling.BICUBIC` has several paths, and prose says "bicubic"
        return stated.split(".")[-1].lower() == ast.unparse(default).split(".")[-1].lower()


def test_stated_defaults_equal_the_signature():
    wrong, compared = [], 0
    for path in LIBRARY_FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = [
            node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        ]
        constants = {node.targets[0].id: node.value for node in assigned}
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or not ast.get_docstring(node):
                continue
            defaults = signature_defaults(node)
            for name, text in documented_arguments(ast.get_docstring(node)).items():
                stated = STATED_DEFAULT.search(text)
                if stated is None or defaults.get(name) is None:
                    continue
                compared += 1
                if not same_default(stated["value"], defaults[name], constants):
                    real = ast.unparse(defaults[name])
                    wrong.append(f"{path.name}:{node.lineno} {node.name}({name}): says {stated['value']}, is {real}")
    assert wrong == []
    assert compared > 20, "the checker found almost nothing to compare: has the docstring form changed?"
