"""An inventory is applied when its difference was seen, and not otherwise."""

from __future__ import annotations

import re

import pytest

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
    assert b"labels.rack: a -&gt; b" in first.body
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


HOSTS = INVENTORY[INVENTORY.index("hosts:") :]
SITE = INVENTORY[: INVENTORY.index("hosts:")]
SEVERAL = {"text": SITE, "name": "site.yaml", "text-2": HOSTS.replace("rack: a", "rack: b", 1), "name-2": "rack.yaml"}


def test_several_files_are_shown_each_by_itself_then_made(here: Site) -> None:
    browser = logged_in(here)
    first = browser.post("/inventory", None, **SEVERAL)
    text = first.body.decode()
    assert text.index("<h3>site.yaml</h3>\n<p>Nothing.</p>") < text.index("<h3>rack.yaml</h3>")
    assert text.index("<h3>rack.yaml</h3>") < text.index("~ node1: labels.rack: a -&gt; b")
    assert 'value="rack.yaml"' in text
    for other in ({"name-2": "other.yaml"}, {"text-2": HOSTS.replace("rack: a", "rack: c", 1)}):
        again = browser.post("/inventory", None, **(SEVERAL | other), seen=seen(first))
        assert b"Applied." not in again.body, "what is applied was looked at"
    assert b"Applied." in browser.post("/inventory", None, **SEVERAL, seen=seen(first)).body
    assert here.service.core.hosts["node1"].labels == {"rack": "b"}


def test_problems_are_told_by_file_and_line(here: Site) -> None:
    wrong = HOSTS.replace("10.0.0.11", "10.9.0.11").replace("never", "nevr")
    reply = logged_in(here).post("/inventory", None, **(SEVERAL | {"text": SITE + "x: 1\n", "text-2": wrong}))
    text = reply.body.decode()
    assert reply.status == 422 and "<h2>rack.yaml</h2>" in text and "<h2>site.yaml</h2>" in text
    line = HOSTS[: HOSTS.index("never")].count("\n") + 1
    assert f"<li>rack.yaml:{line}" in text and seen(reply) == ""


def test_removed_hosts_are_in_no_file(here: Site) -> None:
    text = HOSTS[: HOSTS.index("  node3:")]
    reply = logged_in(here).post("/inventory", None, **(SEVERAL | {"text-2": text}), prune="yes")
    body = reply.body.decode()
    assert body.index("In no file: removed") < body.index("- node3")


def test_another_file_is_asked_for_and_empty_ones_are_left_out(here: Site) -> None:
    browser = logged_in(here)
    more = browser.post("/inventory", text=CHANGED, more="yes")
    assert b'name="text-2"' in more.body and b'name="text-3"' not in more.body and seen(more) == ""
    first = browser.post("/inventory", None, **{"text": " ", "text-2": CHANGED, "name-2": "", "text-3": ""})
    assert b"<h3>inventory-2.yaml</h3>" in first.body and b'name="text-2"' not in first.body


@pytest.mark.parametrize("name", ["x" * 101, "a\nb", "\x1b[31m"])
def test_a_name_that_no_file_has(here: Site, name: str) -> None:
    reply = logged_in(here).post("/inventory", None, **(SEVERAL | {"name-2": name}))
    assert reply.status == 422 and b"is not a valid name for a file" in reply.body and b"x" * 101 not in reply.body


def test_two_files_of_one_name(here: Site) -> None:
    reply = logged_in(here).post("/inventory", None, **(SEVERAL | {"name-2": "site.yaml"}))
    assert reply.status == 422 and b"is the name of two files" in reply.body


@pytest.mark.parametrize("field", ["text-101", "text-0", "text-x", "texts"])
def test_a_file_that_would_be_left_out_unsaid(here: Site, field: str) -> None:
    """With "remove hosts that are in none of these files", its hosts would go."""
    reply = logged_in(here).post("/inventory", None, **(SEVERAL | {field: "hosts: {}"}))
    assert reply.status == 422 and b"has more than 100 files" in reply.body


def test_no_file_at_all(here: Site) -> None:
    assert b"the file is empty" in logged_in(here).post("/inventory", text="").body


def test_removing_many_hosts_takes_a_yes(here: Site) -> None:
    browser = logged_in(here)
    text = INVENTORY[: INVENTORY.index("  node2:")]
    first = browser.post("/inventory", text=text, prune="yes")
    assert b"- node2" in first.body and b'name="confirmed"' in first.body
    assert browser.post("/inventory", text=text, prune="yes", seen=seen(first)).status == 409
    assert len(here.service.core.hosts) == 3
    done = browser.post("/inventory", text=text, prune="yes", confirmed="yes", seen=seen(first))
    assert b"Applied." in done.body and here.service.core.hosts.keys() == {"node1"}
