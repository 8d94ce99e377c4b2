"""The library of base images below a state directory: import, look up, remove, sweep."""

from __future__ import annotations

import builtins
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from provision.below import discard, sync_directory
from provision.errors import Conflict, NotFound, Unavailable
from provision.media.base import BaseImage, load
from provision.media.layout import Progress

if TYPE_CHECKING:
    from provision.media.importing import ImportRequest

__all__ = ["BaseImage", "Library"]

_UNFINISHED = ".import-"


def _silent(stage: str, done: float) -> None:
    pass


class Library:
    """The bases in ``<state>/bases/<id>/``. A base is there whole or not at all, and never changes."""

    def __init__(self, state: Path) -> None:
        self._bases = state / "bases"

    def import_base(self, request: ImportRequest, progress: Progress = _silent) -> BaseImage:
        """Import what the request names, and return the base; the same content again is the same base.

        `progress` hears of the stage and of the part of the whole that is done. When this ends early, by an error
        or by SIGINT, nothing is left; after kill -9 the next import or `sweep` deletes the rest. A base of this
        content that is damaged is replaced. Raises ImportProblems (Invalid) with all that is wrong with
        the files, Conflict when the name or the content belongs to another base or an import is running, Unavailable
        when the disk is full or a tool is missing.
        """
        try:
            self._bases.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock() as locked:
                if not locked:
                    raise Conflict("base image", "another import is running", "wait until it has ended")
                self._delete_unfinished()
                work = self._unfinished()
                work.mkdir(mode=0o700)
                try:
                    base = self._import(request, work, progress)
                finally:
                    discard(work)
        except OSError as error:
            fact = f"the import failed ({error.strerror})"
            raise Unavailable(str(self._bases), fact, "make room and look at its permissions") from None
        progress("done", 1.0)
        return base

    def _import(self, request: ImportRequest, work: Path, progress: Progress) -> BaseImage:
        # Imported here: what opens the library seldom imports, and this reads every format there is.
        from provision.media.importing import build, prepare

        prepared = prepare(request, work, progress)
        target = self._bases / prepared.ingredients.id
        existing = self._intact(target)
        self._check_name(request.name, prepared.ingredients.id, existing)
        if existing is not None:
            return existing
        build(request, prepared, work, progress)
        if target.exists():
            target.rename(self._unfinished())
        work.rename(target)
        sync_directory(self._bases)
        self._delete_unfinished()
        return load(target)

    def _intact(self, directory: Path) -> BaseImage | None:
        try:
            base = load(directory)
            base.verify()
        except Unavailable:
            return None
        return base

    def _check_name(self, name: str, id_: str, existing: BaseImage | None) -> None:
        if existing is not None and existing.name != name:
            remedy = f"use that name, or remove '{existing.name}' first"
            raise Conflict(name, f"this content is already imported as '{existing.name}'", remedy)
        if any(base.name == name and base.id != id_ for base in self.list()):
            raise Conflict(
                name, "another base image has this name", "import it under a new name, or remove the old one"
            )

    def get(self, base_id: str) -> BaseImage:
        """The base of that id, its files checked cheaply (there, size, time).

        Raises NotFound, or Unavailable in one line when a file is missing or not what was imported.
        """
        directory = self._directory(base_id)
        base = load(directory)
        base.check()
        return base

    def verify(self, base_id: str, progress: Progress = _silent) -> BaseImage:
        """The base of that id after `BaseImage.verify`; raises NotFound or Unavailable. Unlike `get` it also takes
        files that a backup brought back without their times."""
        base = load(self._directory(base_id))
        base.verify(progress)
        return base

    def find(self, name: str) -> BaseImage:
        """The base of that name, checked like `get` does; raises NotFound or Unavailable."""
        damaged: Unavailable | None = None
        for directory in self._directories():
            try:
                base = load(directory)
            except Unavailable as error:
                damaged = error
                continue
            if base.name == name:
                base.check()
                return base
        # A base whose record is lost could be the one that is asked for.
        raise damaged or NotFound(name, "no base image has this name", f"import it: 'provision image import {name}'")

    def list(self) -> builtins.list[BaseImage]:
        """All bases with a readable record, by name; their files are not looked at."""
        bases = []
        for directory in self._directories():
            with suppress(Unavailable):
                bases.append(load(directory))
        return sorted(bases, key=lambda base: base.name)

    def remove(self, base_id: str) -> None:
        """Remove the base of that id; who is reading one of its media reads on to the end. Raises NotFound."""
        directory = self._directory(base_id)
        try:
            trash = self._unfinished()
            directory.rename(trash)
            sync_directory(self._bases)
            discard(trash)
        except OSError as error:
            raise Unavailable(str(directory), f"cannot be removed ({error.strerror})") from None

    def sweep(self) -> None:
        """Delete what interrupted imports left behind; called at start. An import that is running is left alone."""
        if not self._bases.is_dir():
            return
        try:
            with self._lock() as locked:
                if locked:
                    self._delete_unfinished()
        except OSError as error:
            raise Unavailable(
                str(self._bases), f"cannot be swept ({error.strerror})", "look at its permissions"
            ) from None

    def _directory(self, base_id: str) -> Path:
        directory = self._bases / base_id
        if not re.fullmatch("[0-9a-f]{64}", base_id) or not directory.is_dir():
            raise NotFound(base_id, "no base image has this id", "list them: 'provision image list'")
        return directory

    def _directories(self) -> Iterator[Path]:
        if self._bases.is_dir():
            yield from sorted(path for path in self._bases.iterdir() if re.fullmatch("[0-9a-f]{64}", path.name))

    def _unfinished(self) -> Path:
        return self._bases / f"{_UNFINISHED}{os.getpid()}-{os.urandom(4).hex()}"

    def _delete_unfinished(self) -> None:
        for path in self._bases.glob(f"{_UNFINISHED}*"):
            discard(path)

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Whether this process is the one that may import; the kernel gives the lock back when a process dies."""
        fd = os.open(self._bases / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)
