"""A disk with two slots, as the host's program for them keeps it, without a disk."""

from __future__ import annotations

import json
from pathlib import Path

OLD = "0a" * 32
"""The image that it leaves the factory with."""


class Disk:
    """The slots of a disk, as `slots` keeps them; slot A runs, from the factory."""

    def __init__(self) -> None:
        self.running, self.default = "a", "a"
        self.trying: str | None = None
        self.failed: str | None = None
        self.tries = 0
        self.versions: dict[str, str | None] = {"a": OLD, "b": None}
        self.content: dict[str, tuple[bytes, ...]] = {}
        self.done: list[str] = []

    def __call__(self, *arguments: str) -> str:
        word, *rest = arguments
        self.done.append(word)
        there = {"a": "b", "b": "a"}.get(self.running, "")
        if word == "running":
            return self.running
        if word == "state":
            names = ("running", "default", "trying", "tries", "failed", "versions")
            return json.dumps({name: getattr(self, name) for name in names})
        if word == "write":
            *paths, version = rest
            self.trying = self.failed = None
            self.versions[there] = version
            self.content[there] = tuple(Path(path).read_bytes() for path in paths)
        if word == "try":
            self.trying, self.tries, self.failed = there, 1, None
        if word == "commit":
            self.default, self.trying = self.running, None
        return ""

    def starts(self) -> None:
        """The machine starts: the slot on trial, or the default one when that has been tried."""
        if self.trying and self.tries:
            self.running, self.tries = self.trying, 0
        elif self.trying:
            self.failed, self.trying, self.running = self.trying, None, self.default
