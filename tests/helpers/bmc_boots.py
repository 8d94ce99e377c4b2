"""Boots by BMCs in tests: what is ordered, what a host does, and that nothing is left of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from provision.api.bmc import BootOrder, BootVia, NewBmc
from provision.api.operations import Operation, OperationState
from provision.boot import Copy, Medium
from provision.principal import Principal
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Asked, Bmc, certificate, fingerprint
from tests.helpers.site_fixture import Site

CD, PXE = BootOrder(via=BootVia.CD), BootOrder(via=BootVia.PXE)
Spoil = Callable[[Asked, BaseHTTPRequestHandler], Any]


def at(there: Bmc, user: str = USER) -> NewBmc:
    """What an admin says of a BMC."""
    empty = NewBmc(url=there.url, user=user, password=b"", fingerprint=fingerprint(certificate()[0]))
    return empty.model_copy(update={"password": PASSWORD.encode()})


def ended(here: Site, begun: Operation) -> Operation:
    """The operation when it is over."""
    for thread in threading.enumerate():
        if thread.name == f"operation {begun.id}":
            thread.join(60)
    return here.service.operations.get(begun.id, ROOT)


def boot(here: Site, order: BootOrder, host: str = "node1", by: Principal = ROOT) -> Operation:
    """The whole boot."""
    return ended(here, here.service.bmc_boots.begin(host, order, by))


def failure(done: Operation) -> str:
    """What went wrong with it."""
    assert done.state is OperationState.FAILED and done.problem
    return done.problem.detail


def come_up(here: Site, number: int = 1) -> Spoil:
    """The host says that it is up as soon as its machine is switched on."""

    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> None:
        if asked.body == {"ResetType": "On"}:
            key = here.service.core.store.keys.of_copy(Copy("node1", Medium.ISO, f"{number:032x}")).reveal()
            here.service.netboot.phone_home.up("node1", key)

    return spoil


def nothing_left(here: Site, bmc: Bmc) -> None:
    """All that node1's boot was given is taken back."""
    store = here.service.core.store
    assert store.bmc_boots.all() == []
    assert all(link.revoked for link in store.links.all())
    window = store.windows.of("node1")
    assert window is None or not window.is_open(here.clock.now)
    assert not bmc.drive["Inserted"]
    paths = [path for path in bmc.documents if path.endswith("Systems/437XR1138R2")]
    assert [bmc.documents[path]["Boot"]["BootSourceOverrideEnabled"] for path in paths] == ["Disabled"]


def recover(here: Site) -> None:
    """As the next start of the service does."""
    before = {operation.id for operation in here.service.operations.listing(ROOT)}
    here.service.bmc_boots.recover()
    for operation in here.service.operations.listing(ROOT):
        if operation.id not in before:
            assert ended(here, operation).state is OperationState.DONE
