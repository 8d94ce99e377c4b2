"""What a rule objects to."""

from __future__ import annotations

from typing import NamedTuple

from provision.document import Path


class Violation(NamedTuple):
    """One objection: the path from the inventory's root ("hosts", NAME, ...), what is so, and the way out.

    `rests_on` has the paths of what the objection takes to be not written (or written in full, when it is a list): it
    is void when that is there and was not readable.
    """

    path: Path
    fact: str
    remedy: str = ""
    rests_on: tuple[Path, ...] = ()
