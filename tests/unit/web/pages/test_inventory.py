"""An inventory is applied when its difference was seen, and not otherwise."""

from __future__ import annotations

import re

from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import INVENTORY, Reply, Site

CHANGED = INVENTORY.replace("rack: a", "rack: b")


def seen(reply: Reply) -> str:
    found = re.search(rb'name="seen" value="(\w*)"', reply.body)
    assert found
    return found[1].decode()


def test_the_difference_is_shown_then_made(here: Site) -> None:
    browser = logged_in(here)
    first = browser.post("/inventory", text=CHANGED)
    assert b"~ node1: labels.rack: &#34;a&#34; -&gt; &#34;b&#34;" in first.body or b"labels.rack" in first.body
    assert here.service.core.hosts["node1"].labels == {"rack": "a"}
    second = browser.post("/inventory", text=CHANGED.replace("\n", "\r\n"), seen=seen(first))
    assert b"Applied." in second.body and here.service.core.hosts["node1"].labels == {"rack": "b"}
    assert here.audit("apply")[-1]["operator"] == "token:admin"


def test_another_text_than_was_seen_is_shown_first(here: Site) -> None:
    browser = logged_in(here)
    first = browser.post("/inventory", text=CHANGED)
    other = CHANGED.replace("rack: b", "rack: c")
    again = browser.post("/inventory", text=other, seen=seen(first))
    assert b"Applied." not in again.body and seen(again) != seen(first)
    with_prune = browser.post("/inventory", text=CHANGED, prune="yes", seen=seen(first))
    assert b"Applied." not in with_prune.body
    assert here.service.core.hosts["node1"].labels == {"rack": "a"}


def test_a_store_that_has_changed_is_shown_first(here: Site) -> None:
    browser = logged_in(here)
    first = browser.post("/inventory", text=CHANGED)
    here.apply(INVENTORY.replace("rack: a", "rack: d"))
    assert b"Applied." not in browser.post("/inventory", text=CHANGED, seen=seen(first)).body
    assert here.service.core.hosts["node1"].labels == {"rack": "d"}


def test_every_problem_is_shown_and_the_text_kept(here: Site) -> None:
    reply = logged_in(here).post("/inventory", text=CHANGED.replace("10.0.0.11", "10.9.0.11").replace("never", "nevr"))
    assert reply.status == 422 and reply.body.count(b"<li>inventory.yaml:") == 2 and b"10.9.0.11" in reply.body
    assert seen(reply) == ""


def test_removing_many_hosts_takes_a_yes(here: Site) -> None:
    browser = logged_in(here)
    text = INVENTORY[: INVENTORY.index("  node2:")]
    first = browser.post("/inventory", text=text, prune="yes")
    assert b"- node2" in first.body and b'name="confirmed"' in first.body
    assert browser.post("/inventory", text=text, prune="yes", seen=seen(first)).status == 409
    assert len(here.service.core.hosts) == 3
    done = browser.post("/inventory", text=text, prune="yes", confirmed="yes", seen=seen(first))
    assert b"Applied." in done.body and here.service.core.hosts.keys() == {"node1"}
