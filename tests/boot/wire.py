"""What was sent to a host, read back from a capture or from a medium's file: the seed's manifest and its secrets."""

from __future__ import annotations

import json
import re
from pathlib import Path

from provision.lab.capture import Capture, flows, frames
from provision.lab.report import File


class Sent:
    """Bytes that went to a host: the raw ones, and every flow of a capture put together again."""

    def __init__(self, *streams: bytes, raw: bytes = b"") -> None:
        self.streams, self.raw = streams, raw

    @classmethod
    def over(cls, capture: Capture) -> Sent:
        """What crossed a LAN; the capture must be complete."""
        data = capture.path.read_bytes()
        return cls(*flows(frames(data)).values(), raw=data)

    @classmethod
    def on(cls, medium: Path) -> Sent:
        """What a medium's file holds."""
        return cls(medium.read_bytes())

    def has(self, needle: bytes) -> bool:
        """Whether `needle` is anywhere in it."""
        assert needle, "an empty needle is everywhere"
        return needle in self.raw or any(needle in stream for stream in self.streams)

    def found(self, needles: dict[str, bytes]) -> set[str]:
        """The names of the needles that are in it."""
        return {name for name, needle in needles.items() if self.has(needle)}

    def manifest(self, host: str) -> tuple[str, dict[str, File]]:
        """The revision of the seed that `host` was sent, and its files by path."""
        pattern = rb'\{"format": 1, "host": "%s", "revision": "[0-9a-f]{64}", "files": \[\n[^\]]*\n\]\}\n'
        # A stream of TFTP packets has their headers, with a zero byte each, in the middle of the text.
        found = {match for match in self._all(pattern % host.encode()) if b"\0" not in match}
        assert len(found) == 1, f"{len(found)} manifests of {host} were sent"
        document = json.loads(found.pop())
        files = {f["path"]: File(f["mode"], f["owner"], f["sha256"]) for f in document["files"]}
        return document["revision"], files

    def phone_home_key(self) -> str:
        """The phone-home key (hex) in the seed that was sent."""
        found = self._all(rb'"phone_home": \{[^}]*"key": "([0-9a-f]{64})"')
        assert len(found) == 1, f"{len(found)} phone-home keys were sent"
        return found.pop().decode()

    def _all(self, pattern: bytes) -> set[bytes]:
        return {match for stream in self.streams for match in re.findall(pattern, stream)}
