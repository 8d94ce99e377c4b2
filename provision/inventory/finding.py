"""What a rule objects to."""

from __future__ import annotations

from typing import NamedTuple

from provision.document import Path


class Finding(NamedTuple):
    """One objection: the path from the inventory's root ("hosts", NAME, ...), what is so, and the way out."""

    path: Path
    fact: str
    remedy: str = ""
