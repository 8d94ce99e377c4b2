"""Operations: an id at once, an end that is told, bounds, and cancelling that undoes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.api.media import MediumDescription
from provision.api.operations import Operation, OperationProgress, OperationState
from provision.boot import Medium
from provision.errors import Conflict, Denied, NotFound, Unavailable
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service import operations
from provision.service.operations import Operations, Order, Running
from tests.helpers.principals import ROOT, with_role
from tests.helpers.site_fixture import CANARY, INVENTORY, Site, site

OTHER = with_role(PrincipalRole.OPERATOR)
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


def test_one_whose_host_is_gone_is_ended_by_who_sees_all(here: Site) -> None:
    there = here.service.operations
    begun = there.begin("test", "node3", ROOT, lambda running: running.pause(3600))
    here.apply(INVENTORY[: INVENTORY.index("  node3:")])
    with pytest.raises(NotFound):
        there.get(begun.id, RACK_B)
    there.cancel(begun.id, ROOT)
    assert ended(there, begun).cancelled


def test_nothing_begins_while_its_host_is_changed_and_nobody_waits_for_that(here: Site) -> None:
    there = here.service.operations
    with there.none_for("node1"):
        with pytest.raises(Conflict, match="its BMC is being changed"):
            there.begin("test", "node1", ROOT, lambda running: None)
        assert there.listing(ROOT) == [] and there.begin("test", "node2", ROOT, lambda running: None)
        order = Order("sha256 of iso", host="node1", work=True)
        assert ended(there, there.start(order, ROOT, lambda running: None)).state is OperationState.DONE
    ended(there, there.begin("test", "node1", ROOT, lambda running: None))


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


VERIFY = Order("verify", image="base", work=True, joins=True)
IMPORT = Order("import", image="new", role=PrincipalRole.ADMIN, work=True)


def test_work_has_a_place_beside_what_waits_and_is_joined_by_who_asks_again(here: Site) -> None:
    there, go = here.service.operations, threading.Event()

    def work(running: Running) -> None:
        go.wait(60)

    begun = [
        there.start(VERIFY, ROOT, work),
        there.begin("boot pxe", "node1", ROOT, work),
        there.start(IMPORT, ROOT, work),
    ]
    digests = [Order(f"sha256 of {medium}", host="node1", work=True, joins=True) for medium in ("iso", "disk", "other")]
    with pytest.raises(Conflict, match=f"{operations.MOST_WORKING_OF_ONE} of uid=0 are under way"):
        [there.start(order, ROOT, work) for order in digests]
    begun += [there.start(order, asks, work) for order, asks in zip(digests[:2], (ROOT, OTHER), strict=True)]
    assert there.start(VERIFY, ROOT, work).id == begun[0].id
    with pytest.raises(Conflict, match=rf"new: operation {begun[2].id} \(import\) is under way"):
        there.start(IMPORT, ROOT, work)
    with pytest.raises(Conflict, match=f"{operations.MOST_WORKING} are under way"):
        there.start(digests[2], OTHER, work)
    go.set()
    assert {ended(there, one).state for one in begun} == {OperationState.DONE}
    assert there.start(VERIFY, ROOT, work).id != begun[0].id


def test_how_far_it_is_and_what_came_of_it(here: Site) -> None:
    there, told, go = here.service.operations, threading.Event(), threading.Event()
    result = here.service.media.describe("node1", Medium.ISO, ROOT)

    def work(running: Running) -> MediumDescription:
        running.progress("reading", 0.25)
        told.set()
        go.wait(60)
        running.progress("reading", 7.0)
        return result

    begun = there.start(VERIFY, ROOT, work)
    assert told.wait(60)
    assert there.get(begun.id, ROOT).progress == OperationProgress(stage="reading", fraction=0.25)
    go.set()
    done = ended(there, begun)
    assert (done.result, done.steps) == (result, ()) and done.progress and done.progress.fraction == 1.0


def test_what_is_not_of_one_host_is_for_who_sees_all(here: Site) -> None:
    there, operator = here.service.operations, with_role(PrincipalRole.OPERATOR)
    begun = there.start(IMPORT, ROOT, lambda running: running.pause(3600))
    assert [one.id for one in there.listing(operator)] == [begun.id] and there.listing(RACK_B) == []
    for act in (there.get, there.cancel):
        with pytest.raises(NotFound):
            act(begun.id, RACK_B)
    with pytest.raises(Denied, match="cancelling this takes admin"):
        there.cancel(begun.id, operator)
    assert there.get(begun.id, ROOT).state is OperationState.RUNNING
    there.cancel(begun.id, ROOT)
    assert ended(there, begun).state is OperationState.FAILED


def test_who_joins_has_not_begun_it_and_does_not_end_it(here: Site) -> None:
    there, go = here.service.operations, threading.Event()

    def work(running: Running) -> None:
        while not go.wait(0.01):
            running.pause(0)
        assert [one.name for one in running.wanted] == ["uid=0"]

    begun = there.start(VERIFY, ROOT, work)
    assert there.start(VERIFY, OTHER, work).id == there.start(VERIFY, OTHER, work).id == begun.id
    for leaving in (OTHER, OTHER):
        there.cancel(begun.id, leaving)
        assert not there.get(begun.id, ROOT).cancelled
    go.set()
    assert ended(there, begun).state is OperationState.DONE


def test_who_is_left_alone_with_it_ends_it_and_so_does_who_never_waited(here: Site) -> None:
    there, third = here.service.operations, with_role(PrincipalRole.ADMIN)

    def work(running: Running) -> None:
        running.pause(3600)

    for leaving in ([ROOT, OTHER], [OTHER, ROOT], [third]):
        begun = there.start(VERIFY, ROOT, work)
        there.start(VERIFY, OTHER, work)
        for one in leaving:
            there.cancel(begun.id, one)
        done = ended(there, begun)
        assert done.cancelled and done.problem and done.problem.fact == "the operation was cancelled"


def test_nobody_joins_what_was_cancelled_or_is_of_another_version(here: Site) -> None:
    there, go = here.service.operations, threading.Event()

    def slow(running: Running) -> None:
        assert go.wait(60)
        running.pause(0)

    first = there.start(VERIFY, ROOT, slow)
    changed = there.start(replace(VERIFY, version="changed"), OTHER, lambda running: None)
    assert changed.id != first.id and ended(there, changed).state is OperationState.DONE
    there.cancel(first.id, ROOT)
    second = there.start(VERIFY, OTHER, lambda running: None)
    assert second.id != first.id and ended(there, second).state is OperationState.DONE
    go.set()
    assert ended(there, first).state is OperationState.FAILED


def test_what_one_makes_is_not_what_others_lose(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_KEPT", 3)
    there = here.service.operations
    mine = ended(there, there.begin("test", "node1", ROOT, lambda running: None))
    for _ in range(10):
        last = ended(there, there.begin("test", "node2", OTHER, lambda running: None))
    assert there.get(mine.id, ROOT) == mine and there.get(last.id, ROOT) == last


def test_one_without_a_thread_is_none(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    there = here.service.operations

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(Unavailable, match="no thread"):
            there.begin("test", "node1", ROOT, lambda running: None)
    assert there.listing(ROOT) == []
    ended(there, there.begin("test", "node1", ROOT, lambda running: None))
