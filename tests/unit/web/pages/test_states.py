"""The picture of a site: bars, the same in numbers, and of a large one not too much."""

from __future__ import annotations

import re

import pytest

from provision.principal import PrincipalRole
from provision.service.grouping import Condition, Group
from provision.web.pages.states import WIDTH, bar
from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import INVENTORY, Site

KIB = 1024
MANY, RACKS = 10_000, 250


def test_hosts_are_counted_by_a_label_with_links_to_them(here: Site) -> None:
    here.window()
    body = logged_in(here, PrincipalRole.READER).get("/site").body.decode()
    assert "3 hosts: 1 ready to boot, 2 idle." in body
    assert 'aria-label="All hosts: 1 ready to boot, 2 idle"' in body
    assert 'href="/hosts?label=rack&amp;value=a&amp;state=ready+to+boot" aria-label="1 ready to boot of a"' in body
    assert "without it" in body and 'href="/site?by=rack" aria-current="true"' in body


def test_what_a_link_counts_is_what_it_lists(here: Site) -> None:
    here.window()
    browser = logged_in(here, PrincipalRole.READER)
    listed = browser.get("/hosts?label=rack&value=a&state=ready+to+boot").body
    assert re.findall(rb'href="/hosts/(\w+)"', listed) == [b"node1"]
    assert browser.get("/hosts?state=dancing").status == 422


def test_a_site_without_labels_or_hosts(here: Site) -> None:
    here.apply(INVENTORY.replace("    labels: {rack: a}\n", ""))
    browser = logged_in(here, PrincipalRole.READER)
    body = browser.get("/site?by=%3Cb%3E").body
    assert b"3 hosts: 3 idle." in body and b"<table" not in body and b"<b>" not in body
    nobody = logged_in(here, PrincipalRole.READER, name="nobody", selector={"rack": "x"})
    assert b"No host." in nobody.get("/site").body


@pytest.mark.parametrize("longest", [10, 1000])
def test_no_part_of_a_bar_vanishes(longest: int) -> None:
    parts = bar(Group("a", {Condition.UP: longest - 1, Condition.STUCK: 1}), longest)
    assert [part.condition for part in parts] == [Condition.STUCK, Condition.UP]
    assert parts[0].width >= 3 and parts[1].x == parts[0].width
    assert WIDTH - 1 <= sum(part.width for part in parts) <= WIDTH + 3


def test_ten_thousand_hosts_make_a_small_page(here: Site) -> None:
    host = (
        "  h{n}: {{labels: {{rack: r{rack}}}, interfaces: "
        '{{mgmt: {{mac: "52:54:01:00:{a:02x}:{b:02x}", network: mgmt, addressing: dhcp}}}}}}\n'
    )
    here.apply(
        INVENTORY.replace("10.0.0.0/24", "10.0.0.0/16").replace("rack: a", "rack: r0")
        + "".join(host.format(n=n, rack=n % RACKS, a=n >> 8, b=n & 255) for n in range(MANY))
    )
    body = logged_in(here, PrincipalRole.READER).get("/site").body
    assert len(body) < 200 * KIB and b"10003 hosts" in body and b"190 other values" in body
    rows = [int(found) for found in re.findall(rb'aria-label="(\d+) hosts of r', body)]
    assert len(rows) == 60 and set(rows) <= {40, 42}
