"""Tables of text as spreadsheets, databases and scripts write them: every encoding, every way to quote."""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


_BYTE_ORDER_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"))
_BYTE_ORDER_MARKS += ((b"\xfe\xff", "utf-16"),)


def open_text(file: Path) -> TextIO:
    """Opens a text file, whatever byte order mark it starts with.

    Args:
        file (`Path`): UTF-8, or UTF-16 or UTF-32 with a mark.

    Returns:
        `TextIO`: with line ends as they are. Bytes that are not UTF-8 become lone surrogates, so that they cost
        the row that holds them and not the file.
    """
    with file.open("rb") as start:
        mark = start.read(4)
    encoding = next((name for bom, name in _BYTE_ORDER_MARKS if mark.startswith(bom)), "utf-8-sig")
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    return file.open(encoding=encoding, errors=errors, newline="")


def is_utf8(text: str) -> bool:
    """Says whether text can be written: lone surrogates cannot.

    Args:
        text (`str`): Any.

    Returns:
        `bool`: whether UTF-8 has it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_table(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    r"""Reads the records of a table.

    Databases quote fields that hold quotes, scripts often do not. So a record is read by the strict rules of CSV, and
    where it breaks them, its first line alone is taken as it stands: a quote that nothing closes costs no other row.

    Args:
        lines (`Iterator[str]`): Lines with their ends.
        delimiter (`str`): `","` or a tab.

    Returns:
        `Iterator[tuple[int, list[str] | str]]`: number of the first line, and the fields, or what is wrong with it.

    Example:
        ```python
        >>> from seed_hf.data.tables import read_table

        >>> list(read_table(iter(['1.png\t"Wow, a pipe\n', "2.png\ta mug\n"]), "\t"))
        [(1, ['1.png', '"Wow, a pipe']), (2, ['2.png', 'a mug'])]

        ```
    """
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.taken, number = [], source.number + 1
        try:
            fields = next(reader)
            # a tab within a field of several lines: quotes that have nothing to do with each other
            if delimiter == "\t" and any("\n" in field and "\t" in field for field in fields):
                raise csv.Error("a quote that nothing closes")
        except StopIteration:
            return
        except csv.Error:
            source.give_back(source.taken[1:])
            fields = _read_line(source.taken[0], delimiter)
        if fields:
            yield number, fields


def _read_line(line: str, delimiter: str) -> list[str] | str:
    """Reads one line by itself, in a tab-separated file with its quotes."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, quoting=quoting), [])
    except csv.Error as error:
        return str(error)


class _Lines:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[str]):
        self.lines, self.ahead, self.taken, self.number = lines, deque(), [], 0

    def __iter__(self):
        return self

    def __next__(self) -> str:
        self.taken.append(self.ahead.popleft() if self.ahead else next(self.lines))
        self.number += 1
        return self.taken[-1]

    def give_back(self, lines: list[str]) -> None:
        self.ahead.extendleft(reversed(lines))
        self.number -= len(lines)


__all__ = ["is_utf8", "open_text", "read_table"]
