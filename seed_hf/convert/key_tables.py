"""Key tables: how checkpoints name their weights, and what became of each key."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache

import torch


@cache
def _compile(template: str) -> re.Pattern:
    return re.compile(re.escape(template).replace(r"\#", r"(\d+)").replace(r"\*", "(.*)"))


def translate(name: str, rows: list[tuple[str, str]]) -> str | None:
    r"""
    Translates the name of a weight to the other side of a table.

    Args:
        name (`str`): Name on the left side.
        rows (`list[tuple[str, str]]`): Templates `(left, right)`, in which `#` stands for a number and `*` for
            anything; both sides have the same ones in the same order. The first row that fits counts.

    Returns:
        `str` or `None`: Name on the right side; `None` if no row fits.

    Example:

    ```python
    >>> from seed_hf.convert.key_tables import translate
    >>> translate("blocks.3.norm1.weight", [("blocks.#.norm#.*", "layers.#.layer_norm#.*")])
    'layers.3.layer_norm1.weight'

    ```
    """
    for left, right in rows:
        if match := _compile(left).fullmatch(name):
            values = iter(match.groups())
            return re.sub(r"[#*]", lambda _: next(values), right)  # noqa: B023
    return None


@dataclass
class Layout:
    r"""
    How one family of checkpoints names its weights.

    Args:
        rows (`list[tuple[str, str]]`): Templates (name in the checkpoint, name here); see [`translate`].
        dropped (`list[tuple[str, str]]`): Templates of weights in the checkpoint that SEED has no use for, and why.
        absent (`list[tuple[str, str]]`): Templates of weights here that no such checkpoint holds, and why they may
            start fresh.
        joined (`str`): Ending of the names here that may be made of several weights; all others are made of one.
    """

    rows: list[tuple[str, str]]
    dropped: list[tuple[str, str]] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)
    joined: str = ".self_attn.qkv.bias"


@dataclass
class KeyReport:
    r"""
    What became of every key.

    Args:
        used (`dict[str, list[str]]`): Our name -> the original's names that it is made of.
        dropped (`dict[str, str]`): Original name -> why it is not used.
        fresh (`dict[str, str]`): Our name -> why it starts with new weights.
        unknown (`list[str]`): Original names that no table knows.
        missing (`list[str]`): Our names that nothing in the checkpoint fits.
        mismatched (`list[str]`): Names whose shapes differ, with both shapes.
    """

    used: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def allow(self, unknown: Iterable[str] = (), missing: Iterable[str] = ()):
        """Moves keys that fit one of the patterns (`*` as in file names) to `dropped` and `fresh`."""
        for keys, patterns, target, reason in (
            (self.unknown, unknown, self.dropped, "unknown, allowed by the caller"),
            (self.missing, missing, self.fresh, "missing, allowed by the caller"),
        ):
            allowed = [key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)]
            target.update(dict.fromkeys(allowed, reason))
            keys[:] = [key for key in keys if key not in target]

    def check(self, name: str = "checkpoint"):
        """Raises `ValueError` if a key is left over on either side or has another shape."""
        if self.unknown or self.missing:
            parts = ", ".join(sorted({key.split(".")[0] for key in self.missing}))
            raise ValueError(
                f"`{name}` does not fit the configuration. Unknown keys: {_shorten(self.unknown)}; missing (our "
                f"names): {_shorten(self.missing)}{f', in {parts}' if parts else ''}; allowed: none, unless named in "
                "`allow_unknown` or `allow_missing`."
            )
        if self.mismatched:
            raise ValueError(
                f"`{name}` has tensors of other shapes than the configuration (got != expected): "
                f"{_shorten(self.mismatched)}."
            )


def match_keys(source: dict[str, torch.Tensor], target: dict[str, torch.Tensor], layout: Layout) -> KeyReport:
    r"""
    Finds, for each weight of a model, the weights of a checkpoint that it is made of.

    Args:
        source (`dict[str, torch.Tensor]`): Tensors of the checkpoint by name; only the names are used.
        target (`dict[str, torch.Tensor]`): State dict of the model; only the names are used.
        layout ([`Layout`]): How the checkpoint names its weights.

    Returns:
        [`KeyReport`]: The report, with `mismatched` still empty.
    """
    report = KeyReport()
    reasons = [(_compile(template), reason) for template, reason in layout.dropped]
    for key in source:
        reason = next((reason for pattern, reason in reasons if pattern.fullmatch(key)), None)
        name = translate(key, layout.rows)
        if reason is not None:
            report.dropped[key] = reason
        elif name in target and (name not in report.used or name.endswith(layout.joined)):
            report.used.setdefault(name, []).append(key)
        else:
            report.unknown.append(key)
    for name in target:
        if name not in report.used:
            reason = next((why for template, why in layout.absent if _compile(template).fullmatch(name)), None)
            if reason is None:
                report.missing.append(name)
            else:
                report.fresh[name] = reason
    return report


def check_shapes(report: KeyReport, made: dict[str, torch.Tensor], target: dict[str, torch.Tensor]):
    """Fills `report.mismatched` from the tensors that were made, which may be on the meta device."""
    report.mismatched = [
        f"{name}: {tuple(tensor.shape)} != {tuple(target[name].shape)}"
        for name, tensor in made.items()
        if tensor.shape != target[name].shape
    ]


def _shorten(names: list[str], limit: int = 12) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{names[:limit]}{more}"


__all__ = ["KeyReport", "Layout", "check_shapes", "match_keys", "translate"]
