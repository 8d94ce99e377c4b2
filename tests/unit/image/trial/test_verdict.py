"""What use cases say on their serial port is read strictly: a failure is one, and silence is one too."""

from __future__ import annotations

import pytest

from provision.errors import Invalid, NotFound
from provision.image.trial import usecases
from provision.image.trial.verdict import Verdict, parse

FAILING = """\
USECASE begin bridge iscsi kvm
USECASE pass bridge 10.77.2.1 answers through a bridge
USECASE log iscsi Logging in to [iface: default]
USECASE log iscsi iscsiadm: initiator reported error (19 - encountered non-retryable iSCSI login failure)
USECASE fail iscsi iscsiadm: Could not log into all portals
USECASE pass kvm it works
USECASE end
"""


def test_a_failure_is_seen_with_its_reason_and_log() -> None:
    bridge, iscsi, kvm = parse(FAILING)
    assert bridge == Verdict("bridge", True, "10.77.2.1 answers through a bridge")
    assert not iscsi.passed and iscsi.reason == "iscsiadm: Could not log into all portals"
    assert len(iscsi.log) == 2 and iscsi.log[0].startswith("Logging in")
    assert kvm.passed


def test_what_was_never_said_has_failed() -> None:
    cut = FAILING[: FAILING.index("USECASE pass kvm it works") + 12]
    assert [(v.name, v.passed) for v in parse(cut)] == [("bridge", True), ("iscsi", False), ("kvm", False)]
    assert "stopped" in parse(cut)[2].reason
    assert parse("") == ()


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("USECASE pass kvm it works", "USECASE passed kvm it works"),
        ("USECASE pass kvm it works", "[   12.3] a message of the kernel"),
        ("USECASE pass kvm it works", "USECASE pass vlan it works"),
        ("USECASE pass kvm it works", "USECASE pass bridge it works"),
        ("USECASE pass kvm it works", "USECASE begin kvm"),
        ("USECASE end", "USECASE end now"),
        ("USECASE end", "USECASE end\nUSECASE pass kvm it works"),
        ("USECASE begin bridge iscsi kvm\n", ""),
    ],
)
def test_anything_else_is_refused(line: str, instead: str) -> None:
    with pytest.raises(Invalid):
        parse(FAILING.replace(line, instead))


def test_only_what_there_is_can_be_chosen() -> None:
    assert usecases.chosen(()) == usecases.NAMES
    assert usecases.chosen(["kvm", "bridge"]) == ("bridge", "kvm")
    with pytest.raises(NotFound, match="frobnicate: is not a use case; there are: bridge"):
        usecases.chosen(["frobnicate"])
