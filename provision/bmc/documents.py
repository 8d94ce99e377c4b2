"""What is read of a BMC's JSON: every value is checked for its kind, and text is bounded and harmless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
MOST_MEMBERS = 64
"""Members of a collection that are looked at."""


def at(document: Document, *keys: str) -> Any:
    """The value below these keys; None when there is none."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def text(document: Document, *keys: str) -> str:
    """The text there: one line of printable ASCII, 80 characters at most; "" when there is none."""
    found = at(document, *keys)
    if not isinstance(found, str):
        return ""
    return "".join(c if " " <= c <= "~" else "?" for c in found[:80]).strip()


def texts(document: Document, *keys: str) -> tuple[str, ...]:
    """The list of texts there."""
    found = at(document, *keys)
    values = found[:MOST_MEMBERS] if isinstance(found, list) else ()
    return tuple(value[:80] for value in values if isinstance(value, str))


def path(document: Document, *keys: str) -> str:
    """The path of the resource that is referred to there; "" when none is."""
    found = at(document, *keys, "@odata.id")
    return found if isinstance(found, str) else ""


def paths(document: Document, *keys: str) -> tuple[str, ...]:
    """The paths of the resources that are listed there."""
    found = at(document, *keys)
    values = found[:MOST_MEMBERS] if isinstance(found, list) else ()
    return tuple(filter(None, (path(value) for value in values if isinstance(value, Mapping))))
