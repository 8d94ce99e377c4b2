"""Where the keys of a TOML file stand: its parser does not say."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*\[(?P<array>\[)?(?P<name>[^\[\]]+)\]{1,2}\s*(#.*)?")
_ASSIGNED = re.compile(r"""(?P<name>[\w\s.'"-]+)=""")
_KEY = re.compile(r"[\w-]+")


def lines(text: str) -> dict[tuple[str | int, ...], int]:
    """The line of each table and key by its path; what stands inside a value has the line of its key."""
    found: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    last: dict[tuple[str | int, ...], int] = {}
    for number, row in enumerate(text.splitlines(), 1):
        path: tuple[str | int, ...] = ()
        if (header := _HEADER.fullmatch(row)) and (names := _KEY.findall(header["name"])):
            for place, name in enumerate(names, 1):
                path = (*path, name)
                if header["array"] and place == len(names):
                    last[path] = last.get(path, -1) + 1
                path = (*path, last[path]) if path in last else path
            table = path
        elif key := _ASSIGNED.match(row):
            path = (*table, *_KEY.findall(key["name"]))
        for end in range(1, len(path) + 1):
            found.setdefault(path[:end], number)
    return found
