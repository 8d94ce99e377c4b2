"""A clock that goes back opens nothing again: while the service runs, over a restart, and with a dead battery."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provision.boot import OPERATOR, Medium, Requester
from provision.clock import TOLERANCE
from provision.denial import Denial
from provision.errors import Denied, Invalid
from provision.service.service import Service
from tests.helpers.cli_runner import cli
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC1, MAC2, NOW, TOML, Clock, Site, charged, origin, site, used
from tests.helpers.stored_site import TRUTH, gains, opened

MINUTE = timedelta(minutes=1)
DEAD = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened_site:
        yield opened_site


def rules(service: Service) -> set[str]:
    """Why nobody gets anything."""
    core, found = service.core, set()
    for host, mac in (("node1", MAC1), ("node2", MAC2)):
        for medium in (Medium.PXE, Medium.HTTP_BOOT):
            answer = core.decide(core.state(host), medium, origin(mac).channel, origin(mac).requester)
            found.add(answer.rule if isinstance(answer, Denial) else "released")
        answer = core.decide(core.state(host), Medium.ISO, OPERATOR, Requester(principal=ROOT))
        found.add(answer.rule if isinstance(answer, Denial) else "released")
    return found


def expired(here: Site) -> None:
    """A window of an hour, two hours ago."""
    here.window()
    here.clock.advance(hours=2)
    assert gains(here.service) == TRUTH


def test_set_back_while_it_runs(here: Site) -> None:
    expired(here)
    for back in (90 * MINUTE, 61 * MINUTE, TOLERANCE + timedelta(seconds=1), timedelta(days=20000)):
        here.clock.now = NOW + 120 * MINUTE - back
        assert gains(here.service) == set() and rules(here.service) == {"clock-went-back"}, back
    assert "clock-went-back" in here.service.netboot.pxelinux_config(origin(), MAC1).decode()
    here.clock.now = NOW + 120 * MINUTE - TOLERANCE
    assert gains(here.service) == TRUTH, "a time service may do that much"
    here.clock.now = NOW + 121 * MINUTE
    assert gains(here.service) == TRUTH, "set right again"
    here.service.core.footing.watch()


@pytest.mark.parametrize("now", [DEAD, NOW + 30 * MINUTE], ids=["dead battery", "half an hour in"])
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_set_back_over_a_restart(here: Site, tmp_path: Path, now: datetime, killed: bool) -> None:
    expired(here)
    state = tmp_path / "again"
    if not killed:
        here.service.close()
    shutil.copytree(here.state, state, ignore=shutil.ignore_patterns("*.sock", "lock"))
    clock = Clock()
    clock.now = now
    for _ in range(2):
        with opened(state, clock) as service:
            assert gains(service) == set() and rules(service) == {"clock-went-back"}
            (problem,) = service.reports.status(ROOT).problems
            assert "2026-03-01T14:00:00" in problem and "provision clock accept" in problem
            assert "clock-went-back" in [e["event"] for e in service.core.audit.entries(None, 1000)]
    clock.now = NOW + 121 * MINUTE
    with opened(state, clock) as service:
        assert gains(service) == TRUTH, "the clock is right"


def test_between_decision_and_first_byte(here: Site) -> None:
    here.window()
    one, two = (here.service.netboot.seed(origin(), None) for _ in range(2))
    here.clock.advance(minutes=-5)
    with pytest.raises(Denied, match="clock"):
        one.charge()
    here.clock.advance(minutes=5)
    one.charge()
    here.clock.advance(minutes=-1)
    with pytest.raises(Denied, match="clock"):
        two.charge()
    assert used(here) == 1


def test_a_window_of_the_future_is_not_open(here: Site) -> None:
    """Opened while the clock was ten years ahead, and the operator says so: nothing of then counts."""
    here.clock.advance(days=3650)
    here.window(boots=9)
    charged(here.service.netboot.seed(origin(), None))
    here.clock.now = NOW + MINUTE
    assert rules(here.service) == {"clock-went-back"}
    done = here.service.core.footing.accept_clock("the BIOS said 2036", ROOT)
    assert done.was.startswith("2036")
    assert gains(here.service) == TRUTH, "its window is shut, and the boot of 2036 is not the same boot"
    window = here.service.core.store.windows.of("node1")
    assert window is not None and window.closed
    (entry,) = here.audit("clock-accepted")
    assert (entry["operator"], entry["reason"]) == ("uid=0", "the BIOS said 2036")
    here.window()
    assert (MAC1, "pxe", "node1") in gains(here.service)


def test_accepted_holds_over_a_restart(here: Site) -> None:
    here.clock.advance(days=3650)
    here.service.core.footing.watch()
    here.clock.now = NOW + MINUTE
    here.service.core.footing.accept_clock("the BIOS said 2036", ROOT)
    here.service.close()
    with opened(here.state, here.clock) as service:
        assert gains(service) == TRUTH


def test_a_reason_is_wanted(here: Site) -> None:
    for reason in ("", "  \n", "x", "y" * 500, "a\x1b[31mb"):
        with pytest.raises(Invalid, match="reason"):
            here.service.core.footing.accept_clock(reason, ROOT)
        with pytest.raises(Invalid, match="reason"):
            here.service.core.footing.accept_store(reason, ROOT)
    assert not here.audit("clock-accepted") and not here.audit("store-accepted")


def test_the_command_takes_the_clock_as_it_is(here: Site) -> None:
    here.clock.advance(days=36500)
    here.service.close()
    (here.state / "provision.toml").write_text(TOML)
    refused = cli(here.state, "iso", "node1", "-o", here.state / "x.iso")
    assert refused.code == 4 and "provision clock accept" in refused.err
    assert "ATTENTION: nothing is given away: the clock was at 2126-" in cli(here.state, "status").out
    assert cli(here.state, "clock", "accept").code == 2
    assert cli(here.state, "clock", "accept", "--reason", "was a test").code == 0
    assert "ATTENTION" not in cli(here.state, "status").out
    assert cli(here.state, "iso", "node1", "-o", here.state / "x.iso").code in (0, 7)
