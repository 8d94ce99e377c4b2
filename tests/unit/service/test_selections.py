"""Many hosts at once: what would be refused is said before, and what is done is done as for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.api.bmc import NewBmc
from provision.api.links import LinkMedium
from provision.errors import Invalid, NotFound
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service import selections
from provision.service.listeners import Listening
from provision.service.operations import Running
from provision.service.selections import Action, Options, Refusal
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served
from tests.helpers.site_fixture import INVENTORY, Site, site

NAMES = ("node1", "node2", "node3")
RACK_B = Principal("token:b", PrincipalRole.OPERATOR, Authentication.TOKEN, (("rack", "b"),))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.service.listeners = lambda: {"mgmt": Listening("serving", True)}
        yield opened


@pytest.fixture
def bmc(here: Site) -> Iterator[Bmc]:
    with served("hpe") as there:
        order = NewBmc(url=there.url, user=USER, password=b"", fingerprint=fingerprint(certificate()[0]))
        for name in ("node1", "node3"):
            here.service.bmcs.put(name, order.model_copy(update={"password": PASSWORD.encode()}), ROOT)
        yield there


def refusals(here: Site, action: Action) -> dict[str, Refusal]:
    return {one.host: one for one in here.service.selections.refusals(NAMES, action, ROOT)}


def test_windows_are_refused_as_policy_would_with_one_open(here: Site) -> None:
    found = refusals(here, Action.WINDOW)
    assert found.keys() == {"node3"} and found["node3"].rule == "netboot-never"
    assert "Set 'netboot: window'" in found["node3"].remedy
    here.apply(
        INVENTORY.replace("credentials: [token]", "credentials: [token, other]").replace(
            "token: {kind: token, path: /etc/token}",
            "token: {kind: token, path: /etc/token}\n    other: {kind: token, path: /etc/other}",
        )
    )
    found = refusals(here, Action.WINDOW)
    assert found.keys() == set(NAMES) and found["node1"].rule == "incomplete"


def test_links_are_refused_as_policy_would(here: Site) -> None:
    here.apply(INVENTORY.replace("    netboot: always\n", "    netboot: always\n    storage: none\n"))
    assert refusals(here, Action.LINK_ISO) == {}
    found = refusals(here, Action.LINK_DISK)
    assert found.keys() == {"node2"} and found["node2"].rule == "no-storage"


@pytest.mark.parametrize("action", [Action.ON, Action.OFF, Action.CYCLE, Action.BOOT_CD])
def test_who_has_no_bmc_is_refused(here: Site, bmc: Bmc, action: Action) -> None:
    found = refusals(here, action)
    assert found.keys() == {"node2"} and "provision bmc set" in found["node2"].remedy
    assert bmc.asked == [], "nothing is done"


def test_boots_are_refused_by_policy_and_by_what_goes_on(here: Site, bmc: Bmc) -> None:
    found = refusals(here, Action.BOOT_PXE)
    assert found["node3"].rule == "netboot-never" and found.keys() == {"node2", "node3"}
    go = threading.Event()

    def work(running: Running) -> None:
        assert go.wait(60)

    here.service.operations.begin("test", "node1", ROOT, work)
    assert refusals(here, Action.BOOT_PXE)["node1"].reason == "test is under way"
    go.set()
    here.service.listeners = dict
    assert "nothing is served" in refusals(here, Action.BOOT_CD)["node3"].reason


def test_nobody_judges_what_they_do_not_see(here: Site) -> None:
    for action in (Action.WINDOW, Action.LINK_ISO):
        with pytest.raises(NotFound):
            here.service.selections.refusals(["node1"], action, RACK_B)
    begin = here.service.selections.begin(Action.WINDOW, Options(), RACK_B)
    with pytest.raises(NotFound):
        begin("node1")


def test_judging_leaves_no_trace(here: Site) -> None:
    before = here.audit()
    for action in (Action.WINDOW, Action.LINK_ISO, Action.BOOT_PXE):
        refusals(here, action)
    assert here.audit() == before


def test_a_window_is_opened_with_its_options(here: Site) -> None:
    begin = here.service.selections.begin(Action.WINDOW, Options(minutes=7, boots=2), ROOT)
    assert begin("node1") is None
    (entry,) = here.audit("window-opened")
    assert (entry["host"], entry["minutes"], entry["boots"]) == ("node1", 7, 2)


def test_power_is_changed_as_for_one(here: Site, bmc: Bmc) -> None:
    begun = here.service.selections.begin(Action.ON, Options(), ROOT)("node1")
    assert begun is not None and begun.kind == "power on"
    for thread in threading.enumerate():
        if thread.name == f"operation {begun.id}":
            thread.join(60)
    assert bmc.system["PowerState"] == "On"


@pytest.mark.parametrize("minutes", [0, 1441])
def test_a_boot_that_cannot_be(here: Site, minutes: int) -> None:
    with pytest.raises(Invalid, match="1 to 1440 minutes"):
        here.service.selections.begin(Action.BOOT_PXE, Options(minutes=minutes), ROOT)


def test_links_are_made_for_those_that_may_have_one(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.apply(INVENTORY.replace("    netboot: always\n", "    netboot: always\n    storage: none\n"))
    made, refused = here.service.selections.links(NAMES, LinkMedium.DISK, Options(minutes=5, uses=3), ROOT)
    assert [(link.host, link.uses) for link in made] == [("node1", 3), ("node3", 3)]
    assert [(one.host, one.rule) for one in refused] == [("node2", "no-storage")]
    monkeypatch.setattr(selections, "MOST_LINKS", 2)
    with pytest.raises(Invalid, match="3 hosts are more than the 2"):
        here.service.selections.links(NAMES, LinkMedium.ISO, Options(), ROOT)
    assert len(here.audit("link-made")) == 2


def test_every_action_is_of_one_kind_and_has_words() -> None:
    for action in Action:
        kinds = [action.power is not None, action.via is not None, action.link is not None, action is Action.WINDOW]
        assert kinds.count(True) == 1 and action.words[0].isupper()
