"""Long jobs over a data set in parts that any number of processes share, and that a kill leaves whole."""

import json
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..provenance import package_versions


_POLL_SECONDS = 0.5


class PartMaker:
    """Makes the parts of a long job. Its attributes are settings, which travel to every process that takes part.

    Attributes:
        title (`str`): Title of the progress bar.
        unit (`str`): What the progress bar counts.
    """

    title: str = ""
    unit: str = "image"

    def load(self, device: str) -> None:
        """Loads what the work needs, once in each process.

        Args:
            device (`str`): The device of this process, such as `"cuda:3"`.
        """

    def make_parts(self, claims: "Claims", progress: "Progress") -> None:
        """Makes the parts that nobody else has, until all exist; by default one after the other.

        Args:
            claims ([`Claims`]): Gives out the parts.
            progress ([`Progress`]): Progress bar to update meanwhile.
        """
        for part in claims:
            progress.catch_up()
            with write_whole(claims.paths[part]) as temporary:
                self.make(part, temporary, progress)

    def make(self, part: int, path: Path, progress: tqdm) -> None:
        """Makes one part, where [`PartMaker.make_parts`] is not replaced.

        Args:
            part (`int`): Number of the part.
            path (`Path`): File to write, which becomes the part once it is whole.
            progress (`tqdm`): Progress bar to update while the part is made.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither `make` nor `make_parts`.")


class Progress(tqdm):
    """Progress of all processes together.

    Args:
        paths (`Sequence[Path]`): File of each part.
        sizes (`Sequence[int]`): Number that each part adds.
        settings: further arguments of `tqdm`.
    """

    def __init__(self, paths: Sequence[Path], sizes: Sequence[int], **settings):
        self.paths, self.sizes = paths, sizes
        # smoothing=0: the rate and the time left are means since the start, over all processes
        super().__init__(total=sum(sizes), initial=self._finished(), smoothing=0, mininterval=1, **settings)

    def catch_up(self) -> None:
        """Adds what other processes have finished."""
        self.update(max(0, self._finished() - self.n))

    def _finished(self) -> int:
        """Counts what all processes have done, and this one before a kill."""
        return sum(size for path, size in zip(self.paths, self.sizes, strict=True) if path.exists())


def run_parts(maker: PartMaker, paths: Sequence[Path], sizes: Sequence[int], num_processes: int = 1) -> None:
    """Makes the missing parts in processes that share the work, also with other machines.

    Args:
        maker ([`PartMaker`]): Makes a part.
        paths (`Sequence[Path]`): File of each part, in one folder.
        sizes (`Sequence[int]`): Number that each part adds to the progress bar.
        num_processes (`int`, defaults to 1): Number of processes on this machine, dealt to its GPUs.
    """
    job = (maker, paths, sizes, num_processes)
    if num_processes > 1:
        torch.multiprocessing.spawn(_make_parts, job, nprocs=num_processes)
    elif not all(path.exists() for path in paths):
        _make_parts(int(os.environ.get("LOCAL_RANK", 0)), *job)


def _make_parts(index: int, maker: PartMaker, paths: Sequence[Path], sizes: Sequence[int], num_processes: int) -> None:
    """Makes the parts that nobody else has, until there are none."""
    if num_processes > 1:
        # each would else start a thread for every core, and they would wait for each other
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // num_processes)))
    maker.load(f"cuda:{index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu")
    with (
        Progress(paths, sizes, desc=maker.title, unit=maker.unit, disable=index > 0) as progress,
        Claims(paths, start=index * len(paths) // num_processes) as claims,
    ):
        maker.make_parts(claims, progress)
        progress.update(progress.total - progress.n)


class Claims:
    """Gives out the parts whose file does not exist yet, each to one process at a time.

    Any number of processes on any number of machines with a common file system can do this, at any time. A part
    belongs to whoever holds its lock, and the operating system frees the locks of a process that is killed: another
    process, or the same command started again, does those parts anew. Files are written with [`write_whole`].

    Args:
        paths (`Sequence[Path]`): File of each part, in one folder.
        start (`int`, defaults to 0): Number of the part to look at first, so that processes do not queue up.

    Attributes:
        waiting (`deque[int]`): Parts that are not known to be finished, and that this process has not taken.
    """

    def __init__(self, paths: Sequence[Path], start: int = 0):
        self.paths = paths
        self.waiting = deque(range(len(paths)))
        self.waiting.rotate(-start)
        self._held: dict[int, FileLock] = {}

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_) -> None:
        for part in list(self._held):
            self.release(part)
        # whoever still looks at a lock finds all files before it
        if all(path.exists() for path in self.paths):
            shutil.rmtree(_locks_of(self.paths), ignore_errors=True)

    def take(self) -> int | None:
        """Takes a part without waiting for other processes.

        Returns:
            `int` or `None`: its number, or `None` where others have all that is missing.
        """
        for _ in range(len(self.waiting)):
            part = self.waiting.popleft()
            if self.paths[part].exists():
                continue
            lock = _lock(self.paths, part)
            try:
                lock.acquire()
            except Timeout:
                self.waiting.append(part)
                continue
            self._held[part] = lock
            # it may have been finished between the two
            if not self.paths[part].exists():
                return part
            self.release(part)
        return None

    def release(self, part: int) -> None:
        """Gives a part back, once its file exists.

        Args:
            part (`int`): Number of the part.
        """
        self._held.pop(part).release()

    def wait(self) -> bool:
        """Waits a moment if others still have parts, which a kill would free.

        Returns:
            `bool`: whether there may be something to take.
        """
        if self.waiting:
            time.sleep(_POLL_SECONDS)
        return bool(self.waiting)

    def __iter__(self) -> Iterator[int]:
        """Gives one part after the other until all exist; write its file before asking for the next."""
        while (part := self.take()) is not None or self.wait():
            if part is not None:
                yield part
                self.release(part)


def drop_parts(paths: Sequence[Path], looks_good: Callable[[int], bool], is_good: Callable[[int], bool]) -> None:
    """Removes finished parts that are no longer usable, so that [`Claims`] gives them out again.

    Args:
        paths (`Sequence[Path]`): File of each part, in one folder.
        looks_good (`Callable[[int], bool]`): Quick, asked of each finished part.
        is_good (`Callable[[int], bool]`): Asked of the others while nobody else has the part, which it may rewrite.
    """
    suspects = [number for number, path in enumerate(paths) if path.exists() and not looks_good(number)]
    for number in suspects:
        try:
            with _lock(paths, number):
                if paths[number].exists() and not is_good(number):
                    paths[number].unlink()
        except Timeout:
            continue  # whoever has it makes it anew, or asks the same
    if suspects and all(path.exists() for path in paths):
        shutil.rmtree(_locks_of(paths), ignore_errors=True)


def _locks_of(paths: Sequence[Path]) -> Path:
    """Names the locks of this job; other splits in the same folder have their own."""
    return paths[0].parent / f".locks-{paths[0].stem}"


def _lock(paths: Sequence[Path], number: int) -> FileLock:
    locks = _locks_of(paths)
    locks.mkdir(parents=True, exist_ok=True)
    # not bound to a thread: one reads ahead, another writes
    return FileLock(locks / f"{paths[number].name}.lock", blocking=False, thread_local=False)


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to; what is written there becomes the file at the end of the block, all of it or nothing.

    Args:
        path (`Path`): The file; its folder is made. One process at a time.

    Returns:
        `Iterator[Path]`: where to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".incomplete-{path.name}")
    try:
        yield temporary
    except Exception:
        temporary.unlink(missing_ok=True)
        raise
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def check_description(path: Path, description: dict) -> None:
    """Writes what a folder is to hold, or refuses to mix it with something else.

    Args:
        path (`Path`): JSON file.
        description (`dict`): What decides the content; `source` and `image_tokenizer` are only names and may differ.

    Raises:
        ValueError: If the file says something else.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # several processes may come here at once, with the same content; in containers they may have the same number
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        temporary.write_text(json.dumps({**description, "versions": package_versions()}, indent=2))
        os.replace(temporary, path)
    written = read_description(path)
    # older versions did not name the split
    written.setdefault("split", description.get("split"))
    deciding = {name: value for name, value in description.items() if name not in _NAMES_ONLY}
    other = {name: written.get(name) for name, value in deciding.items() if written.get(name) != value}
    if other:
        asked = {name: deciding[name] for name in other}
        raise ValueError(f"`output_dir` {str(path.parent)!r} was made with {other}; allowed: that, not {asked}.")


# They name things; what the things are is hashed.
_NAMES_ONLY = ("source", "image_tokenizer")


def read_description(path: Path) -> dict:
    """Reads what [`check_description`] wrote.

    Args:
        path (`Path`): JSON file.

    Returns:
        `dict`: the description.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        description = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and start the same command again.") from error
    if not isinstance(description, dict):
        raise ValueError(f"{path} is damaged (no JSON object): remove it, and start the same command again.")
    return description


def check_positive(**values: int | None) -> None:
    """Refuses numbers below 1.

    Args:
        values (`int`, *optional*): Numbers by the name of their argument; `None` is allowed.

    Raises:
        ValueError: One of them is 0 or negative.
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}` is {value}; allowed: 1 or more.")


__all__ = ["Claims", "PartMaker", "check_positive", "drop_parts", "run_parts", "write_whole"]
