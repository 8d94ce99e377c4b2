"""What the host's programs for updates stand on: stand-ins for the slots and for the rest of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.slots import parse
from tests.helpers.slotted_disk import Disk
from tests.helpers.update_programs import KEY, PROGRAM, REPORT, Server, Taking


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(REPORT, "slots", found)
    return found


@pytest.fixture
def consoles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(REPORT, "on_consoles", said.append)
    return said


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, consoles: list[str]) -> Iterator[list[str]]:
    """What was run of other programs; no guest runs, and time is not waited for."""
    ran: list[str] = []
    monkeypatch.setattr(PROGRAM, "guests", lambda: 0)
    monkeypatch.setattr(PROGRAM, "ORDERED", tmp_path / "update.keys")
    monkeypatch.setattr(PROGRAM, "SITE_KEYS", tmp_path / "site")
    monkeypatch.setattr(PROGRAM, "WORK", tmp_path)
    monkeypatch.setattr(PROGRAM, "DATA", tmp_path / "data")
    monkeypatch.setattr(PROGRAM, "_TELLING", 0)
    monkeypatch.setattr(PROGRAM.subprocess, "run", lambda command, **_: ran.append(" ".join(command)))
    (tmp_path / "update.keys").write_text(f"{KEY.public_key().public_bytes_raw().hex()}\n")
    yield ran


@pytest.fixture
def take(machine: list[str], tmp_path: Path) -> Taking:
    def taking(server: Server) -> list[str]:
        """Take an update; what was said of the slots, each a report that the server takes."""
        said: list[str] = []

        def say(found: Any, doing: str) -> None:
            REPORT.say(found, doing, tmp_path / "said")
            text = (tmp_path / "said").read_text()
            assert parse(text) is not None
            said.append(doing)

        PROGRAM.take(server, "example.test", say)
        return said

    return taking
