"""What the commands that read images share: finding their files, and encoding them while skipping broken ones."""

import glob
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm


if TYPE_CHECKING:
    import torch


@dataclass
class Failures:
    """Images that could not be used; each is reported when it is met."""

    count: int = 0

    def add(self, problem: str):
        """Reports one on standard error, above a progress bar."""
        self.count += 1
        tqdm.write(f"skipped: {problem}", file=sys.stderr)

    def finish(self) -> int:
        """Says how many there were, and returns the exit status."""
        if self.count:
            verb = "was" if self.count == 1 else "were"
            print(f"{self.count} could not be read and {verb} skipped", file=sys.stderr)
        return 1 if self.count else 0


def counted(count: int, noun: str) -> str:
    """A number with its noun: `"1 image"`, `"2 images"`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def name_of(file: str | Path) -> str:
    r"""A path as text that can be written: a byte of it that is not UTF-8 becomes `\udce9` or the like."""
    return str(file).encode(errors="backslashreplace").decode()


def find_images(paths: list[str], failures: Failures) -> list[Path]:
    """
    Lists image files.

    Args:
        paths (`list[str]`): Image files, folders with images, globs, or `"-"` for paths on standard input.
        failures ([`Failures`]): Takes what leads to no image.

    Returns:
        `list[Path]`: Files in the order of `paths`, those of a folder or glob by name. A file that was named may be
        missing: that is reported when it is read.
    """
    files = []
    for path in paths:
        names = [line.rstrip("\r\n") for line in sys.stdin] if path == "-" else [path]
        if path == "-" and not any(names):
            failures.add("no path on standard input")
        for name in filter(None, names):
            matches = _images_of(name)
            if not matches:
                failures.add(f"{name!r} matches no file" if glob.has_magic(name) else f"{name!r} has no images")
            files += matches
    return files


def _images_of(name: str) -> list[Path]:
    from ..models.image_formats_seed import IMAGE_SUFFIXES  # the folder of models brings torch

    path = Path(name)
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if glob.has_magic(name) and not path.exists():
        return [file for match in sorted(glob.glob(name, recursive=True)) for file in _images_of(match)]
    return [path]


def encode_files(
    files: list[Path], encode: Callable[[list], "torch.Tensor"], failures: Failures, batch_size: int = 16
) -> Iterator[tuple[list[Path], "torch.Tensor"]]:
    """
    Encodes images in batches.

    Args:
        files (`list[Path]`): Image files.
        encode (`Callable`): Makes codes of a list of PIL images, such as `SeedPipeline.encode_image`.
        failures ([`Failures`]): Takes the files that cannot be read.
        batch_size (`int`, defaults to 16): Number of images at once.

    Returns:
        `Iterator[tuple[list[Path], torch.LongTensor]]`: The files of a batch that could be read, and their codes.
    """
    from ..models.image_processing_seed import load_rgb_image

    if batch_size < 1:
        raise ValueError(f"`--batch-size` is {batch_size}; allowed: 1 or more.")
    with tqdm(total=len(files), unit="image", disable=None) as bar:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            images = []
            for file in batch:
                try:
                    images.append((file, load_rgb_image(file, name=str(file))))
                except ValueError as error:
                    failures.add(f"{file}: {reason_of(error)}")
            if images:
                yield [file for file, _ in images], encode([image for _, image in images])
            bar.update(len(batch))


def reason_of(error: ValueError) -> str:
    """
    Says why an image could not be read, without its name.

    Args:
        error (`ValueError`): What reading it raised.

    Returns:
        `str`: The reason.
    """
    cause = error.__cause__ or error
    return "there is no such file or folder" if isinstance(cause, FileNotFoundError) else str(cause)


def read_codes(path: Path) -> tuple[list[str], "torch.Tensor"]:
    """
    Reads codes with the names of their images.

    Args:
        path (`Path`): A .jsonl or .parquet file of `seed-hf tokenize`, or the folder of `seed-hf encode` with all its
            splits.

    Returns:
        `tuple[list[str], torch.LongTensor]`: Names of images, which are paths or keys, and their codes.

    Raises:
        ValueError: There are no such codes.
    """
    import torch

    try:
        rows = _rows_of_folder(path) if path.is_dir() else _rows_of_file(path)
        names = [name_of(row["file"] if "file" in row else row["key"]) for row in rows]
        return names, torch.tensor([row["codes"] for row in rows], dtype=torch.long)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as codes ({error}); allowed: a .jsonl or .parquet file that `seed-hf "
            "tokenize` wrote, or a folder that `seed-hf encode` wrote."
        ) from error


def _rows_of_file(file: Path) -> list[dict]:
    if file.suffix != ".parquet":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    from pyarrow import parquet  # an extra brings it

    columns = [name for name in ("file", "key", "codes") if name in parquet.read_schema(file).names]
    return parquet.read_table(file, columns=columns).to_pylist()


def _rows_of_folder(folder: Path) -> list[dict]:
    from datasets import disable_progress_bars  # an extra brings it

    from ..data.codes import read_codes as read_split

    disable_progress_bars()  # reading takes no time that is worth showing
    splits = sorted(path.stem.removeprefix("encoding-") for path in folder.glob("encoding-*.json"))
    return [row for split in splits for row in read_split(folder, split).select_columns(["key", "codes"])]


def has_codes(path: str) -> bool:
    """Says whether a path names codes and no images: a file by its ending, or a folder of `seed-hf encode`."""
    return Path(path).suffix in (".jsonl", ".parquet") or any(Path(path).glob("encoding-*.json"))
