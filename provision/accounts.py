"""The accounts of an image: which number each of its users and groups has. Owners of files are named, and stored by
number (passwd(5), group(5)).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ROOT = "0:0"
_LINE = re.compile(r"([a-z_][a-z0-9_-]{0,31}):[^:]*:(0|[1-9][0-9]{0,8})(:.*)?")


@dataclass(frozen=True)
class Accounts:
    """Numbers by name. Every image has root, whatever it says of its accounts."""

    users: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)

    def owner(self, user: str | None, group: str | None) -> str:
        """ "UID:GID" of a file; None stands for root. Raises KeyError for a name that the image does not have."""
        return f"{_number(self.users, user)}:{_number(self.groups, group)}"

    def unknown(self, user: str | None, group: str | None) -> Iterator[tuple[str, str]]:
        """Each of the two that the image does not have: "user" or "group", and its name."""
        for kind, known, name in (("user", self.users, user), ("group", self.groups, group)):
            if name is not None and name != "root" and name not in known:
                yield kind, name


ROOT_ONLY = Accounts()
"""Those of an image that says nothing of its accounts."""


def read(passwd: bytes, group: bytes) -> Accounts:
    """The accounts that the two files name; of two lines for one name the first counts, as for the C library. Lines
    that are none, and names that no inventory could give, say nothing."""
    return Accounts(_numbers(passwd), _numbers(group))


def _number(known: Mapping[str, int], name: str | None) -> int:
    return 0 if name is None or name == "root" else known[name]


def _numbers(text: bytes) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in text.decode("ascii", errors="replace").split("\n"):
        if match := _LINE.fullmatch(line):
            found.setdefault(match[1], int(match[2]))
    return found
