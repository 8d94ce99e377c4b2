"""Whose a TPM is: every reason to refuse it, and to have somebody look."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address

import pytest

from provision.boot import Channel, Requester
from provision.denial import Denial
from provision.enrolled_tpm import EnrolmentWindow
from provision.enrolment_rules import Shown, Verdict, judge, may_show
from tests.helpers.site_fixture import GENERAL, MAC1, MANAGEMENT
from tests.helpers.store_samples import NOW
from tests.helpers.tpm_samples import tpm

ASKS = Requester(address=IPv4Address("10.0.0.11"), mac=MAC1, confirmed=True)
WINDOW = EnrolmentWindow(NOW, NOW + timedelta(minutes=30), "uid=0")
CERTIFIED, BARE = Shown("ab" * 32, "maker / CN=root", ""), Shown("ab" * 32, "", "its TPM has no certificate")


def test_a_window_is_open_until_it_ends() -> None:
    assert WINDOW.is_open(NOW) and not WINDOW.is_open(WINDOW.expires)


def test_a_host_shows_its_tpm_while_its_window_is_open() -> None:
    assert may_show("n1", MANAGEMENT, ASKS, WINDOW, None) is None
    elsewhere = replace(ASKS, address=IPv4Address("10.1.0.11"))
    assert may_show("n1", GENERAL, elsewhere, WINDOW, None) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"requester": replace(ASKS, local=True)}, "local-peer"),
        ({"requester": replace(ASKS, address=None)}, "off-prefix"),
        ({"requester": replace(ASKS, address=IPv4Address("192.0.2.1"))}, "off-prefix"),
        ({"channel": replace(MANAGEMENT, prefix=None)}, "off-prefix"),
        ({"requester": replace(ASKS, mac=None)}, "no-neighbour"),
        ({"host": None}, "unknown-host"),
        ({"own": tpm()}, "tpm-enrolled"),
        ({"window": None}, "enrolment-closed"),
    ],
)
def test_why_a_machine_shows_nothing(change: dict[str, object], rule: str) -> None:
    usual = {"host": "n1", "channel": MANAGEMENT, "requester": ASKS, "window": WINDOW, "own": None}
    denial = may_show(**(usual | change))  # type: ignore[arg-type]
    assert denial is not None and denial.rule == rule and denial.remedy


@pytest.mark.parametrize(
    ("channel", "confirmed", "imported", "shown", "known", "doubt"),
    [
        (MANAGEMENT, True, None, CERTIFIED, "certificate maker / CN=root", ""),
        (MANAGEMENT, True, None, BARE, "", "has no certificate"),
        (MANAGEMENT, False, None, CERTIFIED, "", "did not answer by ARP"),
        (MANAGEMENT, None, None, CERTIFIED, "", "did not answer by ARP"),
        (GENERAL, None, None, CERTIFIED, "", "is general"),
        (GENERAL, True, None, CERTIFIED, "", "is general"),
        (GENERAL, None, "ab" * 32, BARE, "imported", ""),
        (MANAGEMENT, False, "ab" * 32, BARE, "imported", ""),
    ],
)
def test_who_is_believed(
    channel: Channel, confirmed: bool | None, imported: str | None, shown: Shown, known: str, doubt: str
) -> None:
    verdict = judge("n1", channel, replace(ASKS, confirmed=confirmed), imported, shown)
    assert isinstance(verdict, Verdict) and verdict.known == known
    assert (doubt in verdict.doubt) if doubt else not verdict.doubt


@pytest.mark.parametrize("shown", [CERTIFIED, BARE])
@pytest.mark.parametrize("channel", [MANAGEMENT, GENERAL])
def test_another_tpm_than_the_imported_one_is_refused(channel: Channel, shown: Shown) -> None:
    denial = judge("n1", channel, ASKS, "cd" * 32, shown)
    assert isinstance(denial, Denial) and denial.rule == "tpm-other" and "--imported" in denial.remedy
