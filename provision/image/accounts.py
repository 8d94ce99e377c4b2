"""Accounts of the image: passwd(5), group(5) and shadow(5), with no password that anything matches."""

from __future__ import annotations

from collections.abc import Iterator

from provision.image import tree
from provision.image.recipe import Recipe, User
from provision.image.tree import Node

_ROOT = User(id=0, home="/root", shell="/bin/sh")


def files(recipe: Recipe) -> Iterator[Node]:
    """The three files. root is there without being named; every user has a group of the same name and number."""
    users = {"root": _ROOT, **recipe.users}
    groups = {**recipe.groups, **{name: user.id for name, user in users.items()}}
    members = {group: [name for name, user in users.items() if group in user.groups] for group in groups}
    passwd = [f"{name}:x:{u.id}:{u.id}::{u.home}:{u.shell}" for name, u in _by_number(users)]
    group = [f"{name}:x:{number}:{','.join(members[name])}" for name, number in sorted(groups.items(), key=_number)]
    # "*" is the hash of nothing; a "!" before it would also lock out keys.
    shadow = [f"{name}:*:::::::" for name, _ in _by_number(users)]
    yield tree.file("etc/passwd", _text(passwd))
    yield tree.file("etc/group", _text(group))
    yield tree.file("etc/shadow", _text(shadow), 0o600)


def _by_number(users: dict[str, User]) -> list[tuple[str, User]]:
    return sorted(users.items(), key=lambda item: item[1].id)


def _number(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
