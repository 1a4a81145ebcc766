"""Decides which files of a folder make up a repository on the Hub, and which must not leave the machine."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub.utils import filter_repo_objects
from safetensors import SafetensorError, safe_open

from .json_files import is_json, read_json
from .kinds import KINDS, repository_kind
from .secrets import find_secret, is_pickle


# patterns of names, or of paths where they have a slash
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
# what version control, the Hub's client and Python leave in a folder, and nobody means to publish
LEFTOVERS = (".git/*", ".cache/*", "__pycache__/*", "*/__pycache__/*", ".DS_Store", "*/.DS_Store")

# what the Hub's own scanner takes for pickles, and archives that may hold pickles
PICKLES = re.compile(r"\.(bin|pt|pth|pkl|pickle|ckpt|joblib|dill|npy|npz|h5|msgpack|t7)$", re.IGNORECASE)
TRAINING_STATE = re.compile(
    r"(^|/)((\.incomplete-)?checkpoint-\d+/|(optimizer|rng_state|training_state|trainer_state)[^/]*\.|"
    r"training_args|(scheduler|scaler)\.(pt|bin)$)"
)
OPTIMIZER_TENSOR = re.compile(r"(^|\.)(exp_avg(_sq)?|momentum_buffer)(\.|$)")
SECRET_NAMES = re.compile(
    r"(^|/)(\.env[^/]*|\.netrc|\.?token|\.git-credentials|\.npmrc|\.pypirc|\.aws/.*|\.ssh/.*|id_(rsa|dsa|ecdsa|ed25519)|"
    r"[^/]*\.(pem|key|p12|pfx|jks|kdbx|ppk|asc))$"
)
# one of several files with the same data or weights
NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.[a-z]+)")
INDEX_SUFFIX = ".safetensors.index.json"


def find_repository_files(
    folder: str | os.PathLike, ignore_patterns: str | Iterable[str] = (), secrets: Iterable[str] = ()
) -> dict[str, Path]:
    r"""
    Lists the files of a folder that make up its repository, or refuses the folder as a whole.

    Nothing is left out silently except what version control and caches leave behind, because weights that are missing
    on the Hub, or a secret that is there, cost more than an error.

    Args:
        folder (`str` or `os.PathLike`): Folder to publish.
        ignore_patterns (`str` or `Iterable[str]`): Paths to leave out, with `*` for anything, such as
            `"checkpoint-*"`.
        secrets (`Iterable[str]`): Texts that no file may hold, such as the token in use.

    Returns:
        `dict[str, Path]`: Files by their path in the repository, sorted.

    Raises:
        ValueError: The folder holds pickles, optimizer states, secrets, broken weights, links to folders or to the
            outside, or files that are no part of a repository; it lacks code, shards, weights or components that it
            names; or its base model is a local path. All are listed, with the reason.
        OSError: A folder in it cannot be read.
    """
    root = Path(folder)
    present = list_files(root)
    names = [ignore_patterns] if isinstance(ignore_patterns, str) else ignore_patterns
    ignored = [pattern for name in names for pattern in (name, f"{name.rstrip('/')}/*")]
    kept = filter_repo_objects(present, ignore_patterns=[*ignored, *LEFTOVERS])
    files = {name: present[name] for name in kept}
    kind = repository_kind(root)
    allowed = SHARED_FILES + (CODES_FILES if kind and KINDS[kind].is_data else MODEL_FILES)
    reasons = {name: _problem(name, path, root, allowed, list(secrets)) for name, path in files.items()}
    problems = {name: reason for name, reason in reasons.items() if reason is not None}
    code, missing = _code_files(root, {name: path for name, path in files.items() if name not in problems})
    stray = [name for name in files if name.endswith(".py") and name not in code and name not in problems]
    problems |= dict.fromkeys(stray, "code that no configuration here names")
    # a part alone, such as a configuration, names code that comes with the weights
    missing = missing - problems.keys() if kind else set()
    problems |= dict.fromkeys(missing, "is named as code of a class, and missing; `save_pretrained` writes it")
    problems = _missing_parts(root, files, problems) | problems
    base = read_json(root / "adapter_config.json").get("base_model_name_or_path")
    if base is not None and not is_hub_id(base):
        problems["adapter_config.json"] = f"names the base model {base!r}, which is no repository on the Hub"
    if problems or not files:
        listed = "\n".join(f"  {name}: {problem}" for name, problem in sorted(problems.items()))
        raise ValueError(
            f"`folder` {str(folder)!r} holds what cannot be published:\n{listed or '  nothing at all'}\n"
            "Remove it, or leave it out with `--ignore` (in Python: `ignore_patterns`)."
        )
    return files


def is_hub_id(name: str) -> bool:
    """Whether a name is an id on the Hub (`owner/name`, or an old `name`), and not that of a local file or folder."""
    is_well_formed = re.fullmatch(r"(?!.*(--|\.\.))[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?", name, re.ASCII) is not None
    return is_well_formed and not name.endswith((".git", ".json")) and not os.path.exists(name)


def _problem(name: str, path: Path, root: Path, allowed: tuple[str, ...], secrets: list[str]) -> str | None:
    """Why a file must not be sent."""
    if path.is_dir():
        return "a link to a folder; put the folder itself there"
    if not path.resolve().is_relative_to(root.resolve()):
        return "a link to something outside of the folder"
    if not path.is_file():
        return "no regular file"
    if TRAINING_STATE.search(name):
        return "training state"
    if SECRET_NAMES.search(name):
        return "looks like a secret"
    if PICKLES.search(name):
        return "may hold a pickle, which runs code when it is loaded; save as safetensors"
    if not any(fnmatch(name if "/" in pattern else path.name, pattern) for pattern in allowed):
        return "no part of a repository"
    if path.suffix == ".safetensors":
        if problem := _weights_problem(path):
            return problem
    # a valid header of safetensors may start as a pickle does
    elif is_pickle(path):
        return "a pickle under another name"
    if path.suffix == ".json" and not is_json(path):
        return "no valid JSON"
    secret = find_secret(path, secrets)
    return f"holds {secret}" if secret else None


def _weights_problem(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        return f"broken weights ({error})"
    return "training state" if any(OPTIMIZER_TENSOR.search(name) for name in names) else None


def list_files(folder: str | os.PathLike) -> dict[str, Path]:
    """
    Lists the files in a folder at any depth. Links to folders are listed, and what is behind them is not.

    Args:
        folder (`str` or `os.PathLike`): Folder to list.

    Returns:
        `dict[str, Path]`: Files by their path in the folder, sorted.

    Raises:
        ValueError: There is no such folder.
        OSError: The folder, or one in it, cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"`folder` is {str(folder)!r}; allowed: an existing folder.")

    def stop(error: OSError):
        raise error

    paths = []
    for folder, folders, names in os.walk(root, onerror=stop):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        paths += [Path(folder, name) for name in (*names, *linked)]
    return {path.relative_to(root).as_posix(): path for path in sorted(paths)}


def _missing_parts(root: Path, files: dict[str, Path], refused: Mapping[str, str]) -> dict[str, str]:
    """What these files need and the repository would lack, by path, with the reason."""
    missing: dict[str, str] = {}
    for name in files.keys() - refused.keys():
        if name.endswith(INDEX_SUFFIX):
            missing |= _missing_shards(name, files, refused)
        elif numbered := NUMBERED.fullmatch(name):
            stem, count, suffix = numbered["stem"], int(numbered["count"]), numbered["suffix"]
            first = 1 if suffix == ".safetensors" else 0
            others = {f"{stem}-{number:05d}-of-{count:05d}{suffix}" for number in range(first, first + count)}
            others |= {f"{stem}{INDEX_SUFFIX}"} if suffix == ".safetensors" else set()
            missing |= dict.fromkeys(others - files.keys(), f"belongs to {name}, and is missing")
        elif (split := re.fullmatch(r"encoding-(.+)\.json", name)) and not _any(files, f"data/{split[1]}-*.parquet"):
            missing[f"data/{split[1]}-*.parquet"] = f"is described in {name}, and missing"
    if repository_kind(root) == "adapter" and not _any(files, "adapter_model*.safetensors"):
        missing["adapter_model.safetensors"] = "belongs to adapter_config.json, and is missing"
    return missing | _missing_components(root, files)


def _missing_shards(name: str, files: dict[str, Path], refused: Mapping[str, str]) -> dict[str, str]:
    """Shards that an index names and that are missing, or that lack weights which it says they have."""
    missing, weights = {}, {}
    weight_map = read_json(files[name]).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        return {name: "no index of weights"}
    for weight, shard in weight_map.items():
        weights.setdefault((Path(name).parent / shard).as_posix(), set()).add(weight)
    for shard, names in weights.items():
        if shard not in files:
            missing[shard] = f"is named in {name}, and missing"
        if shard not in files or shard in refused:
            continue
        with safe_open(files[shard], framework="pt") as file:
            if lost := names - set(file.keys()):
                missing[shard] = f"lacks {len(lost)} weights that {name} says it has"
    return missing


def _missing_components(root: Path, files: dict[str, Path]) -> dict[str, str]:
    """Components that the index of a pipeline names and that are missing or have no weights."""
    missing = {}
    for part, value in read_json(root / "model_index.json").items():
        if not _is_class_name(value) or part.startswith("_"):
            continue
        if not _any(files, f"{part}/*"):
            missing[part] = "is named in model_index.json, and missing"
        # only components with weights have a `config.json`: schedulers, processors and tokenizers use other names
        elif f"{part}/config.json" in files and not _any(files, f"{part}/*.safetensors"):
            missing[part] = "has a configuration and no weights"
    return missing


def _is_class_name(value) -> bool:
    """Whether an entry of a pipeline's index is `[module, class]`; `[null, null]` is a component that it lacks."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(name, str) for name in value)


def _any(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in names)


def _code_files(root: Path, files: dict[str, Path]) -> tuple[set[str], set[str]]:
    """Code that configurations name, with what it imports, and what of it is missing."""
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
        text = files[name].read_text(encoding="utf-8", errors="replace")
        imported = re.findall(r"^\s*from\s+\.(\w+)\s+import", text, flags=re.MULTILINE)
        pending += [(Path(name).parent / f"{module}.py").as_posix() for module in imported]
    # transformers, given the folder of a component as `subfolder`, looks for its code at the top
    return code | {Path(name).name for name in code if Path(name).name in files}, missing


def _named_code(path: Path, folder: Path) -> list[str]:
    """Code files named in an `auto_map` at any level, or in the index of a pipeline."""
    values = json.loads(path.read_text(encoding="utf-8"))
    modules, pending = set(), [(values, False)]
    while pending:
        value, is_auto_map = pending.pop()
        if isinstance(value, dict):
            pending += [(part, is_auto_map or key == "auto_map") for key, part in value.items()]
        elif isinstance(value, list):
            pending += [(part, is_auto_map) for part in value]
        elif is_auto_map and isinstance(value, str) and "--" not in value:
            modules.add(value.rpartition(".")[0])
    names = {(folder / f"{module}.py").as_posix() for module in modules if module}
    is_index = path.name == "model_index.json" and isinstance(values, dict)
    for part, value in values.items() if is_index else ():
        # the names of our own modules; those of diffusers are of packages
        if _is_class_name(value) and re.search(r"_seed(_|$)", value[0]):
            at = folder if part == "_class_name" else folder / part
            names.add((at / f"{value[0]}.py").as_posix())
    return sorted(names)


__all__ = ["find_repository_files", "is_hub_id", "list_files"]
