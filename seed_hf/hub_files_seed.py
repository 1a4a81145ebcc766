"""Which files of a folder make up a repository on the Hub, and which must not leave the machine."""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub.utils import filter_repo_objects
from safetensors import SafetensorError, safe_open


# names, or paths where there is a slash
SHARED_FILES = (
    "README.md", "LICENSE*", "NOTICE*", ".gitattributes", "assets/*.png", "assets/*.jpg", "assets/*.webp",
    "assets/*.svg", "evaluation/*.json", ".eval_results/*.yaml",
)  # fmt: skip
MODEL_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "model_index.json", "scheduler_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "*.model", "chat_template.jinja", "additional_chat_templates/*.jinja",
    "conversion.json", "*.py",
)  # fmt: skip
CODES_FILES = ("encoding-*.json", "data/*.parquet", "skipped/*.jsonl")
# what version control, the Hub's client and Python leave in a folder; nobody means to publish it
LEFTOVERS = (".git/*", ".cache/*", "__pycache__/*", "*/__pycache__/*", ".DS_Store", "*/.DS_Store")

# what the Hub's own scanner takes for pickles, and archives that may hold some
PICKLES = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt|joblib|dill|npy|npz|h5|msgpack|t7)$", re.IGNORECASE)
TRAINING_STATE = re.compile(
    r"(^|/)((\.incomplete-)?checkpoint-\d+/|(optimizer|rng_state|training_state|trainer_state)[^/]*\.|"
    r"training_args|(scheduler|scaler)\.(pt|bin)$)"
)
OPTIMIZER_TENSOR = re.compile(r"(^|\.)(exp_avg(_sq)?|momentum_buffer)(\.|$)")
SECRET_NAMES = re.compile(r"(^|/)(\.env[^/]*|\.netrc|\.?token|\.git-credentials|id_(rsa|ed25519)|[^/]*\.(pem|key))$")
SECRETS = {
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{30,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})",
    "an OpenAI key": rb"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,}",
}
TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".jinja", ".py", ".txt", ".yaml", "")


def repository_kind(folder: str | os.PathLike) -> str | None:
    r"""
    Says what a folder is.

    Args:
        folder (`str` or `os.PathLike`): As `save_pretrained` or `seed-hf encode` wrote it.

    Returns:
        `str`: `"pipeline"`, `"adapter"`, `"image-tokenizer"`, `"language-model"` or `"codes"`; `None` for a part of a
        repository, such as a processor alone.
    """
    folder = Path(folder)
    if (folder / "model_index.json").is_file():
        return "pipeline"
    if any(folder.glob("encoding-*.json")):
        return "codes"
    if (folder / "adapter_config.json").is_file() and not any(folder.glob("model*.safetensors")):
        return "adapter"
    if not any(folder.glob("model*.safetensors")):
        return None
    is_image_tokenizer = read_json(folder / "config.json").get("model_type") == "seed_image_tokenizer"
    return "image-tokenizer" if is_image_tokenizer else "language-model"


def read_json(path: Path) -> dict:
    """A JSON file of a folder, or an empty dict where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error


def find_repository_files(
    folder: str | os.PathLike, ignore_patterns: Iterable[str] = (), secrets: Iterable[str] = ()
) -> dict[str, Path]:
    r"""
    Lists the files of a folder that make up its repository, or refuses the folder as a whole.

    Nothing is left out silently but what version control and caches leave behind: a weights file that is missing on
    the Hub, or a secret that is there, costs more than an error.

    Args:
        folder (`str` or `os.PathLike`): To publish.
        ignore_patterns (`Iterable[str]`): Paths to leave out, with `*` for anything, such as `"checkpoint-*"`.
        secrets (`Iterable[str]`): Texts that no file may hold, such as the token in use.

    Returns:
        `dict[str, Path]`: File by its path in the repository, sorted.

    Raises:
        ValueError: Pickles, optimizer states, secrets, broken weights, files that are no part of a repository, code
            that is named but missing; or a base model that is a local path. All are named, with the reason.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"`folder` is {str(folder)!r}; allowed: an existing folder.")
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if not path.is_dir()}
    ignored = [pattern for name in ignore_patterns for pattern in (name, f"{name.rstrip('/')}/*")]
    kept = filter_repo_objects(found, ignore_patterns=[*ignored, *LEFTOVERS])
    files = {name: found[name] for name in kept}
    allowed = SHARED_FILES + (CODES_FILES if repository_kind(root) == "codes" else MODEL_FILES)
    reasons = {name: _problem(name, path, root, allowed, list(secrets)) for name, path in files.items()}
    problems = {name: reason for name, reason in reasons.items() if reason is not None}
    code, missing = _code_files(root, {name: path for name, path in files.items() if name not in problems})
    stray = [name for name in files if name.endswith(".py") and name not in code and name not in problems]
    problems |= dict.fromkeys(stray, "code that no configuration here names")
    # a part alone, such as a configuration, names code that comes with the weights
    missing = missing - problems.keys() if repository_kind(root) else set()
    problems |= dict.fromkeys(missing, "is named as code of a class, and missing; `save_pretrained` writes it")
    base = read_json(root / "adapter_config.json").get("base_model_name_or_path")
    if base is not None and not is_hub_id(base):
        problems["adapter_config.json"] = f"names the base model {base!r}, which is no repository on the Hub"
    if problems or not files:
        listed = "\n".join(f"  {name}: {problem}" for name, problem in sorted(problems.items()))
        raise ValueError(
            f"`folder` {str(folder)!r} holds what can not be published:\n{listed or '  nothing at all'}\n"
            "Remove it, or leave it out with `ignore_patterns` (`--ignore`)."
        )
    return files


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a repository (`owner/name`, or an old `name`), and not of a file or folder here."""
    is_well_formed = re.fullmatch(r"(?!.*(--|\.\.))[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?", name, re.ASCII) is not None
    return is_well_formed and not name.endswith((".git", ".json")) and not os.path.exists(name)


def _problem(name: str, path: Path, root: Path, allowed: tuple[str, ...], secrets: list[str]) -> str | None:
    """Why a file must not be sent."""
    if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        return "a link to something outside of the folder"
    if TRAINING_STATE.search(name):
        return "training state"
    if SECRET_NAMES.search(name):
        return "looks like a secret"
    if PICKLES.search(name):
        return "may hold a pickle, which runs code when it is loaded; save as safetensors"
    if not any(fnmatch(name if "/" in pattern else path.name, pattern) for pattern in allowed):
        return "no part of a repository"
    if path.suffix == ".safetensors":
        return _weights_problem(path)
    if _is_pickle(path):
        return "a pickle under another name"
    if path.suffix == ".json" and not _is_json(path):
        return "no valid JSON"
    return _secret_problem(path, secrets) if path.suffix in TEXT_SUFFIXES else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # bad UTF-8 is one too
        return False
    return True


def _weights_problem(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        return f"broken weights ({error})"
    return "training state" if any(OPTIMIZER_TENSOR.search(name) for name in names) else None


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or an archive with one as torch writes it."""
    with path.open("rb") as file:
        start = file.read(2)
    if len(start) == 2 and start[:1] == pickle.PROTO and start[1] <= pickle.HIGHEST_PROTOCOL:
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".pkl") for name in archive.namelist())


def _secret_problem(path: Path, secrets: list[str]) -> str | None:
    content = path.read_bytes()
    if any(secret.encode() in content for secret in secrets):
        return "holds the token in use"
    return next((f"holds {what}" for what, pattern in SECRETS.items() if re.search(pattern, content)), None)


def _code_files(root: Path, files: dict[str, Path]) -> tuple[set[str], set[str]]:
    """Code that configurations name, with what it imports; and what of it is missing."""
    pending = [
        name for path in files if path.endswith(".json") for name in _named_code(root / path, Path(path).parent)
    ]
    code, missing = set(), set()
    while pending:
        name = pending.pop()
        if name in code or name in missing:
            continue
        if name not in files:
            missing.add(name)
            continue
        code.add(name)
        text = files[name].read_text(encoding="utf-8")
        imported = re.findall(r"^\s*from\s+\.(\w+)\s+import", text, flags=re.MULTILINE)
        pending += [(Path(name).parent / f"{module}.py").as_posix() for module in imported]
    # transformers, given the folder of a component as `subfolder`, looks for its code at the top
    return code | {Path(name).name for name in code if Path(name).name in files}, missing


def _named_code(path: Path, folder: Path) -> list[str]:
    """Code files named in an `auto_map` at any level, or in the index of a pipeline."""
    values = read_json(path)
    modules = set()

    def walk(value, is_auto_map=False):
        if isinstance(value, dict):
            for key, part in value.items():
                walk(part, is_auto_map or key == "auto_map")
        elif isinstance(value, list):
            for part in value:
                walk(part, is_auto_map)
        elif is_auto_map and isinstance(value, str) and "--" not in value:
            modules.add(value.rpartition(".")[0])

    walk(values if isinstance(values, dict) else {})
    names = {(folder / f"{module}.py").as_posix() for module in modules if module}
    for part, value in values.items() if path.name == "model_index.json" else ():
        # the names of our own modules; those of diffusers are of packages
        if isinstance(value, list) and len(value) == 2 and re.search(r"_seed(_|$)", value[0] or ""):
            at = folder if part == "_class_name" else folder / part
            names.add((at / f"{value[0]}.py").as_posix())
    return sorted(names)


__all__ = ["find_repository_files", "is_hub_id", "read_json", "repository_kind"]
