"""Power and boot overrides with every kind of BMC, and with one that lies or changes its mind."""

from __future__ import annotations

import pytest

from provision.bmc.machine import Machine, Power
from provision.bmc.vendors import Via
from provision.errors import Invalid, NotFound, Unavailable
from tests.helpers.redfish import Asked, Bmc
from tests.helpers.site_fixture import MAC1


def machine(bmc: Bmc, system: str = "") -> Machine:
    """It waits no time between two looks."""
    return Machine("node1", bmc.access(system=system), pause=lambda seconds: None)


TITLES = {
    "dell": "Dell iDRAC",
    "hpe": "HPE iLO",
    "lenovo": "Lenovo XCC",
    "openbmc": "OpenBMC",
    "other": "Redfish",
    "supermicro": "Supermicro",
    "sushy": "sushy-emulator",
}


def test_it_is_found_with_its_vendor(bmc: Bmc) -> None:
    found = machine(bmc).identity
    assert found.vendor.title == TITLES[bmc.kind]
    assert found.system == bmc.rules["system"] and found.macs == {MAC1} and found.firmware


def test_power(bmc: Bmc) -> None:
    there = machine(bmc)
    assert there.power() is Power.OFF
    there.turn_on()
    there.turn_on()
    assert there.power() is Power.ON
    there.turn_off()
    there.turn_off()
    there.turn_on()
    there.turn_off(force=True)
    assert there.power() is Power.OFF
    kinds = [body["ResetType"] for _, body in bmc.orders("POST")]
    assert kinds == ["On", "GracefulShutdown", "On", "ForceOff"]


@pytest.mark.parametrize("via", list(Via))
def test_it_boots_once_from_there(bmc: Bmc, via: Via) -> None:
    there = machine(bmc)
    if bmc.kind == "openbmc" and via is Via.HTTP_BOOT:
        with pytest.raises(Unavailable, match="cannot boot its machine from UefiHttp"):
            there.boot_once(via)
        return
    there.boot_once(via)
    at = bmc.documents[bmc.rules["system"] + ("/Pending" if bmc.rules.get("settings") else "")]
    wanted = "UsbCd" if (bmc.kind, via) == ("supermicro", Via.CD) else there.identity.vendor.targets[via]
    once, usual = ("Continuous", "Hdd") if bmc.kind == "sushy" else ("Once", wanted)
    assert at["Boot"]["BootSourceOverrideTarget"] == wanted and at["Boot"]["BootSourceOverrideEnabled"] == once
    there.boot_as_usual()
    assert at["Boot"]["BootSourceOverrideTarget"] == usual
    assert at["Boot"]["BootSourceOverrideEnabled"] == ("Continuous" if bmc.kind == "sushy" else "Disabled")


def test_what_changed_meanwhile_is_read_again(other: Bmc) -> None:
    there = machine(other)
    refused: list[Asked] = []

    def once(asked: Asked, _: object) -> tuple[int, dict[str, str], bytes] | None:
        if asked.method == "PATCH" and not refused:
            refused.append(asked)
            return 412, {}, b"{}"
        return None

    other.spoils = once
    there.boot_once(Via.PXE)
    assert other.system["Boot"]["BootSourceOverrideTarget"] == "Pxe" and refused
    other.spoils = lambda asked, _: (412, {}, b"{}") if asked.method == "PATCH" else None
    with pytest.raises(Unavailable, match="412"):
        there.boot_once(Via.CD)


def test_a_lie_is_found_out(other: Bmc) -> None:
    there = machine(other)
    other.lies = True
    with pytest.raises(Unavailable, match="after 120 seconds the machine is not on"):
        there.turn_on()
    with pytest.raises(Unavailable, match="does not show it"):
        there.boot_once(Via.PXE)
    other.system["PowerState"] = "On"
    with pytest.raises(Unavailable, match="after 300 seconds the machine is not off; use --force"):
        there.turn_off()


def test_only_what_it_can(other: Bmc) -> None:
    there = machine(other)
    other.system["PowerState"] = "On"
    reset = other.system["Actions"]["#ComputerSystem.Reset"]
    reset["ResetType@Redfish.AllowableValues"] = ["On", "ForceOff"]
    with pytest.raises(Unavailable, match="cannot do GracefulShutdown; use --force"):
        there.turn_off()
    del other.system["Actions"]
    with pytest.raises(Unavailable, match="no way to switch"):
        there.turn_off(force=True)


def test_several_machines(other: Bmc) -> None:
    other.documents["/redfish/v1/Systems"]["Members"].append({"@odata.id": "/redfish/v1/Systems/2"})
    with pytest.raises(Invalid, match="has 2 machines; say which one"):
        machine(other)
    assert machine(other, "437XR1138R2").identity.model == "3500RX"
    with pytest.raises(NotFound, match="has no machine '3'"):
        machine(other, "3")


def test_one_that_tells_nothing(other: Bmc) -> None:
    for path in list(other.documents):
        if "EthernetInterfaces/" in path:
            del other.documents[path]
    del other.system["PowerState"]
    there = machine(other)
    assert there.identity.macs == set() and there.power() is Power.UNKNOWN
    other.documents.clear()
    with pytest.raises(Unavailable, match="404"):
        machine(other)


def test_whoever_cancels_is_heard(other: Bmc) -> None:
    class Ended(Exception):
        pass

    def ended(seconds: float) -> None:
        if seconds:
            raise Ended

    there = Machine("node1", other.access(), pause=ended)
    other.lies = True
    with pytest.raises(Ended):
        there.turn_on()
