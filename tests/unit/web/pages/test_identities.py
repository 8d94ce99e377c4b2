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
    assert admin.post(f"{page}/decommission").status == 409, "it would get another one at its next boot"
    here.apply(INVENTORY.replace("netboot: always", "netboot: never"))
    assert admin.post(f"{page}/decommission").status == 303
    known = here.service.core.store.identities.of("node2")
    assert known is not None and known.ordered is Ordered.WIPE
    assert "The host has been told to wipe it." in admin.get(page).body.decode()
    assert admin.post("/hosts/node1/reprovision").status == 409, "it has none"
