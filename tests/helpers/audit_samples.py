"""An audit log to write to and to tamper with, shared by the tests of the log and of its chain."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from provision.secret import Secret
from provision.store.audit import Audit
from provision.store.journal import Journal
from provision.store.keys import MasterKey

KEY = MasterKey(Secret(bytes(range(32))))
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DENIAL = {"event": "decision", "host": "n1", "medium": "pxe", "answer": "denied", "rule": "window-closed"}


def journal_of(path: Path) -> Journal:
    return Journal(path.with_name("no-journal"))


def opened(path: Path) -> Audit:
    return Audit(path, KEY, clock=lambda: NOW, journal=journal_of(path))


def fill(path: Path, count: int = 5) -> None:
    log = opened(path)
    for number in range(count):
        log.record({"event": "window-opened", "host": f"n{number}", "time": NOW}, durable=True)
    log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
