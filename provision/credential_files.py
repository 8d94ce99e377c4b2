"""A directory of credentials to load, laid out as HOST/CREDENTIAL."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from provision.credential import MAX_FILE
from provision.errors import Problem, Problems
from provision.host import Host
from provision.site import Inventory, Site


@dataclass(frozen=True, order=True)
class BulkItem:
    """One file of a directory to load: the host and the credential that it is for."""

    host: str
    name: str
    path: Path


class Misplaced(Problems):
    """What of a directory cannot be loaded; `items` is the rest of it."""

    def __init__(self, problems: Iterable[Problem], items: list[BulkItem]) -> None:
        super().__init__(problems, "credentials")
        self.items = items


def bulk(directory: Path, inventory: Inventory) -> list[BulkItem]:
    """The credentials in a directory laid out as `<directory>/<host>/<credential name>`, sorted.

    Raises Misplaced naming every file that has no place in the inventory; nothing is read.
    """
    hosts = {host.name: host for host in inventory.hosts}
    items: list[BulkItem] = []
    problems: list[Problem] = []
    for entry in _listing(directory, problems):
        if entry.name not in hosts:
            problems.append(Problem(str(entry), 0, "", "no host of this name is in the inventory", "rename or move it"))
            continue
        if entry.is_symlink() or not entry.is_dir():
            problems.append(Problem(str(entry), 0, "", "is not a directory", "put files into HOST/CREDENTIAL"))
            continue
        for file in _listing(entry, problems):
            fact = _misfit(file, hosts[entry.name], inventory.site)
            if fact:
                problems.append(Problem(str(file), 0, "", fact, "correct it, or the inventory"))
                continue
            items.append(BulkItem(entry.name, file.name, file))
    if not items and not problems:
        problems.append(Problem(str(directory), 0, "", "holds no credential", "put files into HOST/CREDENTIAL"))
    if problems:
        raise Misplaced(problems, sorted(items))
    return sorted(items)


def _listing(directory: Path, problems: list[Problem]) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        problems.append(Problem(str(directory), 0, "", f"cannot be read ({error.strerror})", "check path and mode"))
        return []


def _misfit(file: Path, host: Host, site: Site) -> str:
    """Why a file is not a credential of the host; "" when it is one."""
    if file.name not in site.credentials:
        return "the site declares no credential of this name"
    if file.name not in host.credentials:
        return f"{host.name} does not name this credential"
    try:
        status = file.lstat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size > MAX_FILE:
        return f"has {status.st_size} bytes, more than {MAX_FILE}"
    return "" if status.st_size else "is empty"
