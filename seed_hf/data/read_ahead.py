"""Pieces of a shard behind a URL: few requests where they are read in order, no byte too many where they are not."""

import threading
from collections.abc import Callable


_FIRST_BYTES, _MAX_BYTES = 2**18, 2**22
# Between the images of a shard lie captions and headers.
_MAX_GAP = 2**18


class ReadAhead(threading.local):
    """Reads pieces of files; from the second piece in order on it reads ever more of what follows.

    It never goes back: a piece before the last one is read anew, as somebody does who starts from the beginning
    because the file was replaced. Each thread has one of its own.

    Args:
        read (`Callable[[str, int, int], bytes]`): Reads a file from a first byte to another, which may lie behind its
            end.
    """

    def __init__(self, read: Callable[[str, int, int], bytes]):
        self._read = read
        self._path, self._start, self._data, self._end, self._ahead = "", 0, b"", 0, 0

    def piece(self, path: str, offset: int, size: int) -> bytes:
        """Reads a piece.

        Args:
            path (`str`): URL.
            offset (`int`): First byte.
            size (`int`): Number of bytes.

        Returns:
            `bytes`: the piece, shorter where the file ends in it.
        """
        follows = path == self._path and 0 <= offset - self._end <= _MAX_GAP
        if not follows or offset + size > self._start + len(self._data):
            self._ahead = min(max(2 * self._ahead, _FIRST_BYTES), _MAX_BYTES) if follows else 0
            self._data = self._read(path, offset, offset + max(size, self._ahead))
            self._path, self._start = path, offset
        self._end = offset + size
        return self._data[offset - self._start :][:size]


__all__ = ["ReadAhead"]
