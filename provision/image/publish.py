"""Publishing: whole images side by side in one directory, and `current`, a link to one of them.

Every step is one rename, so that after a break at any moment there is what was before or what is now, and the next
run goes on. Names that begin with a dot are unfinished or about to go.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provision.below import remove, sync_directory
from provision.errors import Conflict, Invalid, NotFound
from provision.image import bom, diff, lock, strip
from provision.image.cache import on_disk

CURRENT = "current"
RECORD = "publication.json"
"""In each published image: its number, the one that was current before, and what is different from that."""
FILES = ("vmlinuz", "initrd", "report.json", "report.html", bom.FILE, lock.FILE, "image.json")
_NEW, _OLD = ".new-", ".old-"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*-[0-9a-f]{12}")
_AGAIN = "build it again"


@dataclass(frozen=True)
class Published:
    """What became of it: the image's directory, the one that was current before, and what went because it was old.

    `changes` counts the differences to the one before; None where there is none, or its report cannot be read.
    """

    directory: Path
    previous: str | None
    changes: int | None
    removed: tuple[str, ...]


def publish(source: Path, root: Path, keep: int) -> Published:
    """Copy the image in `source` to `root`/NAME-VERSION, make it current, and keep only the `keep` newest.

    What is current is never removed. Raises NotFound and Invalid for what is not a whole image, Conflict for other
    bytes of a version that is published, for an image of another kind, and while another run is at work, and
    Unavailable when the disk is full or not writable.
    """
    said = strip.read(source).about
    if not _NAME.fullmatch(name := f"{said['name']}-{said['version']}"):
        raise Invalid(str(source / "image.json"), f"names the image {name}, which is not a valid name", _AGAIN)
    with on_disk(root):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            previous = _current(root)
            _check_kind(root, previous, said)
            changes = _put(source, root, name, said, previous)
            if previous != name:
                _switch(root, name)
            removed = tuple(_prune(root, keep, name))
    return Published(root / name, previous if previous != name else None, changes, removed)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(str(root), "another image is being published", "wait until that has ended") from None
        for left in (*root.glob(f"{_NEW}*"), *root.glob(f"{_OLD}*")):
            _delete(left)
        yield


def _delete(path: Path) -> None:
    remove(path.parent, path.name)


def _current(root: Path) -> str | None:
    """The name of what is current; a link that leads nowhere still says what was."""
    link = root / CURRENT
    if not link.is_symlink():
        if link.exists():
            raise Conflict(str(link), "is not a link", "move it away: it must be a link to one of the images")
        return None
    target = str(link.readlink())
    if not _NAME.fullmatch(target):
        raise Conflict(
            str(link), f"leads to {target}, which is not a published image", "let it lead to one, or delete it"
        )
    return target


def _check_kind(root: Path, previous: str | None, said: Mapping[str, Any]) -> None:
    """Images of one recipe and one platform only are each other's successors."""
    about = _json(root / previous / "image.json") if previous else None
    if about is None:
        return
    kinds = [f"{a.get('name')} for {a.get('platform') or 'all platforms'}" for a in (about, said)]
    if kinds[0] != kinds[1]:
        fact = f"has images of {kinds[0]}, and this is one of {kinds[1]}"
        raise Conflict(str(root), fact, "name another directory with --to")


def _put(source: Path, root: Path, name: str, said: Mapping[str, Any], previous: str | None) -> int | None:
    """Have the image in `root`, whole; returns how much is different from the previous one."""
    target = root / name
    if target.exists() and _is_whole(target):
        if _json(target / "image.json") != said:
            fact = "is published with other bytes: another release of the builder made it"
            raise Conflict(str(target), fact, "move it away, and run this again")
        return _count(_record(root, target, previous)) if previous != name else None
    work = root / f"{_NEW}{name}"
    work.mkdir()
    for file in FILES:
        _copy(source / file, work / file)
    if not _is_whole(work) or _json(work / "image.json") != said:
        raise Conflict(str(source), "was changed while it was copied", "run this again when the build has ended")
    record = _record(root, work, previous if previous != name else None)
    (work / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    _settle(work)
    if target.exists():
        # What is there is damaged, and gives its place to what it was.
        target.rename(root / f"{_OLD}{name}")
    work.rename(target)
    sync_directory(root)
    return _count(record)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise NotFound(str(source), "is missing", "fill the directory with 'provision image build -o'") from None


def _is_whole(directory: Path) -> bool:
    try:
        about = strip.read(directory).about
    except (NotFound, Invalid):
        return False
    bill = _json(directory / bom.FILE) or {}
    same = bill.get("serialNumber") == f"urn:uuid:{bom.serial(about['id'])}"
    return same and all((directory / file).is_file() for file in FILES)


def _record(root: Path, work: Path, previous: str | None) -> dict[str, Any]:
    numbers = [number for number, _ in _published(root)]
    record: dict[str, Any] = {"format": 1, "number": max(numbers, default=0) + 1, "previous": previous}
    if previous is None:
        return record | {"changes": None, "problem": None}
    try:
        changes = [asdict(change) for change in diff.diff(diff.load(root / previous), diff.load(work))]
    except (NotFound, Invalid) as error:
        # A damaged old one does not hold the new one back.
        return record | {"changes": None, "problem": str(error)}
    return record | {"changes": changes, "problem": None}


def _count(record: Mapping[str, Any]) -> int | None:
    changes = record.get("changes")
    return None if changes is None else len(changes)


def _settle(directory: Path) -> None:
    """Readable by all, as nothing in an image is secret, and durable."""
    for path in sorted(directory.iterdir()):
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    directory.chmod(0o755)
    sync_directory(directory)


def _switch(root: Path, name: str) -> None:
    link = root / f"{_NEW}{CURRENT}"
    link.symlink_to(name)
    link.replace(root / CURRENT)
    sync_directory(root)


def _published(root: Path) -> list[tuple[int, Path]]:
    """Number and directory of every published image, the oldest first. What has no record is not ours to remove."""
    found = []
    for path in root.iterdir():
        record = _json(path / RECORD) if _NAME.fullmatch(path.name) else None
        if record is not None and isinstance(number := record.get("number"), int):
            found.append((number, path))
    return sorted(found)


def _prune(root: Path, keep: int, current: str) -> Iterator[str]:
    for _, path in _published(root)[:-keep]:
        if path.name != current:
            old = path.rename(root / f"{_OLD}{path.name}")
            _delete(old)
            yield path.name


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
