"""A medium is made while the disk works on the entry that says so, and given away only afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from provision.api.operations import Operation
from provision.api.tokens import NewToken
from provision.boot import Copy, Medium
from provision.errors import Conflict, Denied, Unavailable
from provision.media.reader import Reader
from provision.principal import Principal, PrincipalRole
from provision.service.operations import Operations
from tests.helpers.principals import ROOT, with_role
from tests.helpers.site_fixture import CANARY, Site

PATIENCE = 60.0


def test_a_medium_is_made_meanwhile_and_waits_for_the_disk(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    media, made, durable = here.service.media, threading.Event(), threading.Event()
    build, real = media._builder.plan, os.fdatasync

    def building(*args: object) -> object:
        plan = build(*args)  # type: ignore[arg-type]
        made.set()
        return plan

    def sync(descriptor: int) -> None:
        assert made.wait(PATIENCE), "it was not made while the disk worked"
        assert durable.wait(PATIENCE)
        real(descriptor)

    monkeypatch.setattr(media._builder, "plan", building)
    monkeypatch.setattr(os, "fdatasync", sync)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(media.plan, "node1", Medium.ISO, ROOT)
        assert made.wait(PATIENCE)
        assert not asked.done(), "it was given away before its entry was on the disk"
        durable.set()
        with Reader(asked.result(PATIENCE)) as reader:
            assert CANARY in reader.pread(0, reader.plan.size)


def test_what_was_made_for_an_entry_that_failed_is_given_to_nobody(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    media, made = here.service.media, threading.Event()
    build = media._builder.plan

    def building(*args: object) -> object:
        try:
            return build(*args)  # type: ignore[arg-type]
        finally:
            made.set()

    def broken(_descriptor: int) -> None:
        assert made.wait(PATIENCE)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(media._builder, "plan", building)
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", broken)
        for _ in range(2):
            with pytest.raises(Unavailable, match="Input/output error"):
                media.plan("node1", Medium.ISO, ROOT)
    assert not [entry for entry in here.service.core.audit.entries() if entry.get("medium") == "iso"]
    media.plan("node1", Medium.ISO, ROOT)
    assert len([entry for entry in here.service.core.audit.entries() if entry.get("medium") == "iso"]) == 1


def test_a_medium_is_made_without_another_thread(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    media = here.service.media
    monkeypatch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no more threads")))
    before = media.plan("node1", Medium.ISO, ROOT)
    monkeypatch.undo()
    assert media.plan("node1", Medium.ISO, ROOT).etag == before.etag
    assert here.service.core.audit.verify().ok


@pytest.mark.parametrize("medium", [Medium.ISO, Medium.DISK])
def test_a_medium_holds_the_secrets_of_its_own_host_alone(here: Site, medium: Medium) -> None:
    own, others = CANARY, b"token-of-node2"
    for name, held, absent in (("node1", own, others), ("node2", others, own)):
        with Reader(here.service.media.plan(name, medium, ROOT)) as reader:
            content = b"".join(reader.chunks())
        state, keys = here.service.core.state, here.service.core.store.keys
        copies = {host: Copy(host, medium, state(host).identity[:32]) for host in ("node1", "node2")}
        key = {host: keys.of_copy(copy).reveal().hex().encode() for host, copy in copies.items()}
        assert held in content and key.pop(name) in content
        assert absent not in content and key.popitem()[1] not in content


def test_a_large_medium_is_read_by_an_operation_and_known_then(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    media, there = here.service.media, here.service.operations
    told = media.describe("node1", Medium.ISO, ROOT)
    here.secret("node1", b"another")
    monkeypatch.setattr("provision.service.media.QUICK", 1000)
    with pytest.raises(Conflict, match=r"node1: iso: its SHA-256 is not known yet.*POST"):
        media.describe("node1", Medium.ISO, ROOT)
    ended = at_end(there, media.begin_describing("node1", Medium.ISO, ROOT).id)
    assert (ended.kind, ended.host, ended.image) == ("sha256 of iso", "node1", None)
    assert ended.result == media.describe("node1", Medium.ISO, ROOT) != told
    assert ended.progress and ended.progress.fraction == 1.0


def test_nobody_has_a_medium_described_that_policy_does_not_give_them(here: Site) -> None:
    with pytest.raises(Denied):
        here.service.media.begin_describing("node1", Medium.ISO, with_role(PrincipalRole.READER))
    assert here.service.operations.listing(ROOT) == []


def reading(
    here: Site, monkeypatch: pytest.MonkeyPatch, principal: Principal
) -> tuple[Operation, Callable[[str], Operation]]:
    """An operation of the principal that reads a medium, and what lets an operation go on to its end."""
    media, read, go = here.service.media, threading.Event(), threading.Event()
    of = media.digests.of

    def slowly(*args: object) -> str:
        read.set()
        assert go.wait(PATIENCE)
        return of(*args)  # type: ignore[arg-type]

    def end(id_: str) -> Operation:
        go.set()
        return at_end(here.service.operations, id_)

    monkeypatch.setattr(media.digests, "of", slowly)
    begun = media.begin_describing("node1", Medium.ISO, principal)
    assert read.wait(PATIENCE)
    return begun, end


def owner(here: Site) -> Principal:
    """The owner of a new token."""
    here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.OPERATOR), ROOT)
    return here.service.core.store.tokens.require("ci").principal


def test_what_a_revoked_token_has_begun_ends(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = reading(here, monkeypatch, owner(here))
    here.service.tokens.revoke("ci", ROOT)
    ended = end(begun.id)
    assert ended.result is None and ended.problem and "no valid token any more" in ended.problem.fact


def test_what_somebody_else_waits_for_does_not_end_with_a_token(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = reading(here, monkeypatch, owner(here))
    assert here.service.media.begin_describing("node1", Medium.ISO, ROOT).id == begun.id
    here.service.tokens.revoke("ci", ROOT)
    assert end(begun.id).result == here.service.media.describe("node1", Medium.ISO, ROOT)


def test_nobody_is_told_of_an_older_medium_by_joining(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = reading(here, monkeypatch, ROOT)
    here.secret("node1", b"another")
    joined = here.service.media.begin_describing("node1", Medium.ISO, owner(here))
    assert joined.id != begun.id
    old, new = end(begun.id).result, end(joined.id).result
    assert new == here.service.media.describe("node1", Medium.ISO, ROOT) != old


def at_end(there: Operations, id_: str) -> Operation:
    for thread in threading.enumerate():
        if thread.name == f"operation {id_}":
            thread.join(PATIENCE)
    return there.get(id_, ROOT)
