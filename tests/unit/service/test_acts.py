"""An act and its record, with faults at every step: nothing happens unrecorded, and nothing is said that did not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from provision.api.bmc import NewBmc
from provision.api.links import LinkMedium, MakeLink
from provision.api.tokens import NewToken
from provision.errors import Conflict, NotFound, Unavailable
from provision.net.interfaces import Machine
from provision.principal import PrincipalRole
from provision.secret import Secret
from provision.server.networks import Networks
from provision.service.service import Service
from provision.settings import Listen
from provision.store.fields import Entry
from provision.store.logfile import LogFile
from tests.helpers.killing import kill, killed
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, closed_site, edge, settings, site, sources

MORE = INVENTORY.replace("labels: {rack: a}", "labels: {rack: b}")

Act = Callable[[Service], object]


def changed(service: Service) -> object:
    """What the acts below change."""
    store, hosts = service.core.store, service.core.hosts
    credentials = [(info.host, info.name, info.version) for info in store.credentials.infos()]
    labels, bases = [dict(host.labels) for host in hosts.values()], dict(service.core.bases())
    tokens = [row.name for row in service.tokens.listing()]
    links = [(row.id, row.state) for row in service.links.listing(ROOT)]
    return store.windows.of("node1"), credentials, bases, labels, tokens, links, _bmcs(service)


def _bmcs(service: Service) -> list[str]:
    found = []
    for host in ("node1", "node2"):
        with suppress(NotFound):
            service.core.store.bmcs.get(host)
            found.append(host)
    return found


def prepare(service: Service) -> None:
    """Let there be what the acts below take away."""
    service.tokens.create(NewToken(name="old", role=PrincipalRole.OPERATOR), ROOT)
    service.links.make("node2", MakeLink(medium=LinkMedium.ISO), ROOT)
    service.bmcs.put("node2", BMC, ROOT)
    service.windows.open("node1", 60, 1, ROOT)
    service.core.store.bases.name("spare", service.core.bases()["base"])


BMC = NewBmc.model_validate({"url": "https://10.0.0.201", "user": "root", "password": "dGhlIHBhc3N3b3Jk"})

ACTS: dict[str, tuple[str, Act]] = {
    "window": ("window-opened", lambda s: s.windows.open("node1", 7, 1, ROOT)),
    "close": ("window-closed", lambda s: s.windows.close("node1", ROOT)),
    "set": ("credential-set", lambda s: s.credentials.put("node1", "token", Secret(b"new"), None, None, ROOT)),
    "load": (
        "credential-set",
        lambda s: s.credentials.put_many([(h, "token", Secret(b"more")) for h in ("node1", "node2")], ROOT),
    ),
    "remove": ("credential-removed", lambda s: s.credentials.remove("node1", "token", ROOT)),
    "apply": ("apply", lambda s: s.inventories.apply(sources(MORE), prune=True, confirmed=True, principal=ROOT)),
    "image": ("image-removed", lambda s: s.images.remove("spare", ROOT)),
    "token": ("token-created", lambda s: s.tokens.create(NewToken(name="new", role=PrincipalRole.ADMIN), ROOT)),
    "revoke": ("token-revoked", lambda s: s.tokens.revoke("old", ROOT)),
    "link": ("link-made", lambda s: s.links.make("node1", MakeLink(medium=LinkMedium.ISO), ROOT)),
    "unlink": ("link-revoked", lambda s: s.links.revoke(s.links.listing(ROOT, "node2")[0].id, ROOT)),
    "bmc": ("bmc-set", lambda s: s.bmcs.put("node1", BMC, ROOT)),
    "no bmc": ("bmc-removed", lambda s: s.bmcs.remove("node2", ROOT)),
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        prepare(opened.service)
        yield opened


def new(here: Site, since: int) -> list[Entry]:
    return [entry for entry in here.audit() if entry["seq"] > since]


def last(here: Site) -> int:
    return int(here.audit()[-1]["seq"])


@contextmanager
def full(here: Site, monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """A log that takes `after` more entries and then none."""
    core, left = here.service.core, [after]
    file = core.audit._file
    real = file._write

    def write(*arguments: Any, **options: Any) -> None:
        if not left[0]:
            file.fail("cannot be written (No space left on device)", "make room")
        left[0] -= 1
        real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(file, "_write", write)
        yield


@pytest.mark.parametrize("name", ACTS)
def test_done_is_said_after_it_was_begun(here: Site, name: str) -> None:
    event, act = ACTS[name]
    before, since = changed(here.service), last(here)
    act(here.service)
    assert changed(here.service) != before
    entries = new(here, since)
    count = len(entries) // 2
    assert [e["event"] for e in entries] == ["begun"] * count + [event] * count
    assert {e["subject"] for e in entries[:count]} == {event}
    assert {e["of"] for e in entries[count:]} == {entries[count - 1]["seq"]}
    assert all(e["operator"] == "uid=0" for e in entries)


@pytest.mark.parametrize("name", ACTS)
def test_what_cannot_be_recorded_does_not_happen(here: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _, act = ACTS[name]
    before, since = changed(here.service), last(here)
    with full(here, monkeypatch, after=0), pytest.raises(Unavailable, match="No space left"):
        act(here.service)
    assert changed(here.service) == before and new(here, since) == []
    assert not here.service.core.audit._acts


@pytest.mark.parametrize("name", ACTS)
def test_what_fails_is_said_to_have_failed(here: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    event, act = ACTS[name]
    before, since = changed(here.service), last(here)
    store = here.service.core.store

    @contextmanager
    def broken(durable: bool = True) -> Iterator[Any]:
        raise Unavailable("provision.db", "cannot be written (disk I/O error)", "look at its file system")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "write", broken)
        with pytest.raises(Unavailable, match="disk I/O error"):
            act(here.service)
    assert changed(here.service) == before
    entries = new(here, since)
    assert [e["event"] for e in entries if e["event"] != "begun"] == ["failed"]
    assert (entries[-1]["subject"], entries[-1]["reason"]) == (event, "cannot be written (disk I/O error)")
    act(here.service)
    assert changed(here.service) != before


@pytest.mark.parametrize("name", ACTS)
def test_what_is_done_and_cannot_be_said_is_said_later_and_once(
    here: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    event, act = ACTS[name]
    before, since = changed(here.service), last(here)
    begun = 2 if name == "load" else 1
    with full(here, monkeypatch, after=begun):
        with pytest.raises(Unavailable, match=f"the {event} was done, but that cannot be recorded now"):
            act(here.service)
        with pytest.raises(Unavailable):
            here.service.core.note("anything", None)
    assert changed(here.service) != before
    here.service.core.note("anything", None)
    assert [e["event"] for e in new(here, since)] == ["begun"] * begun + [event] * begun + ["anything"]
    assert here.service.core.audit.verify().ok


def test_a_failure_that_cannot_be_said_is_said_later(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    core, since = here.service.core, last(here)
    with full(here, monkeypatch, after=1), pytest.raises(Conflict), core.act("apply", ROOT, added=1):
        raise Conflict("inventory", "has changed", "look again")
    core.tick()
    assert [(e["event"], e.get("reason")) for e in new(here, since)] == [("begun", None), ("failed", "has changed")]


def test_no_message_of_an_unforeseen_error_reaches_the_log(here: Site) -> None:
    with pytest.raises(RuntimeError), here.service.core.act("apply", ROOT):
        raise RuntimeError("a-secret")
    assert here.audit()[-1]["reason"] == "RuntimeError"
    assert b"a-secret" not in (here.state / "audit.log").read_bytes()


def test_an_override_is_said_when_the_network_is_served(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = Listen(network="mgmt", interface="lo", override={"default-route": "no other NIC"})
    kernel, since = SimpleNamespace(watch_links=lambda told: None), last(here)

    def start() -> None:
        async def started() -> None:
            networks = Networks(here.service, None, kernel, Unavailable("", ""))  # type: ignore[arg-type]
            networks._noted = noted
            await networks._start(listen, edge(), Machine({}))

        asyncio.run(started())

    noted = set[str]()

    def taken(*_: object) -> None:
        raise Unavailable("10.0.0.1:80", "is in use", "stop the other program")

    with monkeypatch.context() as patch:
        patch.setattr("provision.server.networks.bind_tcp", taken)
        for _ in range(2):
            with pytest.raises(Unavailable):
                start()
    assert [e["event"] for e in new(here, since)] == ["begun", "failed"] * 2

    seen = list[str]()

    async def serve(*_: object) -> None:
        seen.append(new(here, since)[-1]["event"])

    monkeypatch.setattr(Networks, "_open", serve)
    for _ in range(2):
        start()
    assert seen == ["begun", "override"], "it is on disk before anything is served, and said once"
    assert [e["event"] for e in new(here, since)[4:]] == ["begun", "override"]


# kill -9


def killed_at(state: Path, name: str, step: str) -> None:
    """Do the act in a process that is killed before its beginning is on disk, before it is done, or before it is
    said."""

    def work() -> None:
        service, real = Service.open(settings(state)), LogFile.append

        def append(self: LogFile, fields: Any, *rest: Any, **named: Any) -> None:
            if step == "begun" or (step == "said" and fields["event"] != "begun"):
                kill()
            real(self, fields, *rest, **named)

        with patch.object(LogFile, "append", append):
            if step == "act":
                service.core.store.database.write = kill  # type: ignore[method-assign]
            ACTS[name][1](service)

    killed(work)


@pytest.mark.integration
@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("step", ["begun", "act", "said"])
def test_a_kill_in_between_leaves_no_word_of_what_may_not_be(tmp_path: Path, name: str, step: str) -> None:
    state, (event, _) = closed_site(tmp_path), ACTS[name]
    service = Service.open(settings(state))
    prepare(service)
    before, since = changed(service), service.core.audit.entries(None, 1)[-1]["seq"]
    service.close()
    killed_at(state, name, step)
    service = Service.open(settings(state))
    try:
        assert (changed(service) != before) == (step == "said"), "the store is as it was, or as it was to be"
        entries = [entry for entry in service.core.audit.entries(None, 100) if entry["seq"] > since]
        told = [(e["event"], e.get("rule"), e.get("subject")) for e in entries if e["event"] != "begun"]
        assert told == ([] if step == "begun" else [("recovered", "unfinished", event)])
        if step != "begun":
            assert entries[-1]["of"] == entries[-2]["seq"] and "look at whether it happened" in entries[-1]["reason"]
        assert service.core.audit.verify().ok
    finally:
        service.close()
    again = Service.open(settings(state))
    assert again.core.audit.entries(None, 1)[-1]["seq"] == (entries[-1]["seq"] if entries else since), "it is said once"
    again.close()
