"""One process at a time works on a state directory: the picture in memory relies on being the only writer's."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from provision.errors import Conflict, Unavailable


class StateLock:
    """An exclusive lock on `<state>/lock`, held from construction until `close()` or the end of the process.

    Raises Conflict when another process holds it, and Unavailable when the directory is missing or not writable.
    """

    def __init__(self, state: Path) -> None:
        path = state / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            remedy = "check owner, mode and file system" if state.is_dir() else "run 'provision init'"
            if isinstance(error, PermissionError):
                remedy = f"be the owner of {state}; if you are, let root 'chown --reference={state} {path}'"
            raise Unavailable(str(path), f"cannot be opened ({error.strerror})", remedy) from None
        # One command of root's, before anything says that it should not, must not lock the directory's owner out.
        with suppress(OSError):
            owner = state.stat()
            os.fchown(self._descriptor, owner.st_uid, owner.st_gid)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            self.close()
            fact = f"another provision process ({holder}) is using this state directory"
            raise Conflict(str(state), fact, "wait for it, or stop it") from None
        # Who holds it is for people only, so a full disk does not refuse the lock.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let the next process in; doing it twice is not an error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> StateLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
