"""What is cut out of an inventory because it cannot be read, so that the rules see the rest and say nothing false."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from provision.document import Path
from provision.messages import Complaint

_M = TypeVar("_M", bound=BaseModel)


class Unreadable:
    """The paths of values that are written but not in the models."""

    def __init__(self) -> None:
        self._cut: set[Path] = set()
        self._around: set[Path] = set()
        self._misread: set[Path] = set()
        self._gaps: dict[Path, list[int]] = {}

    def add(self, path: Path) -> None:
        """Note that the value at `path` was cut; an index is that of the list as it is written."""
        if path not in self._cut:
            self._cut.add(path)
            self._around |= {path[:n] for n in range(1, len(path) + 1)}
            if isinstance(path[-1], int):
                self._gaps.setdefault(path[:-1], []).append(path[-1])

    def add_unknown(self, path: Path) -> None:
        """Note that the key at the end of `path` means nothing; any key beside it may be the one that was meant."""
        self.add(path)
        self._misread.add(path[:-1])

    def touch(self, path: Path) -> bool:
        """Whether the value at `path`, a part of it, or what it would be a part of was cut."""
        if path in self._around or path[:-1] in self._misread:
            return True
        return any(path[:n] in self._cut for n in range(1, len(path)))

    def as_written(self, path: Path) -> Path:
        """A path in the models as a path in the files, where lists still have all their elements."""
        written: Path = ()
        for part in path:
            for gap in sorted(self._gaps.get(written, ())):
                if isinstance(part, int) and part >= gap:
                    part += 1
            written = (*written, part)
        return written


def without(
    model: type[_M], data: dict[str, Any], wrong: Iterable[Complaint], stand_ins: Mapping[str, Any]
) -> tuple[_M | None, set[Path]]:
    """The model of `data` (which is changed) without what is wrong in it, and the paths of what was cut for that.

    A single value or element of a list is cut when the rest is valid, else what it stands in; there is no model when
    that is everything. `stand_ins` takes the place of keys without which nothing would be left.
    """
    cuts: set[Path] = set()
    coming = {_smallest(complaint) for complaint in wrong} - {()}
    while True:
        # Backwards, so that the indexes of elements that are still to go stay right.
        for path in sorted(coming, reverse=True):
            _drop(data, path)
        cuts |= coming
        try:
            return model.model_validate({**stand_ins, **data}), cuts
        except ValidationError as error:
            around = {d["loc"][:-1] if d["type"] == "missing" else d["loc"] for d in error.errors()}
        coming = around - cuts
        if not coming or () in coming:
            return None, cuts


def _smallest(complaint: Complaint) -> Path:
    """The unknown key, the element of a list, the value, or what lacks a key."""
    path = complaint.path
    if complaint.kind == "missing":
        path = path[:-1]
    if complaint.kind == "extra_forbidden":
        return path
    indexes = [n for n, part in enumerate(path) if isinstance(part, int)]
    return path[: indexes[-1] + 1] if indexes else path


def _drop(data: dict[str, Any], path: Path) -> None:
    owner: Any = data
    for part in path[:-1]:
        owner = owner[part] if _has(owner, part) else None
    if _has(owner, path[-1]):
        del owner[path[-1]]


def _has(owner: Any, part: str | int) -> bool:
    if isinstance(owner, list):
        return isinstance(part, int) and part < len(owner)
    return isinstance(owner, dict) and part in owner
