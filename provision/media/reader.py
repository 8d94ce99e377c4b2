"""Reading a medium through its plan: at any offset, as a whole file, or as a digest."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from provision.errors import Invalid, Unavailable
from provision.media.layout import Progress
from provision.media.plan import Plan

CHUNK = 1024 * 1024


class Reader:
    """An open medium. Safe to share between threads: every read names its own offset.

    Reads go through `os.pread`, never a memory map: a file cut short under a map would kill the process (SIGBUS).
    Raises Unavailable, naming the file, whenever the base has gone or is not what the plan was made for.
    """

    def __init__(self, plan: Plan) -> None:
        self._fd = -1
        self.plan = plan
        try:
            self._fd = os.open(plan.base, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _broken(plan, f"cannot be opened ({error.strerror})") from None
        self._check_size()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the base file; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _check_size(self) -> None:
        size = os.fstat(self._fd).st_size
        if size != self.plan.size:
            raise _broken(self.plan, f"has {size} bytes instead of {self.plan.size}")

    def pread(self, offset: int, length: int) -> bytes:
        """The medium's bytes from `offset` on: `length` of them, or fewer only where the medium ends."""
        length = max(0, min(length, self.plan.size - offset))
        return self.plan.overlay(offset, self._base(offset, length))

    def chunks(self, start: int = 0, stop: int | None = None, size: int = CHUNK) -> Iterator[bytes]:
        """The bytes from `start` up to `stop` (default: the end), `size` at a time."""
        end = self.plan.size if stop is None else min(stop, self.plan.size)
        for offset in range(start, end, size):
            yield self.pread(offset, min(size, end - offset))

    def digest(self) -> str:
        """The hex SHA-256 of the whole medium, computed now."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def write_to(self, path: Path, progress: Progress = lambda stage, done: None) -> None:
        """Write the medium to a new file at `path`, mode 0600, with the holes of the base kept as holes.

        The file appears complete or not at all: it is written without a name where the file system can do that,
        else beside the target, then made durable, then renamed. Raises Invalid when `path` is something other than
        a regular file (a device must be written by a tool that knows about devices), Unavailable when the
        disk is full or the directory cannot be written.
        """
        if path.exists() and not path.is_file():
            raise Invalid(str(path), "is not a regular file", "name a new file, and copy that to the device with 'dd'")
        try:
            with replacing(path) as fd:
                self._copy(fd, progress)
        except OSError as error:
            fact = f"could not be written ({error.strerror})"
            raise Unavailable(str(path), fact, "make room there, or name another place") from None

    def _copy(self, target: int, progress: Progress) -> None:
        size = self.plan.size
        os.ftruncate(target, size)
        for start, stop in _data_extents(self._fd, size):
            for offset in range(start, stop, CHUNK):
                _write(target, self._base(offset, min(CHUNK, stop - offset)), offset)
                progress("writing", offset / size)
        # A patch may lie in a hole of the base, so patches are written on their own, after the data.
        for patch in self.plan.patches:
            _write(target, patch.data, patch.offset)
        # What a cut-off base lacks looks like a hole at its end.
        self._check_size()
        progress("writing", 1.0)

    def _base(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            try:
                part = os.pread(self._fd, length, offset)
            except OSError as error:
                raise _broken(self.plan, f"cannot be read ({error.strerror})") from None
            if not part:
                raise _broken(self.plan, f"ends at byte {offset} instead of {self.plan.size}")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _broken(plan: Plan, fact: str) -> Unavailable:
    return Unavailable(str(plan.base), fact, "import the base image again")


def _data_extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The (start, stop) ranges of the file that are not holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        offset = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        yield start, offset


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """A descriptor for the new content of `path`, which takes its place when the block ends without an error.

    The file has no name meanwhile where the file system can do that. What kill -9 left of an earlier one is deleted.
    """
    directory = path.absolute().parent
    _sweep(directory, path.name)
    beside = directory / f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}"
    nameless = True
    try:
        # Nothing is left behind even by kill -9.
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        nameless = False
        fd = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
        os.fsync(fd)
        if nameless:
            _name(fd, beside)
        beside.replace(path)
        sync_directory(directory)
    finally:
        os.close(fd)
        with suppress(FileNotFoundError):
            beside.unlink()


def _sweep(directory: Path, name: str) -> None:
    """Delete unfinished files for `name` whose writers are gone: the kernel let go of their locks."""
    unfinished = re.compile(rf"\.{re.escape(name)}\.[0-9]+-[0-9a-f]{{8}}")
    for path in [path for path in directory.iterdir() if unfinished.fullmatch(path.name)]:
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)


def _name(fd: int, path: Path) -> None:
    """Give a file without a name its first one (open(2), O_TMPFILE)."""
    links = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Without a directory descriptor Python calls link(2), which does not follow.
        os.link(str(fd), path, src_dir_fd=links, follow_symlinks=True)
    finally:
        os.close(links)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
