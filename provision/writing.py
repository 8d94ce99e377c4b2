"""Writing a file: it appears under its name whole or not at all, and takes no other kind of file's place."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from provision.below import discard, remove, sync_directory
from provision.errors import Conflict, Invalid, Unavailable


def require_file(path: Path) -> None:
    """Refuse a `path` whose place a new file must not take: Conflict for a directory, Invalid for other than a file.

    A device would be renamed over: its node would hold the secrets, and the stick would stay empty.
    """
    try:
        # Not followed: a link to a device is not a place either, and the rename would replace the link.
        mode = path.lstat().st_mode
    except OSError:
        return  # there is nothing yet; whether there can be, the writing says
    if stat.S_ISDIR(mode):
        raise Conflict(str(path), "is a directory", "name a file")
    if not stat.S_ISREG(mode):
        raise Invalid(
            str(path), "is not a regular file", f"write to a file, then 'dd if=FILE of={path} bs=4M conv=fsync'"
        )


def unwritable(path: Path | str, error: OSError) -> Unavailable:
    """The system's no to writing there, as an error with a way out."""
    remedy = "give a shorter path" if error.errno == errno.ENAMETOOLONG else "check directory and free space"
    return Unavailable(str(path), f"cannot be written ({error.strerror})", remedy)


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """A descriptor for the new content of `path`, which takes its place when the block ends without an error.

    The file (0600) has no name meanwhile where the file system can do that. What kill -9 left of an earlier one is
    deleted. Raises what `require_file` does, before anything is written.
    """
    require_file(path)
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


@contextmanager
def continuing(path: Path, key: str) -> Iterator[int]:
    """As `replacing`, but what was written stays beside `path` when the block ends too early, and the next block with
    the same `key`, which is a file name's part, gets it again: up to its size all of it had been written.

    What stays for other keys is deleted. So is this when the block ends with Conflict or Invalid: it was no good. The
    file is 0600. Raises what `require_file` does, Conflict while another process writes it, and Invalid for one that
    somebody else could have written.
    """
    require_file(path)
    directory = path.absolute().parent
    beside = directory / f".{path.name}.{key}.part"
    for other in directory.glob(f".{glob.escape(path.name)}.*.part"):
        if other.name != beside.name:
            discard(other)
    fd = os.open(beside, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        _require_own(fd, beside)
        try:
            yield fd
        except (Conflict, Invalid):
            discard(beside)
            raise
        os.fsync(fd)
        beside.replace(path)
        sync_directory(directory)
    finally:
        os.close(fd)


def _require_own(fd: int, path: Path) -> None:
    """Lock a file that only this user can have written; raises Invalid for any other, Conflict when it is locked."""
    status = os.fstat(fd)
    private = status.st_uid == os.geteuid() and status.st_mode & 0o077 == 0 and status.st_nlink == 1
    if not (stat.S_ISREG(status.st_mode) and private):
        raise Invalid(str(path), "is not a file that you alone can write", "delete it")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(str(path), "another process writes it", "wait for it, or end it") from None


def write(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file, of that mode less the umask, as a whole. Raises OSError, and then the old one is still there.

    One writer at a time: what a killed one left is overwritten by the next. Without `durable` a crash of the machine
    may lose both.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        create(new, content, mode=mode, durable=durable)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def create(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Make a file, of that mode less the umask, that is not there yet.

    Raises FileExistsError when it is; any other OSError leaves no file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """A new directory that gets the name `path` when the block ends without an error; swept as files are."""
    directory = path.absolute().parent
    directory.mkdir(parents=True, exist_ok=True)
    _sweep(directory, path.name)
    beside = directory / f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}"
    beside.mkdir()
    try:
        fd = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield beside
            beside.rename(path)
        finally:
            os.close(fd)
    finally:
        discard(beside)


def _sweep(directory: Path, name: str) -> None:
    """Delete what is unfinished for `name` and whose writers are gone: the kernel let go of their locks."""
    unfinished = re.compile(rf"\.{re.escape(name)}\.[0-9]+-[0-9a-f]{{8}}")
    for path in [path for path in directory.iterdir() if unfinished.fullmatch(path.name)]:
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(directory, path.name)
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
