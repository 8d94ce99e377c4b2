"""What hosts say of the slots on their disk."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from provision.errors import Invalid
from provision.slots import Doing, HostSlots, SlotReport, parse

A, B = "0a" * 32, "0b" * 32
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a a {A} - idle", SlotReport("a", "a", A, "")),
        (f"a a - {B} idle", SlotReport("a", "a", "", B)),
        (f"b a {A} {B} trying {B}", SlotReport("b", "a", A, B, Doing.TRYING, B)),
        (f"a a {A} {B} waiting {B}", SlotReport("a", "a", A, B, Doing.WAITING, B)),
        (
            f"a a {A} {B} failed {B} 12 systemd is degraded: x.service",
            SlotReport("a", "a", A, B, Doing.FAILED, B, 12, "systemd is degraded: x.service"),
        ),
        (
            f"a a {A} {B} refused the update isn't signed (by us)",
            SlotReport("a", "a", A, B, Doing.REFUSED, reason="the update isn't signed (by us)"),
        ),
    ],
)
def test_what_a_host_may_say(text: str, expected: SlotReport) -> None:
    assert parse(text) == expected and parse("") is None


def test_what_runs_and_what_comes() -> None:
    waiting = SlotReport("a", "a", A, B, Doing.WAITING, B)
    assert (waiting.running_version, waiting.coming, waiting.is_proven) == (A, B, True)
    trying = SlotReport("b", "a", A, B, Doing.TRYING, B)
    assert (trying.running_version, trying.coming, trying.is_proven) == (B, B, False)
    assert SlotReport("a", "a", A, B, Doing.FETCHING, B).coming == A


@pytest.mark.parametrize(
    "text",
    [
        "idle",
        f"c a {A} - idle",
        f"a a {A[1:]} - idle",
        f"a a {A} - idle\n",
        f"a a {A} - trying",
        f"a a {A} - failed {B} x",
        f"a a {A} - failed {B} 0 why",
        f"a a {A} - refused ",
        f'a a {A} - refused a "quote"',
        f"a a {A} - refused {'x' * 300}",
        f"a a {A} - idle {B}",
    ],
)
def test_what_it_may_not(text: str) -> None:
    with pytest.raises(Invalid, match="not a valid message"):
        parse(text)


@pytest.mark.parametrize("said", ["", "idle", f"a a {A} - "])
def test_nothing_is_kept_that_no_host_can_have_said(said: str) -> None:
    assert HostSlots(f"a a {A} - idle", NOW).report == SlotReport("a", "a", A, "", Doing.IDLE)
    with pytest.raises(Invalid, match="not a valid message"):
        HostSlots(said, NOW)
