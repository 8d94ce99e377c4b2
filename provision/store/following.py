"""Reads on in the audit log, from one entry to those that were written after it, over all of its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from provision.store import chain, segments
from provision.store.fields import Entry


class Following:
    """The entries of the log at `path` after the entry `after`, in order, each once. One thread uses it at a time.

    It keeps the file open in which it is, so what is renamed or removed meanwhile is read to its end. Entries that are
    kept no longer are left out.
    """

    def __init__(self, path: Path, after: int) -> None:
        self._path, self._after = path, after
        self._file: IO[bytes] | None = None
        self._beyond = 0  # the number of the last file that was read to its end

    def read(self, upto: int, most: int) -> list[Entry]:
        """The next entries, at most `most`, none after the entry `upto`: a later one may be taken back yet. Raises
        OSError."""
        found: list[Entry] = []
        while len(found) < most and self._after < upto:
            file = self._file = self._file or self._begin()
            at, line = file.tell(), _whole(file)
            if not line:
                left = os.fstat(file.fileno()).st_ino != self._path.stat().st_ino
                line = _whole(file)  # once more: to a file that was left before, nothing is added any more
            if not line and left:
                self._leave(file)
                continue
            if not line:
                break
            decoded = chain.decode(line)
            seq = decoded[0]["seq"] if decoded is not None else 0
            if seq > upto:
                _back(file, at)
                break
            if decoded is not None and seq > self._after:
                self._after = seq
                found.append(decoded[0])
        return found

    def _leave(self, file: IO[bytes]) -> None:
        """Go on in the next file, also when the last entry of this one is damaged or gone."""
        inode = os.fstat(file.fileno()).st_ino
        numbers = [first for first, path in segments.older(self._path) if path.stat().st_ino == inode]
        self._beyond = max(self._beyond, *numbers, 0)
        self.close()

    def close(self) -> None:
        """Keep no file open; reading goes on where it was."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> IO[bytes]:
        """The file with the entry after the present one, from its beginning; the oldest when that is gone."""
        older = [(first, path) for first, path in segments.older(self._path) if first > self._beyond]
        places = [path for first, path in older if first <= self._after + 1][-1:] or [path for _, path in older][:1]
        newest = self._path.open("rb")
        line = newest.readline(chain.MAX_LINE + 1)
        decoded = chain.decode(line)
        newest.seek(0)
        if not places or (decoded is not None and decoded[0]["seq"] <= self._after + 1):
            return newest
        newest.close()
        return places[0].open("rb")


def _whole(file: IO[bytes]) -> bytes:
    """The next line of the file; when it is not whole yet, nothing, and the file stays where it is."""
    at, line = file.tell(), file.readline(chain.MAX_LINE + 1)
    if line.endswith(b"\n"):
        return line
    _back(file, at)
    return b""


def _back(file: IO[bytes], at: int) -> None:
    """Go back, and forget what was read: it may be taken back, and replaced by something else."""
    file.seek(0, os.SEEK_END)
    file.seek(at)
