"""Which split a name means: the names of files, and those in a column or a caption file."""

import re
from collections.abc import Collection, Sequence
from pathlib import PurePath


# the words that `datasets` goes by in file names, too
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words}


def known_split(word: str) -> str | None:
    """Names the split that a word such as `"train2017"` or `"val"` means.

    Args:
        word (`str`): Without punctuation.

    Returns:
        `str`: `"train"`, `"validation"`, `"test"`, or `None` for any other word.
    """
    return _SPLITS.get(word.lower().rstrip("0123456789"))


def split_words(split: str) -> list[str]:
    """Lists the names that a split goes by.

    Args:
        split (`str`): Name of the split.

    Returns:
        `list[str]`: the name itself, then its synonyms.
    """
    return list(dict.fromkeys([split, *_WORDS.get(_SPLITS.get(split, ""), ())]))


def match_split(split: str, names: Collection[str]) -> set[str]:
    """Picks the names that mean a split.

    Args:
        split (`str`): Split that is asked for.
        names (`Collection[str]`): Names of the splits that there are.

    Returns:
        `set[str]`: the split itself where it is among them; otherwise its synonyms, with or without a year.
    """
    if split in names:
        return {split}
    # a split that is asked for with its year is no other year's
    return {name for name in names if known_split(name) == _SPLITS.get(split.lower(), "")}


def named_split(path: str, split: str) -> str | None:
    """Finds the split that a path names, the base name before its folders.

    Args:
        path (`str`): Relative to the data set's folder.
        split (`str`): Further word that is a split.

    Returns:
        `str`: the word as it stands there, or `None`.
    """
    for part in reversed(PurePath(path).parts):
        words = re.split(r"[-_.]", part)
        if found := next((word for word in words if word == split or known_split(word)), None):
            return found
    return None


def files_of_split(paths: Sequence[str], split: str, must: bool = True) -> list[str] | None:
    """Picks the files of a split by their names.

    Args:
        paths (`Sequence[str]`): Relative to the data set's folder.
        split (`str`): Name of the split.
        must (`bool`, defaults to `True`): Whether names decide, so that the split must be among them.

    Returns:
        `list[str]`: those of the split, or `None` where no name speaks of any split.

    Raises:
        ValueError: If names speak of other splits only.
    """
    found = {path: named_split(path, split) for path in paths}
    names = set(found.values()) - {None}
    if not names:
        return None
    matching = match_split(split, names)
    if not matching and not must:
        return None
    if not matching:
        raise ValueError(f"`split` is {split!r}; allowed are the splits that files are named after: {sorted(names)}.")
    return [path for path in paths if found[path] in matching]


__all__ = ["files_of_split", "known_split", "match_split", "named_split", "split_words"]
