"""Attacks by a BMC that somebody else has: slow, nonsensical, pointing elsewhere; and by those who use one."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from provision.api.bmc import BootOrder, BootVia, ChangePower, NewBmc, PowerAction
from provision.api.operations import Operation, OperationState
from provision.api.tokens import NewToken
from provision.bmc import virtual_media
from provision.bmc.access import Pin
from provision.bmc.connection import Connection, Refused, Reply
from provision.bmc.machine import Machine
from provision.bmc.vendors import Via
from provision.errors import Conflict, ProvisionError, Unavailable
from provision.principal import PrincipalRole
from provision.secret import Secret
from provision.service import bmc_boots, bmcs
from provision.service.listeners import Listening
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Answer, Asked, Bmc, certificate, fingerprint, load, served
from tests.helpers.site_fixture import Site, site

CD, PXE = BootOrder(via=BootVia.CD), BootOrder(via=BootVia.PXE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(bmc_boots, "_LOOK_SECONDS", 0.01)
    with site(tmp_path) as opened:
        opened.service.listeners = lambda: {"mgmt": Listening("serving", True)}
        yield opened


@pytest.fixture
def bmc(here: Site) -> Iterator[Bmc]:
    with served() as there:
        order = NewBmc.model_construct(
            url=there.url,
            user=USER,
            password=PASSWORD.encode(),
            ca="",
            fingerprint=fingerprint(certificate()[0]),
            system="",
        )
        here.service.bmcs.put("node1", order, ROOT)
        yield there


def ended(here: Site, begun: Operation, seconds: float = 60) -> Operation:
    """The operation at its end."""
    for thread in threading.enumerate():
        if thread.name == f"operation {begun.id}":
            thread.join(seconds)
    return here.service.operations.get(begun.id, ROOT)


# One that is slow


def slowly(seconds: float) -> Callable[[Asked, BaseHTTPRequestHandler], None]:
    def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)

    return spoil


def test_a_slow_one_holds_nobody_for_long(here: Site, bmc: Bmc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its answers comes in time, and there are dozens: whoever asks has one of few places meanwhile."""
    monkeypatch.setattr(bmcs, "_PATIENCE", 1.0)
    bmc.spoils = slowly(0.3)
    for ask in (here.service.bmcs.check, here.service.bmcs.power):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="has not answered everything in 1 seconds"):
            ask("node1", ROOT)
        assert time.monotonic() - began < 10
    bmc.spoils = lambda asked, handler: None
    assert here.service.bmcs.check("node1", ROOT).problems == ()


def test_who_cancels_does_not_wait_for_a_slow_one(here: Site, bmc: Bmc) -> None:
    asked = threading.Event()

    def spoil(one: Asked, handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        time.sleep(1.0)

    bmc.spoils = spoil
    begun = here.service.bmcs.change_power("node1", ChangePower(action=PowerAction.ON), ROOT)
    assert asked.wait(60)
    here.service.operations.cancel(begun.id, ROOT)
    done = ended(here, begun)
    assert done.problem and "was cancelled" in done.problem.detail
    assert len(bmc.asked) <= 3 and bmc.orders() == []


def test_a_slow_one_makes_no_wait_longer(bmc: Bmc) -> None:
    """It says again and again that the machine is not there yet, a while after it was asked."""
    machine = Machine("node1", bmc.access(), pause=lambda seconds: None)
    began, asked = time.monotonic(), len(bmc.asked)
    bmc.spoils = slowly(0.2)
    with pytest.raises(Unavailable, match="took the order, but after 1 seconds"):
        machine.wait(lambda: bool(machine.get(machine.identity.system).get("none")), 1.0, "it is not so", "wait")
    assert time.monotonic() - began < 20 and len(bmc.asked) - asked <= 7


# One that says what it likes


class Told(Connection):
    """A connection to documents in memory: all that a BMC may say, without a network."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self.subject, self._documents = "node1: BMC", documents

    def request(self, method: str, path: str, body: Any = None, etag: str | None = None) -> Reply:
        if method != "GET":
            return Reply(204, {})
        found = self._documents.get(path.rstrip("/"))
        if found is None:
            raise Refused(self.subject, "answered 404", "look at its log", 404)
        return Reply(200, found if isinstance(found, dict) else {}, '"x"')


ODD: list[Any] = [
    None,
    0,
    -1,
    1e400,
    True,
    "",
    "\x1b[2J\r\n",
    "x" * 100_000,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"@odata.id": 1},
]
ODD += [{"Members": {}}, {"target": []}, "/redfish/v1/\x00", "\ud800", [{"@odata.id": "https://elsewhere.test/"}] * 500]


def spoiled(document: Any, odd: Any) -> Iterator[Any]:
    """The document again and again, each time with one of its values being `odd`."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield {**document, key: odd}
            for inner in spoiled(value, odd):
                yield {**document, key: inner}
    elif isinstance(document, list):
        for place, value in enumerate(document):
            for inner in spoiled(value, odd):
                yield [*document[:place], inner, *document[place + 1 :]]


def use(documents: Mapping[str, Any]) -> list[str]:
    """All that is done with a BMC; what it made the program say."""
    said: list[str] = []
    try:
        machine = Machine("node1", load("other").access(), lambda _: None, Told(documents))
    except ProvisionError as error:
        return [str(error)]
    drive = virtual_media.Slot("/redfish/v1/x", "x", True)

    def power() -> object:
        return machine.power()

    def slots() -> object:
        return [(slot.id, slot.path) for slot in virtual_media.slots(machine)]

    steps: list[Callable[[], object]] = [power, slots, lambda: machine.turn_off(True), machine.turn_on]
    steps += [lambda: machine.boot_once(Via.CD), machine.boot_as_usual, lambda: virtual_media.eject(machine, drive)]
    steps.append(
        lambda: virtual_media.insert(machine, virtual_media.slot(machine), Secret(b"https://10.0.0.1/b/x.iso"))
    )
    for step in steps:
        try:
            said.append(repr(step()))
        except ProvisionError as error:
            said.append(str(error))
    found = machine.identity
    return [*said, found.manufacturer, found.model, found.firmware]


@pytest.mark.parametrize("kind", ["other", "dell", "supermicro"])
def test_whatever_it_says_is_an_error_of_one_line(kind: str) -> None:
    """Every value of every document, one after the other, is what it should not be."""
    documents = load(kind).documents
    assert "Power.OFF" in use(documents)[0], "it is a BMC"
    for path, document in documents.items():
        for odd in ODD:
            for changed in spoiled(document, odd):
                for text in use({**documents, path: changed}):
                    assert text.isprintable() and len(text) < 2000, (path, odd)


_FOLLOWED = ("Systems", "VirtualMedia", "EthernetInterfaces")
ELSEWHERE = [
    "https://127.0.0.1:{}/redfish/v1/Systems",
    "//127.0.0.1:{}/redfish/v1/Systems",
    "/redfish/v1/Systems\r\nHost: 127.0.0.1:{}\r\n\r\nGET /",
    "/redfish/v1/../@127.0.0.1:{}/",
    "/redfish/v1/Systems?at=https://127.0.0.1:{}/",
    "\\\\127.0.0.1:{}\\redfish",
]


@pytest.mark.parametrize("place", ELSEWHERE)
def test_it_sends_nobody_elsewhere(bmc: Bmc, place: str) -> None:
    with served() as other:
        evil = place.format(other.port)
        references = [document[name] for document in bmc.documents.values() for name in _FOLLOWED if name in document]
        assert len(references) >= 3
        for one in references:
            kept = copy.deepcopy(one)
            one["@odata.id"] = evil
            with pytest.raises(Unavailable, match="not a path"):
                virtual_media.slots(Machine("node1", bmc.access()))
            one.clear()
            one.update(kept)
        bmc.system["Actions"]["#ComputerSystem.Reset"]["target"] = evil
        with pytest.raises(Unavailable, match="not a path"):
            Machine("node1", bmc.access()).turn_on()
        assert other.asked == [] and bmc.orders() == []
        assert all("\r" not in one.path and "127.0.0.1" not in one.path for one in bmc.asked)


def test_a_certificate_that_changes_between_two_requests(bmc: Bmc) -> None:
    """Whoever takes its address in the middle of a piece of work hears no password and no link."""
    connection = Connection("node1", bmc.access(), seconds=10.0)
    assert connection.request("GET", "/redfish/v1").status == 200
    for pin in (None, Pin(certificate()[0])):
        with served(names=certificate("other")) as other:
            later = Connection("node1", bmc.access(pin=pin), seconds=10.0)
            later.request("GET", "/redfish/v1")
            object.__setattr__(later._access, "port", other.port)
            with pytest.raises(Unavailable, match="certificate"):
                later.request("POST", "/redfish/v1/x", {"Image": "https://10.0.0.1/b/secret.iso"})
            assert other.asked == []


# Those who use it


def test_of_many_boots_of_one_host_one_begins(here: Site, bmc: Bmc) -> None:
    gate, begun, refused = threading.Barrier(12), list[Operation](), list[Conflict]()
    hold = threading.Event()

    def held(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        hold.wait(20)

    bmc.spoils = held

    def begin(number: int) -> None:
        gate.wait(20)
        try:
            if number % 3:
                begun.append(here.service.bmc_boots.begin("node1", CD if number % 2 else PXE, ROOT))
            else:
                begun.append(here.service.bmcs.change_power("node1", ChangePower(action=PowerAction.OFF), ROOT))
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(begun), len(refused)) == (1, 11)
    here.service.operations.cancel(begun[0].id, ROOT)
    hold.set()
    assert ended(here, begun[0]).state is not OperationState.RUNNING


@pytest.mark.parametrize("order", [CD, PXE], ids=["cd", "pxe"])
def test_a_boot_goes_no_step_further_when_its_token_is_revoked(here: Site, bmc: Bmc, order: BootOrder) -> None:
    """What was begun with a stolen token opens no window and switches nothing once the token is revoked."""
    here.service.tokens.create(NewToken(name="thief", role=PrincipalRole.OPERATOR, days=1), ROOT)
    (thief,) = (known.principal for known, _ in here.service.core.store.tokens.all())
    done: list[Asked] = []

    def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        if not done:
            done.append(asked)
            here.service.tokens.revoke("thief", ROOT)

    bmc.spoils = spoil
    done_with = ended(here, here.service.bmc_boots.begin("node1", order, thief))
    assert done_with.problem and "no valid token any more" in done_with.problem.detail
    store = here.service.core.store
    assert bmc.orders() == [] and here.audit("window-opened") == [] and here.audit("link-made") == []
    assert store.bmc_boots.all() == []


@pytest.mark.parametrize("order", [CD, PXE], ids=["cd", "pxe"])
def test_a_boot_ends_when_its_token_is_revoked(here: Site, bmc: Bmc, order: BootOrder) -> None:
    here.service.tokens.create(NewToken(name="thief", role=PrincipalRole.OPERATOR, days=1), ROOT)
    (thief,) = (known.principal for known, _ in here.service.core.store.tokens.all())
    on = threading.Event()

    def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        if asked.method == "GET" and bmc.system["PowerState"] == "On":
            on.set()

    bmc.spoils = spoil
    begun = here.service.bmc_boots.begin("node1", order, thief)
    assert on.wait(60)
    here.service.tokens.revoke("thief", ROOT)
    done, store = ended(here, begun), here.service.core.store
    assert done.problem and "no valid token any more" in done.problem.detail
    assert bmc.system["PowerState"] == "Off" and not bmc.drive["Inserted"] and store.bmc_boots.all() == []
    window = store.windows.of("node1")
    assert window is None or window.closed


def always(answer: Answer, asked: Asked, handler: BaseHTTPRequestHandler) -> Answer:
    """The same to every request."""
    return answer


def test_a_password_is_nowhere_but_on_its_way(here: Site, bmc: Bmc, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the BMC answers: it is in no answer, log, file or argument vector."""
    caplog.set_level(0)
    texts: list[str] = []
    answers: list[Answer] = [
        (500, {}, json.dumps({"error": {"code": PASSWORD}}).encode()),
        (302, {"Location": PASSWORD}, b""),
    ]
    answers += [(200, {"ETag": f'"{PASSWORD}"'}, json.dumps({"Vendor": PASSWORD, "Systems": PASSWORD}).encode())]
    answers += [(401, {"WWW-Authenticate": PASSWORD}, PASSWORD.encode()), (404, {}, PASSWORD.encode())]
    for answer in answers:
        bmc.spoils = partial(always, answer)
        for ask in (here.service.bmcs.check, here.service.bmcs.power):
            with pytest.raises(ProvisionError) as told:
                ask("node1", ROOT)
            texts += [str(told.value), repr(told.value), str(told.value.details()), repr(told.value.__dict__)]
        done = ended(here, here.service.bmc_boots.begin("node1", CD, ROOT))
        assert done.state is OperationState.FAILED
        texts.append(repr(done))
    texts += [caplog.text, *map(str, here.audit())]
    assert not any(PASSWORD in text for text in texts)
    files = [path.read_bytes() for path in here.state.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in files)
