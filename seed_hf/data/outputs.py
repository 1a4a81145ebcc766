"""Folders of codes on this machine, or behind a URL (`s3://`, `hf://`, ...) that `fsspec` knows.

What lies behind a URL is made and checked in a folder of this machine. Each part is sent once it is whole, so that a
kill costs no more than it does without a URL.
"""

import glob
import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from transformers.utils import logging

from .image_identity import file_stamp, version_of
from .reading import is_remote


logger = logging.get_logger(__name__)

_LOOK_SECONDS, _SECONDS_AFTER_ERROR = 1, 30


class NotSentError(OSError):
    """What was made could not be sent, and is kept on this machine."""


class Output:
    """A folder to which a long job writes parts.

    Args:
        output_dir (`str` or `os.PathLike`): Path or URL. What is sent to a URL is made in a folder that lasts as long
            as this object.
    """

    def __init__(self, output_dir: str | os.PathLike):
        output_dir = local_path(output_dir)
        self._remote = _Remote(str(output_dir)) if is_remote(str(output_dir)) else None
        self.folder = Path(tempfile.mkdtemp(prefix="seed-hf-") if self._remote else output_dir)
        self._sent: dict[Path, tuple[int, int]] = {}
        self._removal = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        if self._remote is None:
            self._removal.detach()

    def fetch(self, paths: Iterable[Path]) -> None:
        """Copies files that were sent before.

        Args:
            paths (`Iterable[Path]`): Files of the folder; those that were never sent are left out.
        """
        if self._remote is not None:
            there = self._remote.files()
            found = [path for path in paths if self._name(path) in there]
            self._remote.get({self._name(path): path for path in found})
            self._sent |= {path: file_stamp(str(path)) for path in found}

    def publish(self, path: Path) -> None:
        """Sends a file, or removes it where it is gone here; what has not changed is not sent again.

        Args:
            path (`Path`): File of the folder.
        """
        stamp = file_stamp(str(path))
        if self._remote is not None and self._sent.get(path) != stamp:
            self._remote.put(path, self._name(path))
            self._sent[path] = stamp

    @contextmanager
    def mirrored(self, groups: Iterable[tuple[Path, ...]]) -> Iterator[None]:
        """Sends files while the block runs, each group once its last file is there.

        Args:
            groups (`Iterable[tuple[Path, ...]]`): Files that belong together, such as a list of skipped images and
                the part.

        Raises:
            NotSentError: If something could not be sent.
        """
        if self._remote is None:
            yield
            return
        groups, is_over = list(groups), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(self._send_until, is_over, groups)
            try:
                yield
            finally:
                is_over.set()
                self._finish(sending)

    def _send_until(self, is_over: threading.Event, groups: list[tuple[Path, ...]]) -> None:
        pause, is_last = _LOOK_SECONDS, False
        while not is_last:
            is_last = is_over.wait(pause)
            try:
                self._send(groups)
                pause = _LOOK_SECONDS
            except Exception as error:  # each protocol has its own errors
                if is_last:
                    raise
                pause = _SECONDS_AFTER_ERROR
                logger.warning(f"Not sent to {self._remote.url}, which is tried again in {pause} seconds: {error!r}")
        self._remote.finish(self.folder)

    def _send(self, groups: list[tuple[Path, ...]]) -> None:
        for *before, last in groups:
            if last.exists() and self._sent.get(last) != file_stamp(str(last)):
                for path in (*before, last):
                    self.publish(path)

    def _finish(self, sending) -> None:
        try:
            sending.result()
        except Exception as error:  # each protocol has its own errors
            self._removal.detach()
            raise NotSentError(
                f"Not everything could be sent to {self._remote.url}: {error!r}. It is in {self.folder}."
            ) from error

    def named(self) -> AbstractContextManager[None]:
        """Lets errors of a block name the URL instead of the folder."""
        return nullcontext() if self._remote is None else _named(self.folder, self._remote.url)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@contextmanager
def open_output(output_dir: str | os.PathLike) -> Iterator[Output]:
    """Opens a folder for parts.

    Args:
        output_dir (`str` or `os.PathLike`): Path or URL.

    Returns:
        `Iterator[Output]`: where to make parts, and how to send them. Errors of the block name the URL.

    Example:
        ```python
        >>> from seed_hf.data.outputs import open_output

        >>> with open_output("memory://codes") as output:
        ...     path = output.folder / "a.txt"
        ...     _ = path.write_text("a")
        ...     output.publish(path)
        >>> with open_output("memory://codes") as output:
        ...     output.fetch([output.folder / "a.txt"])
        ...     (output.folder / "a.txt").read_text()
        'a'

        ```
    """
    output = Output(output_dir)
    with output.named():
        yield output


def local_path(folder: str | os.PathLike) -> str | os.PathLike:
    """Turns a `file://` URL into a path.

    Args:
        folder (`str` or `os.PathLike`): Path or URL.

    Returns:
        `str` or `os.PathLike`: the path; other URLs as they are.
    """
    return str(folder).removeprefix("file://") if str(folder).startswith("file://") else folder


@contextmanager
def local_copy(url: str, belongs) -> Iterator[Path]:
    """Copies what lies behind a URL into the cache of `datasets`, once for each version of it.

    Args:
        url (`str`): Folder.
        belongs (`Callable[[str], bool]`): Says which files to copy, from names relative to the folder.

    Returns:
        `Iterator[Path]`: the copy, which stays. Errors name the URL.
    """
    from datasets import config

    remote = _Remote(url)
    files = {name: version for name, version in remote.files().items() if belongs(name)}
    identity = hashlib.sha256(repr((url, sorted(files.items()))).encode()).hexdigest()[:32]
    folder = Path(config.HF_DATASETS_CACHE) / "seed_hf" / identity
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            remote.get({name: Path(temporary) / "files" / name for name in files})
            if files:
                # whoever was faster has copied the same
                _rename_unless_there(Path(temporary) / "files", folder)
    with _named(folder, url):
        yield folder


def _rename_unless_there(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except OSError:
        if not target.is_dir():
            raise


@contextmanager
def _named(folder: Path, url: str) -> Iterator[None]:
    """Lets errors name the URL, which is what people know."""
    try:
        yield
    except NotSentError:
        raise
    except (OSError, ValueError) as error:
        texts = (arg.replace(str(folder), url) if isinstance(arg, str) else arg for arg in error.args)
        error.args = tuple(texts)
        raise


class _Remote:
    """The files of a folder behind a URL, by their name in it."""

    def __init__(self, url: str):
        import fsspec

        self.url = url
        self.filesystem, root = fsspec.url_to_fs(url)
        self.root = root.rstrip("/")
        # on the Hub each file would be a commit, and their number is limited
        self.repository = self.filesystem.resolve_path(root) if url.startswith("hf://") else None
        self._removed: set[str] = set()

    def files(self) -> dict[str, str]:
        """Names and versions of all files, in as few requests as the server lists them in."""
        self.filesystem.invalidate_cache()
        try:
            found = self.filesystem.find(self.root, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path.removeprefix(f"{self.root}/"): f"{info['size']} {version_of(info)}" for path, info in found.items()
        }

    def get(self, paths: dict[str, Path]) -> None:
        """Copies files from there."""
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.get([f"{self.root}/{name}" for name in paths], [str(path) for path in paths.values()])

    def put(self, path: Path, name: str) -> None:
        """Copies a file to there, or removes it there."""
        if self.repository is not None:
            (self._removed.discard if path.exists() else self._removed.add)(name)
            return
        if path.exists():
            self.filesystem.put_file(str(path), f"{self.root}/{name}")
        elif self.filesystem.exists(f"{self.root}/{name}"):
            self.filesystem.rm_file(f"{self.root}/{name}")

    def finish(self, folder: Path) -> None:
        """Sends everything to the Hub, in one commit."""
        if self.repository is not None:
            from huggingface_hub import HfApi

            place = self.repository
            HfApi(endpoint=self.filesystem.endpoint).upload_folder(
                repo_id=place.repo_id,
                repo_type=place.repo_type,
                revision=place.revision,
                path_in_repo=place.path_in_repo or None,
                folder_path=folder,
                delete_patterns=sorted(map(glob.escape, self._removed)),
                ignore_patterns=[".*", "*/.*"],  # locks, and what is not whole
                commit_message="Codes of seed-hf encode",
            )


__all__ = ["NotSentError", "Output", "local_copy", "local_path", "open_output"]
