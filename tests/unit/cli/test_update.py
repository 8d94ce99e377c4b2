"""How slots are shown in a line."""

from __future__ import annotations

from typing import Any

from provision.api.hosts import HostSlots
from provision.cli.update import line

A, B = "0a" * 32, "0b" * 32
SAID: dict[str, Any] = {
    "running": "a",
    "default": "a",
    "a": A,
    "b": None,
    "image": "demo",
    "doing": "idle",
    "version": None,
    "reason": None,
    "reported": "2026-03-01T12:00:00+00:00",
    "failed": [],
}


def shown(**fields: Any) -> tuple[str, str, str, str]:
    runs, slot, doing, _, failed = line(HostSlots.model_validate({**SAID, **fields}))
    return runs, slot, doing, failed


def test_what_runs_and_what_becomes_of_it() -> None:
    assert shown() == ("demo", "a", "idle", "")
    assert shown(image=None)[0] == A[:16] and shown(image=None, a=None)[0] == "?"
    assert shown(running="b", b=B, doing="trying", version=B)[1:3] == ("b, unproven", f"trying {B[:16]}")
    assert shown(doing="refused", reason="it is not signed")[2] == "refused: it is not signed"


def test_what_has_failed_and_is_not_tried_again() -> None:
    failed = {"version": B, "image": None, "reason": "x", "at": "2026-03-01T12:00:00+00:00", "retried": False}
    assert shown(failed=[failed, {**failed, "image": "other"}])[3] == f"{B[:16]}, other"
    assert shown(failed=[{**failed, "retried": True}])[3] == ""
