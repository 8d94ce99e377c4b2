"""By what it is known that a host has come up that is booted by its BMC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from provision.api.operations import OperationState
from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.boot import Copy, Medium
from provision.errors import Unavailable
from provision.service import bmc_boots
from provision.service.arrivals import Arrivals
from provision.service.listeners import Listening
from provision.service.openings import Outcome
from tests.helpers.bmc_boots import CD, Spoil, boot, failure, nothing_left
from tests.helpers.principals import ROOT
from tests.helpers.redfish import Asked, Bmc
from tests.helpers.site_fixture import INVENTORY, MAC1, MAC2, Site, origin, site
from tests.helpers.tpm_samples import tpm
from tests.unit.service.test_bmc_boots import bmc

__all__ = ("bmc",)

UKI = INVENTORY.replace("  node1:\n", "  node1:\n    chain: uki\n")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(bmc_boots, "_LOOK_SECONDS", 0.01)
    with site(tmp_path, UKI) as opened:
        opened.service.listeners = lambda: {"mgmt": Listening("serving", True)}
        opened.secret("node1", b"canary")
        opened.secret("node2", b"canary")
        opened.service.secure_boot.init(NewSecureBootKey(), ROOT)
        opened.service.secure_boot.sign("base", SignUnified(), ROOT)
        yield opened


def said(here: Site, host: str = "node1", earlier: int = 0) -> str:
    arrivals = Arrivals(here.service.core, here.service.openings)
    (status,) = here.service.reports.status(ROOT, host).hosts
    return arrivals.said(status, here.clock.now - timedelta(seconds=earlier))


def on_its_way(here: Site, host: str = "node1") -> bool:
    return Arrivals(here.service.core, here.service.openings).is_on_its_way(host, here.clock.now)


def fetch_seed(here: Site) -> None:
    here.service.netboot.unified.seed(origin(MAC1), "0f" * 16)
    here.service.netboot.sent(origin(MAC1), "seed", 1.0)


def test_a_host_says_so_by_its_key(here: Site) -> None:
    assert (said(here, "node2"), on_its_way(here, "node2")) == ("", False)
    key = here.service.core.store.keys.of_copy(Copy("node2", Medium.ISO, "0f" * 16)).reveal()
    here.service.netboot.phone_home.up("node2", key)
    assert (said(here, "node2"), on_its_way(here, "node2")) == ("the host is up", True)
    here.clock.advance(minutes=1)
    assert (said(here, "node2"), on_its_way(here, "node2")) == ("", False), "that was an earlier boot"


def test_with_an_enrolled_tpm_what_became_of_the_envelope_counts(here: Site) -> None:
    here.service.core.store.tpms.put(tpm("node1"))
    fetch_seed(here)
    assert (said(here), on_its_way(here)) == ("", True), "it does not have its credentials yet"
    here.service.openings.take(origin(MAC1), Outcome.OPENED, 1, b"")
    assert said(here) == "the host has opened its envelope"
    here.clock.advance(minutes=1)
    assert said(here) == "" and said(here, earlier=90) != ""
    here.service.openings.take(origin(MAC1), Outcome.OTHER_TPM, 1, b"")
    with pytest.raises(Unavailable, match="has another TPM than the one that its envelope is for"):
        said(here)


def test_without_one_its_seed_is_all_that_it_gets(here: Site) -> None:
    assert (said(here), on_its_way(here)) == ("", False)
    here.service.netboot.unified.image(origin(MAC1))
    assert said(here) == "", "the image is not yet its seed"
    fetch_seed(here)
    assert said(here) == "the host has its seed"
    here.clock.advance(minutes=1)
    assert said(here) == ""


def test_what_a_host_of_the_other_chain_says_of_an_envelope_ends_no_boot(here: Site) -> None:
    here.service.openings.take(origin(MAC2), Outcome.CHAIN, 1, b"")
    assert (said(here, "node2"), on_its_way(here, "node2")) == ("", False)


def saying(here: Site, outcome: Outcome) -> Spoil:
    """The host fetches its seed as soon as its machine is switched on, and says what came of its envelope."""

    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> None:
        if asked.body == {"ResetType": "On"}:
            here.service.netboot.unified.seed(origin(MAC1), "0f" * 16)
            here.service.openings.take(origin(MAC1), outcome, 1, b"")

    return spoil


@pytest.mark.integration
def test_the_signed_image_by_cd_until_the_envelope_is_open(here: Site, bmc: Bmc) -> None:
    here.service.core.store.tpms.put(tpm("node1"))
    bmc.spoils = saying(here, Outcome.OPENED)
    done = boot(here, CD)
    assert done.state is OperationState.DONE, done
    assert "the host has opened its envelope" in done.steps and bmc.system["PowerState"] == "On"
    image = next(body["Image"] for name, body in bmc.orders() if name.endswith("InsertMedia"))
    assert image.startswith("http://10.0.0.1/b/") and image.endswith(".iso")
    nothing_left(here, bmc)


@pytest.mark.integration
def test_an_envelope_that_does_not_open_ends_the_boot(here: Site, bmc: Bmc) -> None:
    here.service.core.store.tpms.put(tpm("node1"))
    bmc.spoils = saying(here, Outcome.CHAIN)
    said = failure(boot(here, CD))
    assert "has booted in no chain that the site has approved" in said and "provision tpm explain node1" in said
    nothing_left(here, bmc)
