"""How `make docs` builds the site: pages keep their places in the repository, so that links work here and there."""

import ast
import posixpath
import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File, Files


ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)]*)?\)")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
# of the repository, beside README.md and docs/; what else these link to is copied where it is a single file
PAGES = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "RELEASING.md", "examples/*.md", "model_cards/*.md"),
    *("training/README.md", "training/data/emoji/*.md", "benchmarks/README.md", "benchmarks/results/*.md"),
)


def linked_files(page: Path) -> list[Path]:
    """Files beside the pages, such as figures and notebooks, that a page links to."""
    targets = [target for _, _, target, _ in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))]
    paths = [page.parent / target for target in targets if "://" not in target and not target.endswith(".md")]
    return [path.resolve() for path in paths if path.is_file()]


def site_files() -> list[Path]:
    """All files of the site: README.md is its first page."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages += [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    files = [ROOT / "docs" / "site.css", *(path for page in pages for path in linked_files(page))]
    return pages + list(dict.fromkeys(files))


def on_files(files: Files, config) -> Files:
    """Replaces the files of `docs_dir` by those of [`site_files`], each under its path in the repository."""
    docs = Path(config.docs_dir).resolve()
    for file in list(files):
        if file.abs_src_path and Path(file.abs_src_path).resolve().is_relative_to(docs):
            files.remove(file)
    for path in site_files():
        files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Leaves out links to what is in the repository and not on the site, such as folders and scripts."""

    def keep_or_drop(match: re.Match) -> str:
        image, text, target, _ = match.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), target))
        on_site = image or "://" in target or files.get_file_from_path(path)
        return match[0] if on_site or not (ROOT / path).exists() else text

    return LINK.sub(keep_or_drop, markdown)


# `name (type, *optional*, defaults to 1): ...`, and the type of what is returned
ARGUMENT = re.compile(r"^(\s+[\w*, ]+ \()(.+?)(\):)(?=\s)", re.MULTILINE)
RETURNED = re.compile(r"(\n\s*Returns:\n\s+)([^\n]+?)(: )")


class LinkedNames(griffe.Extension):
    """Turns the references of docstrings in the style of transformers into links, and their types into plain text."""

    def __init__(self):
        tree = ast.parse((ROOT / "seed_hf" / "__init__.py").read_text(encoding="utf-8"))
        names = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
        self.public = ast.literal_eval(names[0])

    def on_object(self, *, obj: griffe.Object, **_):
        """Changes the docstring of one object."""
        if obj.docstring is not None:
            text = obj.docstring.value
            for pattern in (ARGUMENT, RETURNED):
                text = pattern.sub(lambda match: match[1] + _plain_type(match[2]) + match[3], text)
            obj.docstring.value = re.sub(r"\[`~?([\w.]+)`\]", self._link, text)

    def _link(self, match: re.Match) -> str:
        name = match[1].rpartition(".")[2]
        return f"[`{name}`][seed_hf.{name}]" if name in self.public else f"`{name}`"


def _plain_type(text: str) -> str:
    """The type is shown as code already; a default with a colon would end it."""
    what, _, default = re.sub(r"\[`~?([\w.]+)`\]", r"\1", text).partition(", defaults to ")
    kept = what if not default or ":" in default else f"{what}, defaults to {default}"
    return kept.replace("`", "").replace("*optional*", "optional")
