"""A machine is adopted in two steps: looked at, then done."""

from __future__ import annotations

from tests.helpers.browser import Browser, logged_in
from tests.helpers.site_fixture import MAC1, STRANGER, Site

ADOPT = f"/unknown/adopt?mac={STRANGER}&network=mgmt"


def seen(here: Site) -> Browser:
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    return logged_in(here)


def test_a_machine_is_adopted(here: Site) -> None:
    browser = seen(here)
    assert ADOPT.replace("&", "&amp;").replace(":", "%3A").encode() in browser.get("/unknown").body
    page = browser.get(ADOPT).body.decode()
    assert "host-525400000099" in page and "+ host-525400000099" in page and "addressing: dhcp" in page
    assert here.service.core.hosts.keys() == {"node1", "node2", "node3"}, "looking changes nothing"
    reply = browser.post("/unknown/adopt", mac=STRANGER, network="mgmt", name="node9")
    assert reply.headers["location"] == "/hosts/node9"
    assert here.service.core.hosts["node9"].macs == (STRANGER,)
    assert here.audit("apply")[-1]["operator"] == "token:admin"
    assert b"No unknown machine has asked" in browser.get("/unknown").body


def test_a_name_that_is_taken_is_said_before(here: Site) -> None:
    reply = seen(here).get(f"{ADOPT}&name=node1")
    assert reply.status == 409 and b"choose another name" in reply.body and b">Apply<" not in reply.body


def test_only_what_was_seen_is_adopted(here: Site) -> None:
    browser = seen(here)
    for mac, network in ((MAC1, "mgmt"), ("52:54:00:00:00:55", "mgmt"), (STRANGER, "office"), ("", "")):
        assert browser.get(f"/unknown/adopt?mac={mac}&network={network}").status == 404
        assert browser.post("/unknown/adopt", mac=mac, network=network, name="node9").status == 404
    assert browser.post("/unknown/adopt").status == 404
    assert "node9" not in here.service.core.hosts


def test_a_machine_that_is_a_host_by_now(here: Site) -> None:
    browser = seen(here)
    browser.post("/unknown/adopt", mac=STRANGER, network="mgmt", name="node9")
    assert browser.post("/unknown/adopt", mac=STRANGER, network="mgmt", name="node8").status == 404
