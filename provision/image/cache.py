"""A directory of files that are known by what they are made of: made once, found again, resumed after a break."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provision.below import discard
from provision.errors import Unavailable


def user_cache() -> Path:
    """Where this user's cached files of the project are: `provision` in $XDG_CACHE_HOME, else in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provision"


def digest(*parts: Any) -> str:
    """SHA-256 over anything that JSON can hold, as 64 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def on_disk(place: Path) -> Iterator[None]:
    """Turn what the disk does not take, there or below, into Unavailable, which says where and why."""
    try:
        yield
    except OSError as error:
        fact = f"cannot be read or written ({error.strerror or type(error).__name__})"
        raise Unavailable(str(error.filename or place), fact, "make room and look at its permissions") from None


class Cache:
    """A cache directory, shared safely by several processes: a file or directory in it is complete or not there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for other builds in the same cache; what broken ones left behind is deleted."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in (*self.directory.glob("new-*"), *self.directory.glob("*/new-*")):
                discard(left)
            yield

    def made(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The file (or directory) of that kind and key; `make` writes it to a path when it is not there.

        `kind` is a directory of the cache. A break or an error in `make` leaves nothing.
        """
        if (found := self.find(kind, key)) is not None:
            return found
        final = self.directory / kind / key
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="new-", dir=final.parent) as temporary:
            made = Path(temporary) / key
            make(made)
            made.rename(final)
        return final

    def find(self, kind: str, key: str) -> Path | None:
        """The file (or directory) of that kind and key; None when it is not there. Nobody has to wait for that."""
        final = self.directory / kind / key
        try:
            # The time says when it was last of use.
            os.utime(final)
        except FileNotFoundError:
            return None
        return final

    def text(self, kind: str, key: str, make: Callable[[], str]) -> str:
        """The same for a text that `make` returns."""
        return self.made(kind, key, lambda path: _write(path, make())).read_text()

    def prune(self, kind: str, keep: int) -> None:
        """Forget all of a kind but the `keep` that were of use last."""
        found = [path for path in (self.directory / kind).glob("*") if not path.name.startswith("new-")]
        for old in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
            discard(old)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
