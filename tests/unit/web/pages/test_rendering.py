"""Whatever strings an inventory, an unknown machine, the log or a request has: in a page they are text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel

from provision.api.audit import AuditEntry, Verified
from provision.api.bmc import BmcRow, HostPower
from provision.api.operations import OperationState
from provision.api.problem import ProblemDocument
from provision.errors import Invalid
from provision.inventory.diff import Difference
from provision.principal import PrincipalRole
from provision.service.batches import Batch, Progress, Row
from provision.service.link_reads import Read
from provision.service.listeners import Listening
from provision.service.operations import Order, _Known
from provision.service.proving import Attempt
from provision.service.selections import Action
from provision.web.pages.selection import fingerprint
from tests.helpers.browser import Browser, logged_in
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.rollouts import begin_rollout
from tests.helpers.site_fixture import INVENTORY, STRANGER, Site, request
from tests.helpers.tpm_samples import tpm

EVIL = '</textarea></title><script>alert(1)</script><img src=x onerror=alert(2)>\'" autofocus onfocus=alert(3) x="'
SERVICE = [
    ("inventories", "host", "/hosts/node1"),
    ("reports", "explain", "/hosts/node1"),
    ("overview", "host", "/hosts/node1"),
    ("overview", "contents", "/hosts/node1"),
    ("credentials", "listing", "/hosts/node1"),
    ("links", "listing", "/hosts/node1"),
    ("overview", "hosts", "/hosts"),
    ("reports", "unknown", "/unknown"),
    ("overview", "groups", "/site"),
    ("operations", "latest", "/hosts/node1"),
    ("bmcs", "get", "/hosts/node1"),
    ("bmcs", "power", "/hosts/node1/power"),
    ("selections", "refusals", "/selection?action=window&host=node3"),
    ("batches", "get", "/batches/000000000000"),
    ("images", "listing", "/images"),
    ("images", "listing", "/rollout"),
    ("rollouts", "status", "/rollout"),
    ("rollouts", "status", "/rollout/rollback"),
    ("links", "read", "/hosts/node1"),
    ("reports", "health", "/networks"),
    ("overview", "networks", "/networks"),
    ("tpms", "states", "/tpms"),
    ("tpms", "of", "/hosts/node1"),
    ("auditing", "entries", "/audit"),
    ("tokens", "listing", "/tokens"),
]


def hostile(value: Any) -> Any:
    """The same with every string that is not of a fixed set replaced, and every null by a string where there may be
    one."""
    if isinstance(value, Enum) or value is None:
        return value
    if isinstance(value, str):
        return EVIL
    if isinstance(value, BaseModel):
        if isinstance(value, AuditEntry):
            return AuditEntry.model_construct({name: hostile(inner) for name, inner in value.root.items()})
        inner = {name: hostile(getattr(value, name)) for name in type(value).model_fields}
        return type(value).model_construct(**inner)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: hostile(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, dict):
        return {hostile(key): hostile(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(hostile(inner) for inner in value)
    return value


def harmless(browser: Browser, path: str, **form: str) -> str:
    """The page, in which nothing of EVIL is markup."""
    reply = browser.post(path, None, **form) if form else browser.get(path)
    text = reply.body.decode()
    assert reply.status < 500, path
    for markup in ("<script>alert", "<img", "</textarea></title>", '" autofocus', "' autofocus", "\"'", "'\""):
        assert markup not in text, (path, markup)
    return text


@pytest.mark.parametrize(("part", "method", "path"), SERVICE)
def test_every_string_of_the_service_is_text(
    here: Site, monkeypatch: pytest.MonkeyPatch, part: str, method: str, path: str
) -> None:
    browser = logged_in(here)
    here.window()
    make(here)
    here.service.core.store.sightings.seen(STRANGER, "a uuid", "mgmt", here.clock())
    here.service.core.alerts.raise_("node1", "seed-read-again", "alert", here.clock())
    here.service.core.store.tpms.put(tpm("node1", at=here.clock()))
    here.service.listeners = lambda: {"mgmt": Listening("served", True), "[api]": Listening("begins", False)}
    made = BmcRow.model_construct(host="node1", url="", user="", known_by="", system="", set="", by="")
    monkeypatch.setattr(here.service.bmcs, "get", lambda *_: made)
    read = Read("a", "iso", here.clock(), 1, {"kernel": 1})
    monkeypatch.setattr(here.service.links, "read", lambda _: read)
    if path.startswith("/rollout/"):
        begin_rollout(here)
    if (part, path) == ("rollouts", "/rollout"):
        begin_rollout(here)
        monkeypatch.setattr(here.service.reports, "of_hosts", lambda *_: [])
    monkeypatch.setattr(here.service.bmcs, "power", lambda *_: HostPower.model_construct(host="node1", power="on"))
    problem = ProblemDocument(fact="a", remedy="b", rule="c")
    known = _Known("0" * 12, Order("a", "node1"), "b", (), here.clock())
    done = replace(known, steps=("c",), state=OperationState.FAILED)
    here.service.operations._known[done.id] = replace(done, problem=problem)
    rows = {"node1": Row("node1", Progress.FAILED, "a", "b")}
    here.service.batches._known["0" * 12] = Batch("0" * 12, "a", ROOT, here.clock(), rows)
    owner = getattr(here.service, part)
    original: Callable[..., Any] = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda *args, **named: hostile(original(*args, **named)))
    assert "&lt;script&gt;alert(1)" in harmless(browser, path)


MADE = [
    ("links", "make", "/hosts/node1/links", {"medium": "iso"}),
    ("tokens", "create", "/tokens", {"name": "another", "role": "reader"}),
    ("inventories", "preview", "/inventory", {"text": INVENTORY}),
    ("rollouts", "roll_back", "/rollout/rollback", {}),
    ("compromises", "declare", "/hosts/node1/compromised", {"sure": "yes"}),
]


@pytest.mark.parametrize(("part", "method", "path", "form"), MADE)
def test_what_a_form_has_made_is_text(
    here: Site, monkeypatch: pytest.MonkeyPatch, part: str, method: str, path: str, form: dict[str, str]
) -> None:
    browser, owner = logged_in(here), getattr(here.service, part)
    begin_rollout(here)
    seen = {"seen": browser.look(path)} if method == "roll_back" else {}
    original: Callable[..., Any] = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda *args, **named: hostile(original(*args, **named)))
    monkeypatch.setattr(Difference, "lines", lambda _: [EVIL])
    assert "&lt;script&gt;alert(1)" in harmless(browser, path, **form, **seen)


STREAMS = [
    ("overview", "hosts", "/events"),
    ("overview", "host", "/hosts/node1/events"),
    ("overview", "groups", "/site/events"),
    ("rollouts", "status", "/rollout/events"),
    ("batches", "get", "/batches/000000000000/events"),
]


@pytest.mark.parametrize(("part", "method", "path"), STREAMS)
def test_what_a_stream_brings_is_text(
    here: Site, monkeypatch: pytest.MonkeyPatch, part: str, method: str, path: str
) -> None:
    """The script of the page puts it in as it is."""
    browser, owner = logged_in(here), getattr(here.service, part)
    here.service.core.alerts.raise_("node1", "seed-read-again", "alert", here.clock())
    rows = {"node1": Row("node1", Progress.FAILED, "a", "b")}
    here.service.batches._known["0" * 12] = Batch("0" * 12, "a", ROOT, here.clock(), rows)
    begin_rollout(here)
    if part == "rollouts":
        monkeypatch.setattr(here.service.reports, "of_hosts", lambda *_: [])  # no host has such a name
    original: Callable[..., Any] = getattr(owner, method)
    monkeypatch.setattr(owner, method, lambda *args: hostile(original(*args)))
    left = [lambda: None, here.service.sessions.close]
    headers = {**browser.headers, "cookie": browser.cookie}
    reply = request(browser.app, "GET", path, headers=headers, on_body=lambda: left.pop(0)() if left else None)
    text = reply.body.decode()
    assert "&lt;script&gt;alert(1)" in text and "event: ended" in text
    assert not any(markup in text for markup in ("<script", "<img", '" autofocus'))


def test_what_a_proof_and_a_warning_say_is_text(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(here)
    here.apply(INVENTORY.replace("    credentials: [token]\n", "    credentials: [token]\n    tpm: online\n", 1))
    here.service.core.store.tpms.put(tpm("node1", at=here.clock()))
    monkeypatch.setattr(here.service.proving, "last", lambda _: Attempt(EVIL, here.clock()))
    assert "&lt;script&gt;alert(1)" in harmless(browser, "/hosts/node1")
    here.service.core.cautions.append(lambda: [Invalid(EVIL, EVIL, EVIL)])
    assert "&lt;script&gt;alert(1)" in harmless(browser, "/networks")


def test_what_is_wrong_with_the_log_is_text(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(here)
    verified = Verified(ok=False, entries=1, starts=1, problems=(EVIL,))
    monkeypatch.setattr(here.service.auditing, "verify", lambda *_: verified)
    assert "The chain is broken" in (text := harmless(browser, "/audit/chain")) and "&lt;script&gt;alert(1)" in text


def test_an_unknown_machine_says_what_it_likes(here: Site) -> None:
    browser = logged_in(here)
    here.service.core.store.sightings.seen(EVIL, EVIL, EVIL, here.clock())
    assert "&lt;img" in harmless(browser, "/unknown")


@pytest.mark.parametrize(
    "path",
    [
        "/selection?action={}&host=node1",
        "/selection?action=window&host={}",
        "/selection?action=window&all=yes&search={}&label={}&value={}",
        "/site?by={}",
        "/batches/{}",
        "/hosts?state={}",
        "/hosts?search={}&label={}&value={}",
        "/hosts?label={}",
        "/audit?search={}",
        "/audit?host={}",
        "/unknown/adopt?mac={}&network={}&name={}",
        "/hosts?first={}",
        "/{}",
        "/hosts/{}",
        "/hosts/node1/media/{}",
    ],
)
def test_a_request_says_what_it_likes(here: Site, path: str) -> None:
    harmless(logged_in(here), path.replace("{}", quote(EVIL, safe="") if "?" in path else EVIL.replace("/", "")))


def test_forms_say_what_they_like(here: Site) -> None:
    browser = logged_in(here)
    assert "&lt;/textarea&gt;" in harmless(browser, "/inventory", text=EVIL)
    assert "&lt;/textarea&gt;" in harmless(browser, "/inventory", text=f"site:\n  domain: {EVIL!r}\n")
    assert "&lt;/textarea&gt;" in harmless(browser, "/inventory", **{"text-2": "a: b", "name-2": EVIL[:90]})
    seen = fingerprint(Action.WINDOW, ("node1",))
    harmless(browser, "/selection", action="window", hosts="node1", seen=seen, minutes=EVIL)
    harmless(browser, "/selection", action=EVIL, hosts=EVIL, seen=EVIL)
    wrong = {"url": EVIL, "user": EVIL, "password": EVIL, "ca": EVIL, "system": EVIL, "fingerprint": EVIL}
    assert "&lt;/textarea&gt;" in harmless(browser, "/hosts/node1/bmc", **wrong)
    harmless(browser, "/rollout", base=EVIL, selector=EVIL, percent=EVIL, failures=EVIL, minutes=EVIL)
    harmless(browser, "/hosts/node1/links", medium="iso", once=EVIL)
    harmless(browser, "/hosts/node1/operation/cancel", operation=EVIL)
    harmless(browser, "/tokens", name=EVIL, role=EVIL, days=EVIL, selector=EVIL)
    harmless(browser, "/hosts/node1/window", minutes=EVIL, boots=EVIL)


def test_an_adoption_is_shown_as_text(here: Site) -> None:
    browser = logged_in(here)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    text = harmless(browser, f"/unknown/adopt?mac={STRANGER}&network=mgmt&name={quote(EVIL, safe='')}")
    assert "<h2>The inventory fragment</h2>" not in text


def test_an_error_is_shown_as_text(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)

    def refuse(*_: object) -> None:
        raise Invalid(EVIL, EVIL, EVIL)

    monkeypatch.setattr(here.service.windows, "open", refuse)
    assert "&lt;script&gt;" in harmless(browser, "/hosts/node1/window", minutes="1")


def test_a_failure_that_nobody_foresaw_is_not_told(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = logged_in(here)

    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(here.service.images, "listing", fail)
    reply = browser.get("/images")
    assert reply.status == 500 and b"a secret" not in reply.body
    assert "content-security-policy" in reply.headers
