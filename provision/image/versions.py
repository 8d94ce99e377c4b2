"""Which versions of its packages a build takes: exactly the lock's, today's, or the lock's as long as they can be had.

A lock says what was reproduced last, and archives forget old versions. Whatever only needs an image that runs takes
OBTAINABLE: it is the shipped lock where its packages are at hand or in the archive, and otherwise a lock of today's
packages, which the cache keeps and which is taken until the shipped lock changes, also with no archive to be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from provision.errors import Unavailable
from provision.image import lock, packages
from provision.image.cache import Cache, digest
from provision.image.lock import Lock
from provision.image.packages import Lists, Package, Progress

Say = Callable[[str], None]
"""Called with a line for the user who waits for the image."""

_KEPT, _NAMED = 8, 3


class Versions(StrEnum):
    """What to do about versions that the archive may have replaced."""

    LOCKED = "locked"
    OBTAINABLE = "obtainable"
    TODAY = "today"


@dataclass(frozen=True)
class Place:
    """Where a build keeps what it fetches, and how it reports."""

    cache: Cache
    progress: Progress
    say: Say

    @property
    def debs(self) -> Path:
        """The directory of packages' files."""
        return self.cache.directory / "packages"


def today(wanted: Sequence[str], place: Place, lists: Lists = ()) -> Lock:
    """What `wanted` comes to by the package lists, which are this machine's unless others are given.

    Raises Unavailable when apt does not know a package.
    """
    place.progress("resolving packages", 0.02)
    pinned = packages.pin(sorted(wanted), place.cache.directory, lists)
    return Lock(tuple(sorted(wanted)), tuple(pinned), lock.tool_versions())


def at_hand(path: Path, wanted: Sequence[str], place: Place) -> Lock | None:
    """What `obtainable` takes when it has nothing to fetch; None when it has. It writes nothing, so it has to wait for
    no other build."""
    given = lock.read(path, wanted)
    if not packages.absent(given.packages, place.debs):
        return given
    gone, kept = _gone(given, place, ()), _kept(given, place)
    if not gone or not kept.exists():
        return None
    known = lock.read(kept, wanted)
    if packages.absent(known.packages, place.debs):
        return None
    place.say(_line(path, given, gone, kept))
    return known


def obtainable(path: Path, wanted: Sequence[str], place: Place) -> Lock:
    """The lock file at `path` as long as its packages can be had, else the lock of today's, said in one line.

    All packages of the lock that is returned have been fetched. Raises Invalid for a file that is not a lock of this
    recipe, and Unavailable when neither can be had.
    """
    if (found := at_hand(path, wanted, place)) is not None:
        return found
    given = lock.read(path, wanted)
    kept = _kept(given, place)
    failure = Unavailable(str(path), "its packages are not available")
    for lists in _lists(place):
        gone = _gone(given, place, lists)
        if not gone and (failed := _fetched(given, place, lists)) is None:
            return given
        known = lock.read(kept, wanted) if kept.exists() else None
        if known is None or packages.absent(known.packages, place.debs):
            try:
                known = today(wanted, place, lists)
            except Unavailable as error:
                failure = error
                continue
            if (failed := _fetched(known, place, lists)) is not None:
                failure = failed
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            lock.write(known, kept)
        place.cache.prune("locks", _KEPT)
        place.say(_line(path, given, gone, kept))
        return known
    raise failure


def _kept(given: Lock, place: Place) -> Path:
    """Where the lock of today's packages is kept that is taken instead."""
    return place.cache.directory / "locks" / f"{digest(given.text())}.json"


def _line(path: Path, given: Lock, gone: Sequence[Package], kept: Path) -> str:
    return f"{_why(path, given, gone)}; taking today's, as locked in {kept}"


def _lists(place: Place) -> Iterator[Lists]:
    """The machine's package lists, which may be older than the archive, then fresh ones."""
    yield ()
    yield packages.fresh_lists(place.cache.directory / "apt")


def _gone(given: Lock, place: Place, lists: Lists) -> list[Package]:
    """The packages that are neither at hand nor offered."""
    missing = packages.absent(given.packages, place.debs)
    offered = packages.listed(missing, lists) if missing else set()
    return [package for package in missing if package not in offered]


def _fetched(given: Lock, place: Place, lists: Lists) -> Unavailable | None:
    """Fetch what is missing; returns why it cannot be had."""
    try:
        packages.fetch_pinned(
            given.packages, place.debs, lambda what, done: place.progress(what, 0.05 + 0.2 * done), lists
        )
    except Unavailable as error:
        return error
    return None


def _why(path: Path, given: Lock, gone: Sequence[Package]) -> str:
    if not gone:
        return f"{path}: not all of its {len(given.packages)} packages can be fetched"
    names = ", ".join(f"{package.name} {package.version}" for package in gone[:_NAMED])
    more = ", ..." if len(gone) > _NAMED else ""
    return f"{path}: {len(gone)} of its {len(given.packages)} versions are gone from the archive ({names}{more})"
