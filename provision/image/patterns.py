"""Patterns of paths: `*` and `?` stay within one directory, `**` crosses them, `[...]` is one character,
`{a,b}` is one of several words."""

from __future__ import annotations

import re
from functools import cache

_TOKEN = re.compile(r"\*\*|\*|\?|\[[^]]+\]|\{[^{}]*\}|[^*?\[{]+|[\[{]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_SPECIAL = re.compile(r"[*?\[{]")
_WILD = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression for `fullmatch`."""
    return re.compile("".join(map(_part, _TOKEN.findall(pattern))), re.DOTALL)


def _part(token: str) -> str:
    if token in _WILD:
        return _WILD[token]
    if len(token) > 1 and token[0] == "[":
        return token.replace("[!", "[^")
    if len(token) > 1 and token[0] == "{":
        return f"(?:{'|'.join(map(re.escape, token[1:-1].split(',')))})"
    return re.escape(token)


def alternatives(pattern: str) -> list[str]:
    """The patterns that a pattern stands for, without any `{a,b}`."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    start, end = pattern[: found.start()], pattern[found.end() :]
    return [f"{start}{word}{rest}" for word in found[1].split(",") for rest in alternatives(end)]


def is_plain(pattern: str) -> bool:
    """Whether it matches nothing but itself."""
    return not _SPECIAL.search(pattern)


def stem(pattern: str) -> str:
    """What everything that it matches begins with."""
    found = _SPECIAL.search(pattern)
    return pattern[: found.start()] if found else pattern


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches."""
    return compiled(pattern).fullmatch(text) is not None
