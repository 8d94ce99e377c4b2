"""Many hosts: chosen, confirmed with what would be refused, done, followed and cancelled."""

from __future__ import annotations

import html
import re
import threading

import pytest

from provision.principal import PrincipalRole
from provision.service import overview
from provision.service.selections import Action
from provision.web.pages import selection
from tests.helpers.browser import Browser, logged_in, pages_of
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, Reply, Site

ALL = ("node1", "node2", "node3")


def hidden(reply: Reply, name: str) -> str:
    found = re.search(rf'type="hidden" name="{name}" value="([^"]*)"', reply.body.decode())
    assert found, name
    return html.unescape(found[1])


def operator(here: Site) -> Browser:
    return logged_in(here, PrincipalRole.OPERATOR)


def ended(here: Site, reply: Reply, browser: Browser) -> str:
    """The page of the batch that a form has begun, at its end."""
    assert reply.status == 303 and reply.headers["location"].startswith("/batches/")
    id_ = reply.headers["location"].rpartition("/")[2]
    for thread in threading.enumerate():
        if thread.name == f"batch {id_}":
            thread.join(60)
    return browser.get(f"/batches/{id_}").body.decode()


def test_hosts_have_boxes_and_actions_for_operators(here: Site) -> None:
    browser = operator(here)
    body = browser.get("/hosts").body.decode()
    assert body.count('type="checkbox" name="host"') == 3 and "All 3 hosts</label>" in body
    for action in Action:
        assert f'name="action" value="{action}"' in body
    assert "All 2 hosts that match</label>" in browser.get("/hosts?label=rack&value=a").body.decode()
    assert b"All 0" not in browser.get("/hosts?search=nothing").body


def test_the_page_before_says_who_would_be_refused_and_does_nothing(here: Site) -> None:
    browser = operator(here)
    reply = browser.get("/selection?action=window&host=node1&host=node3&host=node1")
    text = html.unescape(reply.body.decode())
    assert "Open window: 2 hosts" in text and "1 of 2 would be refused" in text
    assert "<code>netboot-never</code>" in text and "Set 'netboot: window' for node3" in text
    assert hidden(reply, "hosts") == "node1 node3"
    assert here.audit("window-opened") == [] and CANARY not in reply.body


def test_windows_are_opened_and_who_is_refused_is_told(here: Site) -> None:
    browser = operator(here)
    first = browser.get("/selection?action=window&host=node1&host=node2&host=node3")
    names, seen = hidden(first, "hosts"), hidden(first, "seen")
    reply = browser.post("/selection", action="window", hosts=names, seen=seen, minutes="7", boots="")
    text = ended(here, reply, browser)
    assert "Finished." in text and "2 done" in text and "1 not done" in text
    assert "Set 'netboot: window' for node3" in html.unescape(text) and "Cancel the rest" not in text
    opened = here.audit("window-opened")
    assert sorted((e["host"], e["minutes"], e["operator"]) for e in opened) == [
        ("node1", 7, "token:operator"),
        ("node2", 7, "token:operator"),
    ]


def test_all_that_match_are_more_than_the_page(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "PAGE", 1)
    browser = operator(here)
    first = browser.get("/selection?action=window&all=yes&label=rack&value=a&host=node3")
    assert "Open window: 2 hosts" in first.body.decode()
    assert "All 2 hosts that match, on every page" in browser.get("/hosts?label=rack&value=a").body.decode()
    fields = {name: hidden(first, name) for name in ("action", "seen", "all", "label", "value")}
    here.apply(INVENTORY.replace("    netboot: never\n", "    netboot: window\n    labels: {rack: a}\n"))
    again = browser.post("/selection", None, **fields)
    assert again.status == 200 and "Open window: 3 hosts" in again.body.decode(), "another host matches by now"
    assert here.audit("window-opened") == []
    text = ended(here, browser.post("/selection", None, **(fields | {"seen": hidden(again, "seen")})), browser)
    assert "3 done" in text


def test_one_host_is_done_at_once_and_its_error_is_the_answer(here: Site) -> None:
    browser = operator(here)

    def post(name: str, minutes: str = "") -> Reply:
        seen = hidden(browser.get(f"/selection?action=window&host={name}"), "seen")
        return browser.post("/selection", action="window", hosts=name, seen=seen, minutes=minutes)

    assert post("node1").headers["location"] == "/hosts/node1" and len(here.audit("window-opened")) == 1
    refused = post("node1", "99999")
    assert refused.status == 422 and b"Way out" in refused.body


def test_nobody_goes_on_when_all_would_be_refused(here: Site) -> None:
    browser = operator(here)
    asked = browser.get("/selection?action=window&host=node3")
    assert b"There is nothing to go on with" in asked.body and b'name="seen"' not in asked.body
    refused = here.service.selections.refusals(["node3"], Action.WINDOW, ROOT)
    for seen in (selection.fingerprint(Action.WINDOW, ("node3",), refused), "0" * 64):
        again = browser.post("/selection", action="window", hosts="node3", seen=seen)
        assert again.status == 200 and b"There is nothing to go on with" in again.body
    assert here.audit("window-opened") == []


def test_who_was_shown_as_refused_stays_out_of_it(here: Site) -> None:
    """Somebody has read that two hosts are left alone: that holds whatever is applied meanwhile."""
    browser = operator(here)
    first = browser.get("/selection?action=window&host=node1&host=node2&host=node3")
    fields = {name: hidden(first, name) for name in ("action", "hosts", "seen")}
    here.apply(INVENTORY.replace("    netboot: never\n", "    netboot: window\n"))
    again = browser.post("/selection", None, **fields)
    assert again.status == 200 and b"No host would be refused" in again.body
    assert here.audit("window-opened") == []
    text = ended(here, browser.post("/selection", None, **(fields | {"seen": hidden(again, "seen")})), browser)
    assert "3 done" in text


def test_a_form_that_is_sent_twice_is_done_once(here: Site) -> None:
    browser = operator(here)
    first = browser.get("/selection?action=link-iso&host=node1")
    fields = {name: hidden(first, name) for name in ("action", "hosts", "seen", "once")}
    wrong = browser.post("/selection", None, **fields, minutes="x")
    assert wrong.status == 422, "by which nothing was done"
    assert browser.post("/selection", None, **fields).status == 200
    twice = browser.post("/selection", None, **fields)
    assert twice.status == 409 and b"was sent already" in twice.body
    assert len(here.audit("link-made")) == 1
    assert hidden(browser.get("/selection?action=link-iso&host=node1"), "once") != fields["once"]


def test_links_are_shown_once_as_a_list(here: Site) -> None:
    here.apply(INVENTORY.replace("    netboot: always\n", "    netboot: always\n    storage: none\n"))
    browser = operator(here)
    first = browser.get("/selection?action=link-disk&all=yes")
    fields = {name: hidden(first, name) for name in ("action", "seen", "all")}
    assert "1 of 3 would be refused" in first.body.decode()
    reply = browser.post("/selection", None, **fields, minutes="5", uses="2")
    text = html.unescape(reply.body.decode())
    found = re.findall(r"^(?:<pre[^>]*>)?(node\d) (http://\S+/b/\w{26}\.img)", text, re.MULTILINE)
    assert [name for name, _ in found] == ["node1", "node3"] and "<code>no-storage</code>" in text
    assert reply.headers["cache-control"] == "no-store"
    secret = found[0][1].rpartition("/")[2].partition(".")[0]
    assert secret not in str(here.audit()) and secret.encode() not in browser.get("/hosts/node1").body


def test_too_many_links_are_not_made(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.service.selections.MOST_LINKS", 2)
    monkeypatch.setattr(selection, "MOST_LINKS", 2)
    browser = operator(here)
    first = browser.get("/selection?action=link-iso&all=yes")
    assert b"Too many:" in first.body and b'name="seen"' not in first.body
    refused = here.service.selections.refusals(ALL, Action.LINK_ISO, ROOT)
    seen = selection.fingerprint(Action.LINK_ISO, ALL, refused)
    assert browser.post("/selection", action="link-iso", all="yes", seen=seen).status == 422
    assert here.audit("link-made") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("action=window", 422),
        ("action=window&all=yes&search=nothing", 422),
        ("action=dance&host=node1", 422),
        ("host=node1", 422),
        ("action=window&host=Node1", 422),
        ("action=window&host=node9", 404),
        ("action=window&all=yes&state=dancing", 422),
    ],
)
def test_what_cannot_be_chosen(here: Site, query: str, status: int) -> None:
    browser = operator(here)
    assert browser.get(f"/selection?{query}").status == status
    fields = dict(part.partition("=")[::2] for part in query.replace("host=", "hosts=").split("&"))
    assert browser.post("/selection", None, **fields).status == status
    assert here.audit("window-opened") == []


def test_numbers_are_numbers(here: Site) -> None:
    browser, seen = operator(here), selection.fingerprint(Action.WINDOW, ("node1",))
    for field in ("minutes", "boots"):
        fields = {"action": "window", "hosts": "node1", "seen": seen, field: "x"}
        assert browser.post("/selection", None, **fields).status == 422


def test_hosts_that_are_no_longer_theirs_are_in_no_batch_of_theirs(here: Site) -> None:
    here.apply(INVENTORY.replace("    netboot: never\n", "    netboot: never\n    labels: {rack: a}\n"))
    pages = pages_of(here)
    browser = logged_in(here, PrincipalRole.OPERATOR, app=pages, name="a", selector={"rack": "a"})
    other = logged_in(here, PrincipalRole.OPERATOR, app=pages, name="b", selector={"rack": "a"})
    first = browser.get("/selection?action=window&all=yes")
    fields = {name: hidden(first, name) for name in ("action", "seen", "all")}
    begun = browser.post("/selection", None, **fields)
    assert "3 hosts" in ended(here, begun, browser) and "node2" in other.get(begun.headers["location"]).body.decode()
    here.apply(INVENTORY.replace("    labels: {rack: a}\n    credentials", "    labels: {rack: b}\n    credentials"))
    left = browser.get(begun.headers["location"]).body.decode()
    gone = [name for name in ALL if here.service.core.hosts[name].labels.get("rack") != "a"]
    assert gone and not any(name in left for name in gone) and f"{3 - len(gone)} host" in left
    assert other.get(begun.headers["location"]).status == 404
    assert browser.post(f"{begun.headers['location']}/cancel").status == 303


def test_a_batch_is_followed_and_cancelled_by_who_sees_its_hosts(here: Site) -> None:
    go = threading.Event()
    pages = pages_of(here)
    browser = logged_in(here, PrincipalRole.OPERATOR, app=pages)
    other = logged_in(here, PrincipalRole.OPERATOR, app=pages, name="other", selector={"rack": "b"})

    def wait(name: str) -> None:
        assert go.wait(60)

    batch = here.service.batches.begin("Open window", ALL, wait, ROOT)
    body = browser.get(f"/batches/{batch.id}").body
    assert b"3 waiting" in body and b"Cancel the rest" in body
    for path in (f"/batches/{batch.id}", f"/batches/{batch.id}/events", f"/batches/{'0' * 12}"):
        assert other.get(path).status == 404
    assert other.post(f"/batches/{batch.id}/cancel").status == 404 and not batch.cancelled.is_set()
    assert browser.get("/batches/x").status == 422
    assert browser.post(f"/batches/{batch.id}/cancel").status == 303 and batch.cancelled.is_set()
    go.set()
