"""The unpacked content of one file in hand: small ones in memory, large ones in scratch.

Whatever its size, a file is written at most once and read in blocks, so memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: Below this a file stays in memory. A window of files in hand is a few hundred.
_IN_MEMORY = 512 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of `size`, in `data` or at `path`."""

    size: int
    data: bytes | None = None
    path: Path | None = None

    def blocks(self, size: int, *, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset` on, in blocks of `size`."""
        if self.data is not None:
            for start in range(offset, len(self.data), size):
                yield self.data[start : start + size]
            return
        assert self.path is not None
        with self.path.open("rb") as file:
            file.seek(offset)
            while block := file.read(size):
                yield block

    def tail(self, size: int) -> bytes:
        """The last `size` bytes, or all where there are fewer."""
        return b"".join(self.blocks(size, offset=max(0, self.size - size)))

    def discard(self) -> None:
        """Remove it from scratch."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class ContentWriter:
    """Takes a file's unpacked bytes and moves from memory to `path` when they become many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks: list[bytes] = []
        self._size = 0
        self._file: BinaryIO | None = None

    def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._file is not None:
            self._file.write(chunk)
            return
        self._chunks.append(chunk)
        if self._size > _IN_MEMORY:
            self._file = self._path.open("wb")
            self._file.writelines(self._chunks)
            self._chunks = []

    def finish(self) -> Content:
        if self._file is None:
            return Content(self._size, data=b"".join(self._chunks))
        self._file.close()
        return Content(self._size, path=self._path)

    def abandon(self) -> None:
        """Drop what was written."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
