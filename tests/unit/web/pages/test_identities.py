"""The identity on a host's disk, on its page: another one, or none any more."""

from __future__ import annotations

from pathlib import Path

from provision.media.initrd import ALIVE, IDENTITY
from provision.principal import PrincipalRole
from provision.stored import Ordered
from tests.helpers.agent import stored
from tests.helpers.browser import logged_in
from tests.helpers.site_fixture import INVENTORY, Site


def test_an_operator_gives_a_new_one_and_an_admin_ends_it(here: Site, tmp_path: Path) -> None:
    here.can(ALIVE, IDENTITY)
    operator, admin = logged_in(here, PrincipalRole.OPERATOR), logged_in(here, PrincipalRole.ADMIN)
    page = "/hosts/node2"
    assert "Identity on its disk" not in operator.get(page).body.decode()
    stored(here)
    here.secret("node2", b"another token")
    shown = operator.get(page).body.decode()
    assert "Identity on its disk" in shown and "Decommission the host" not in shown
    assert "2; the host has 1 on its disk, which is kept until it has the newest one" in shown
    assert operator.post(f"{page}/reprovision").status == 303
    window = here.service.core.store.windows.of("node2")
    assert window is not None and window.is_open(here.clock())
    assert operator.get(f"{page}/decommission").status == 403
    assert "Decommission node2?" in admin.get(f"{page}/decommission").body.decode()
    seen = admin.look(f"{page}/decommission")
    assert admin.post(f"{page}/decommission", seen=seen).status == 409, "it would get another one at its next boot"
    here.apply(INVENTORY.replace("netboot: always", "netboot: never"))
    reply = admin.post(f"{page}/decommission", seen=seen)
    assert reply.status == 412 and b"somebody has changed it since you looked at it" in reply.body
    assert admin.post(f"{page}/decommission").status == 412, "nobody has looked at it"
    assert admin.post(f"{page}/decommission", seen=admin.look(f"{page}/decommission")).status == 303
    known = here.service.core.store.identities.of("node2")
    assert known is not None and known.ordered is Ordered.WIPE
    assert "The host has been told to wipe it." in admin.get(page).body.decode()
    assert admin.post("/hosts/node1/reprovision").status == 409, "it has none"


def test_an_admin_moves_a_host_to_new_hardware_after_a_look(here: Site) -> None:
    operator, admin = logged_in(here, PrincipalRole.OPERATOR), logged_in(here, PrincipalRole.ADMIN)
    page, new = "/hosts/node1/move", "52:54:00:00:00:96"
    assert operator.get(page).status == 403
    before = here.service.core.hosts["node1"].interfaces
    (mac,) = (mac for one in before.values() for mac in one.macs)
    asks = admin.get(page).body.decode()
    assert mac in asks and "Show what would change" in asks and "<button>Move node1</button>" not in asks
    looked = admin.get(f"{page}?macs={new}").body.decode()
    assert f"{mac} -&gt; {new}" in looked and "<button>Move node1</button>" in looked
    assert here.service.core.hosts["node1"].interfaces == before, "that was a look"
    for query, status, words in (
        ("macs=x", 422, "a MAC or the UUID is not valid"),
        (f"macs={new}&uuid=x", 422, "a MAC or the UUID is not valid"),
        (f"macs={new}+52:54:00:00:00:95", 409, "has 1 NIC, and the command names 2"),
    ):
        reply = admin.get(f"{page}?{query}")
        assert reply.status == status and words in reply.body.decode(), query
        assert b"<button>Move node1</button>" not in reply.body
    assert operator.post(page, macs=new).status == 403
    seen = admin.look(f"{page}?macs={new}")
    here.apply(INVENTORY.replace("10.0.0.11", "10.0.0.14"))
    for given in (seen, ""):
        reply = admin.post(page, macs=new, seen=given)
        assert reply.status == 412 and b"somebody has changed it since you looked at it" in reply.body
        assert [one.macs for one in here.service.core.hosts["node1"].interfaces.values()] == [(mac,)]
    assert admin.post(page, macs=new, seen=admin.look(f"{page}?macs={new}")).status == 303
    assert [mac for one in here.service.core.hosts["node1"].interfaces.values() for mac in one.macs] == [new]


def test_an_admin_declares_a_disk_lost(here: Site) -> None:
    here.can(ALIVE, IDENTITY)
    stored(here)
    admin = logged_in(here, PrincipalRole.ADMIN)
    assert "Declare the disk of node2 lost" in admin.get("/hosts/node2/decommission").body.decode()
    assert admin.post("/hosts/node2/decommission", lost="yes", seen="0").status == 412
    assert here.service.core.store.identities.of("node2") is not None
    seen = admin.look("/hosts/node2/decommission")
    assert admin.post("/hosts/node2/decommission", lost="yes", seen=seen).status == 303
    assert here.service.core.store.identities.of("node2") is None
    assert "compromised" in admin.get("/hosts/node2").body.decode()
