"""Operations: an id at once, an end that is told, bounds, and cancelling that undoes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provision.api.operations import Operation, OperationState
from provision.errors import Conflict, Denied, NotFound
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service import operations
from provision.service.operations import Operations, Running
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, Site, site

RACK_B = Principal("token:b", PrincipalRole.ADMIN, Authentication.TOKEN, (("rack", "b"),))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def ended(there: Operations, begun: Operation) -> Operation:
    """The operation at its end; its thread is done."""
    for thread in threading.enumerate():
        if thread.name == f"operation {begun.id}":
            thread.join(60)
    return there.get(begun.id, ROOT)


def test_one_that_does_what_it_should(here: Site) -> None:
    there, go = here.service.operations, threading.Event()

    def work(running: Running) -> None:
        running.say("first")
        go.wait(60)
        running.say("second")

    begun = there.begin("test", "node1", ROOT, work)
    assert (begun.state, begun.host, begun.by) == (OperationState.RUNNING, "node1", "uid=0")
    with pytest.raises(Conflict, match=rf"operation {begun.id} \(test\) is under way"):
        there.begin("other", "node1", ROOT, work)
    go.set()
    done = ended(there, begun)
    assert (done.state, done.steps, done.problem) == (OperationState.DONE, ("first", "second"), None)
    assert done.ended and there.listing(ROOT) == [done] and there.listing(RACK_B) == []
    assert ended(there, there.begin("again", "node1", ROOT, lambda running: None)).state is OperationState.DONE


def test_what_fails_is_a_problem_without_what_nobody_foresaw(here: Site) -> None:
    def denied(running: Running) -> None:
        raise Denied("node1", "may not", "ask", "a-rule")

    def broken(running: Running) -> None:
        raise ValueError(CANARY)

    there = here.service.operations
    first, second = (ended(there, there.begin("test", "node1", ROOT, work)) for work in (denied, broken))
    assert first.state is second.state is OperationState.FAILED
    assert first.problem and first.problem.rule == "a-rule"
    assert second.problem and second.problem.fact == "an internal error (ValueError)"
    assert CANARY.decode() not in repr(second)


def test_cancelling_ends_a_pause_and_not_what_undoes(here: Site) -> None:
    there, undone = here.service.operations, threading.Event()

    def work(running: Running) -> None:
        try:
            running.pause(3600)
        finally:
            running.undo()
            running.pause(0)
            undone.set()

    begun = there.begin("test", "node1", ROOT, work)
    there.cancel(begun.id, ROOT)
    done = ended(there, begun)
    assert undone.is_set() and done.problem and done.problem.fact == "the operation was cancelled"
    there.cancel(begun.id, ROOT)


def test_whoever_does_not_see_the_host_sees_no_operation(here: Site) -> None:
    there = here.service.operations
    begun = there.begin("test", "node1", ROOT, lambda running: None)
    calls: list[Callable[[str, Principal], object]] = [there.get, there.cancel]
    for call in calls:
        said = []
        for id_ in (begun.id, "0" * 12):
            with pytest.raises(NotFound) as told:
                call(id_, RACK_B)
            said.append(str(told.value).replace(id_, "ID"))
        assert said[0] == said[1]


def test_they_are_bounded(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_RUNNING", 2)
    monkeypatch.setattr(operations, "_KEPT", 3)
    there, go = here.service.operations, threading.Event()
    begun = [
        there.begin("test", name, ROOT, lambda running: running.pause(0 * go.wait(60))) for name in ("node1", "node2")
    ]
    with pytest.raises(Conflict, match="2 are under way"):
        there.begin("test", "node3", ROOT, lambda running: None)
    go.set()
    assert {ended(there, one).state for one in begun} == {OperationState.DONE}
    for _ in range(5):
        ended(there, there.begin("test", "node3", ROOT, lambda running: None))
    assert len(there.listing(ROOT)) == 4, "the last one was not over when it came"


def test_nobody_takes_the_room_of_others(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_OF_ONE", 1)
    there, go = here.service.operations, threading.Event()
    first = there.begin("test", "node1", RACK_B, lambda running: running.pause(0 * go.wait(60)))
    with pytest.raises(Conflict, match=r"1 of .* are under way"):
        there.begin("test", "node2", RACK_B, lambda running: None)
    ended(there, there.begin("test", "node2", ROOT, lambda running: None))
    go.set()
    ended(there, first)
    ended(there, there.begin("test", "node2", RACK_B, lambda running: None))


def test_the_end_of_the_service_ends_them(here: Site) -> None:
    there = here.service.operations
    begun = there.begin("test", "node1", ROOT, lambda running: running.pause(3600))
    there.stop()
    assert there.get(begun.id, ROOT).state is OperationState.FAILED


def test_the_latest_of_a_host_is_told_to_who_sees_the_host(here: Site) -> None:
    there, go = here.service.operations, threading.Event()

    def work(running: Running) -> None:
        assert go.wait(60)

    assert there.latest("node1", ROOT) is None and there.running(ROOT) == {}
    first = ended(there, there.begin("first", "node1", ROOT, lambda running: None))
    assert there.latest("node1", ROOT) == first and there.running(ROOT) == {}
    second = there.begin("second", "node1", ROOT, work)
    assert there.latest("node1", ROOT) == second and there.running(ROOT) == {"node1": second}
    assert there.running(RACK_B) == {}
    for name in ("node1", "node9"):
        with pytest.raises(NotFound):
            there.latest(name, RACK_B)
    go.set()
