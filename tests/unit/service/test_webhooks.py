"""Which receiver an operator means, and what is recorded of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.service.service import Service
from provision.settings import Webhook
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, settings

HOOK = Webhook(name="desk", url="https://hooks.example.test/x", secret=Path("webhook.key"))


class Told:
    """A receiver that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.error: Exception | None = None

    def test(self) -> None:
        self.asked.append("test")
        if self.error is not None:
            raise self.error

    def replay(self, first: int) -> None:
        self.asked.append(first)


@pytest.fixture
def told(here: Site) -> Told:
    here.service.core.settings = settings(here.state, webhook=(HOOK,))
    made = Told()
    here.service.receivers = lambda: {"desk": made}
    return made


def test_a_receiver_is_tried_and_told_again(here: Site, told: Told) -> None:
    assert here.service.webhooks.test("desk", ROOT).taken
    last = here.service.core.audit.sequence
    done = here.service.webhooks.replay("desk", 1, ROOT)
    assert (done.first, done.last, told.asked) == (1, last, ["test", 1])
    events = [(e["event"], e["webhook"], e["operator"]) for e in here.audit() if e["event"].startswith("webhook-")]
    assert events == [("webhook-tested", "desk", "uid=0"), ("webhook-replayed", "desk", "uid=0")]


def test_what_is_not_taken_is_said(here: Site, told: Told) -> None:
    told.error = Unavailable("webhook 'desk'", "the test event was answered with 500", "look at the receiver")
    with pytest.raises(Unavailable, match="answered with 500"):
        here.service.webhooks.test("desk", ROOT)
    assert here.audit("webhook-tested") == [] and here.audit("failed")[-1]["subject"] == "webhook-tested"


def test_only_what_is_there_is_told(here: Site, told: Told) -> None:
    for first in (0, here.service.core.audit.sequence + 1):
        with pytest.raises(Invalid, match="is not in the audit log"):
            here.service.webhooks.replay("desk", first, ROOT)
    with pytest.raises(NotFound, match=r"no such \[\[webhook\]\] \(there: desk\)"):
        here.service.webhooks.test("other", ROOT)
    here.service.receivers = Service(here.service.core).receivers
    with pytest.raises(Conflict, match="no service runs"):
        here.service.webhooks.test("desk", ROOT)
    assert told.asked == []
