"""Batches: so many at a time, each host to its end, cancelled as a whole, and seen by whoever sees their hosts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.api.operations import Operation
from provision.errors import Conflict, Denied, NotFound, Unavailable
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service import batches, operations
from provision.service.batches import Batch, Progress
from provision.service.operations import Running
from provision.service.selections import Begin
from tests.helpers.browser import token
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, Site, site

MANY = 20
HOST = '  h{n}: {{interfaces: {{mgmt: {{mac: "52:54:00:01:00:{n:02x}", network: mgmt, addressing: dhcp}}}}}}\n'
NAMES = tuple(f"h{n}" for n in range(MANY))
RACK_A = Principal("token:a", PrincipalRole.OPERATOR, Authentication.TOKEN, (("rack", "a"),))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(batches, "_LOOK_SECONDS", 0.01)
    with site(tmp_path) as opened:
        opened.apply(INVENTORY + "".join(HOST.format(n=n) for n in range(MANY)))
        yield opened


def begin(here: Site, names: tuple[str, ...], do: Begin, principal: Principal = ROOT) -> Batch:
    return here.service.batches.begin("Test", names, do, principal)


def ended(batch: Batch) -> Batch:
    for thread in threading.enumerate():
        if thread.name == f"batch {batch.id}":
            thread.join(60)
    assert batch.ended
    return batch


def operating(here: Site, work: operations.Work) -> Begin:
    def start(name: str) -> Operation:
        return here.service.operations.begin("test", name, ROOT, work)

    return start


def test_each_host_to_its_end(here: Site) -> None:
    def do(name: str) -> None:
        if name == "h3":
            raise Denied(name, "may not", "ask", "a-rule")

    batch = ended(begin(here, NAMES, do))
    assert batch.counts == {Progress.DONE: MANY - 1, Progress.FAILED: 1}
    assert (batch.rows["h3"].text, batch.rows["h3"].remedy) == ("may not", "ask")


def test_operations_are_bounded_and_followed(here: Site) -> None:
    most, running, lock, go = 0, 0, threading.Lock(), threading.Event()

    def work(one: Running) -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
            if running == batches.AT_ONCE:
                go.set()
        go.wait(60)
        one.say(f"{one.subject} is done")
        with lock:
            running -= 1
        if one.subject == "h5":
            raise Denied(one.subject, "failed at the end", "try again", "")

    batch = ended(begin(here, NAMES, operating(here, work)))
    assert most == batches.AT_ONCE
    assert batch.counts == {Progress.DONE: MANY - 1, Progress.FAILED: 1}
    assert batch.rows["h1"].text == "h1 is done" and batch.rows["h5"].text == "failed at the end"


def test_it_waits_while_there_is_no_room_for_operations(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "MOST_RUNNING", 1)
    batch = ended(begin(here, NAMES[:4], operating(here, lambda running: None)))
    assert batch.counts == {Progress.DONE: 4}


def test_cancelling_ends_what_runs_and_begins_nothing(here: Site) -> None:
    began = threading.Semaphore(0)

    def work(running: Running) -> None:
        began.release()
        running.pause(3600)

    batch = begin(here, NAMES, operating(here, work))
    for _ in range(batches.AT_ONCE):
        assert began.acquire(timeout=60)
    here.service.batches.cancel(batch.id, ROOT)
    ended(batch)
    assert batch.counts == {Progress.FAILED: MANY}
    texts = [row.text for row in batch.rows.values()]
    assert texts.count("the operation was cancelled") == batches.AT_ONCE
    assert not began.acquire(blocking=False)


def test_who_is_nobody_any_more_does_no_more(here: Site) -> None:
    shown, done = token(here, "gone", PrincipalRole.OPERATOR), []
    principal = here.service.logins.token(shown.encode(), "192.0.2.7").principal

    def do(name: str) -> None:
        done.append(name)
        if len(done) == 3:
            here.service.tokens.revoke("gone", ROOT)

    batch = ended(begin(here, NAMES, do, principal))
    assert len(done) == 3 and batch.counts == {Progress.DONE: 3, Progress.FAILED: MANY - 3}
    assert "no valid token" in batch.rows[NAMES[-1]].text


def test_what_nobody_foresaw_ends_it_without_its_message(here: Site) -> None:
    def do(name: str) -> None:
        raise ValueError(CANARY)

    batch = ended(begin(here, NAMES[:2], do))
    assert {row.text for row in batch.rows.values()} == {"an internal error (ValueError)"}


def test_few_at_a_time_and_few_are_remembered(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def wait(name: str) -> None:
        assert go.wait(60)

    running = [begin(here, NAMES[:1], wait) for _ in range(batches.MOST_OF_ONE)]
    with pytest.raises(Conflict, match="of uid=0 are under way"):
        begin(here, NAMES[:1], lambda name: None)
    running.append(here.service.batches.begin("test", NAMES[:1], wait, RACK_A))
    with pytest.raises(Conflict, match="batches: 4 are under way"):
        here.service.batches.begin("test", NAMES[:1], wait, RACK_A)
    go.set()
    for batch in running:
        ended(batch)
    monkeypatch.setattr(batches, "_KEPT", 2)
    ended(begin(here, NAMES[:1], lambda name: None))
    with pytest.raises(NotFound):
        here.service.batches.get(running[0].id, ROOT)
    assert here.service.batches.get(running[-1].id, ROOT), "of whoever has begun fewer"


def test_one_without_a_thread_is_none(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(Unavailable, match="no thread"):
            begin(here, NAMES[:1], lambda name: None)
    for _ in range(batches.MOST_RUNNING):
        ended(begin(here, NAMES[:1], lambda name: None))


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_it_is_seen_by_who_sees_all_of_its_hosts(here: Site) -> None:
    seen, other = (ended(begin(here, names, lambda name: None)) for names in (("node1",), ("node1", "node3")))
    assert here.service.batches.get(seen.id, RACK_A) is seen
    for ask in (here.service.batches.get, here.service.batches.cancel):
        with pytest.raises(NotFound):
            ask(other.id, RACK_A)


def test_who_has_begun_it_ends_it_whatever_becomes_of_its_hosts(here: Site) -> None:
    began, go = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        began.set()
        assert go.wait(60)

    mine, other = (
        Principal(f"uid={n}", PrincipalRole.OPERATOR, Authentication.PEER_CREDENTIALS, RACK_A.selector) for n in (7, 8)
    )
    batch = begin(here, ("node1", "node2"), wait, mine)
    assert began.wait(60)
    here.apply(INVENTORY.replace("labels: {rack: a}", "labels: {rack: c}"))
    with pytest.raises(NotFound):
        here.service.batches.get(batch.id, other)
    here.service.batches.cancel(batch.id, mine)
    go.set()
    assert [row.progress for row in ended(batch).rows.values()] == [Progress.DONE, Progress.FAILED]


def test_the_end_of_the_service_ends_it(here: Site) -> None:
    began = threading.Event()

    def work(running: Running) -> None:
        began.set()
        running.pause(3600)

    batch = begin(here, NAMES, operating(here, work))
    assert began.wait(60)
    here.service.batches.stop()
    assert batch.ended and batch.counts == {Progress.FAILED: MANY}
