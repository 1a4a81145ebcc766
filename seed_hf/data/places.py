"""Where the images of a data set may lie: in its own folder or source, unless its user says otherwise."""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from .reading import is_remote, split_location


OUTSIDE = "outside of the data set"


class Places:
    """The folders and URLs that a data set may read from.

    Args:
        roots (`Sequence[str]`): Folders, or URLs of folders. They may themselves be links.
        allow_outside (`bool`, defaults to `False`): Whether it may read from anywhere.

    Example:
        ```python
        >>> from seed_hf.data.places import Places

        >>> places = Places(["photos", "https://host/set"])
        >>> places.hold("photos/1.jpg"), places.hold("photos/../1.jpg"), places.hold("https://host/set/1.jpg")
        (True, False, True)

        ```
    """

    def __init__(self, roots: Sequence[str], allow_outside: bool = False):
        self.urls = [root.rstrip("/") + "/" for root in roots if is_remote(root)]
        self.folders = [os.path.realpath(root) for root in roots if not is_remote(root)]
        self.real_folders = [*self.folders, *_hub_blobs(self.folders)]
        self.allow_outside = allow_outside

    def hold(self, path: str) -> bool:
        """Says whether a path, with its links followed, or a URL lies in one of the places.

        Args:
            path (`str`): Path or URL; a piece of a shard lies where the shard does.

        Returns:
            `bool`: whether it does, or whether everything may be read.
        """
        if self.allow_outside:
            return True
        path = split_location(path)[0]
        if "\0" in path:
            return False
        if is_remote(path):
            rests = [path.removeprefix(url) for url in self.urls if path.startswith(url)]
            return any(_goes_down(unquote(rest)) for rest in rests)
        folder, name = os.path.split(path)
        # not `abspath`, which takes `link/..` for nothing, where the system follows the link first
        real = os.path.join(_real_folder(os.path.join(os.getcwd(), folder)), name)
        if os.path.islink(real) or name in ("", ".", ".."):
            real = os.path.realpath(real)
        return any(os.path.commonpath([real, folder]) == folder for folder in self.real_folders)

    def check(self, path: str) -> str:
        """Says why a path may not or cannot be read.

        Args:
            path (`str`): Path or URL.

        Returns:
            `str`: the reason, or `""`. A missing file is no reason, since it is reported when it is read. A missing
            shard is one: it would end the job.
        """
        shard = split_location(path)[0]
        if not self.hold(path):
            return f"{OUTSIDE}: {path}; `allow_outside_paths` reads it all the same"
        return f"no such shard: {shard}" if shard != path and not is_remote(path) and not os.path.isfile(shard) else ""

    def find(self, path: str) -> str:
        """Finds the file that a row of a table names.

        Args:
            path (`str`): Path or URL; a relative path starts in the data set, or else in the working directory.

        Returns:
            `str`: the path to read.
        """
        if is_remote(path) or os.path.isabs(path):
            return path
        names = [os.path.join(folder, path) for folder in self.folders] + [os.path.abspath(path)]
        existing = [name for name in names if os.path.isfile(split_location(name)[0])]
        return next((name for name in existing if self.hold(name)), (existing or names)[0])


@lru_cache(maxsize=256)
def _real_folder(folder: str) -> str:
    """Resolves an absolute path of a folder, cached since millions of images lie in few folders."""
    return os.path.realpath(folder)


def _goes_down(rest: str) -> bool:
    """Whether the end of a URL stays below its beginning: no way up, and no chain of further file systems."""
    return "::" not in rest and "://" not in rest and ".." not in re.split(r"[/\\?#]", rest)


def _hub_blobs(folders: Sequence[str]) -> list[str]:
    """Finds the `blobs` that the files of a repository link to in the cache of the Hub."""
    parents = (parent for folder in folders for parent in [Path(folder), *Path(folder).parents])
    return [str(parent.parent.with_name("blobs")) for parent in parents if parent.parent.name == "snapshots"]


__all__ = ["OUTSIDE", "Places"]
