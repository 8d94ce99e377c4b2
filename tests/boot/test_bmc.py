"""One command from powered off to up: an operator elsewhere, a BMC, and a machine that reads its medium by a link."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from provision.errors import Exit
from provision.lab.vm import Firmware
from tests.boot import boots, expect
from tests.boot.chassis import Chassis, chassis
from tests.boot.office import Boot, Office
from tests.boot.site import MEMBERS, BootSite
from tests.boot.wire import Sent
from tests.helpers.redfish import PASSWORD

READ = r"the BMC has read \d+ % of its medium \(kernel (\d+) %, initrd (\d+) %, seed (\d+) %\)"


def taken_back(site: BootSite, machine: Chassis) -> None:
    """Nothing that the boot was given is good for anything any more."""
    assert not machine.bmc.drive["Inserted"]
    assert machine.bmc.system["Boot"]["BootSourceOverrideEnabled"] == "Disabled"
    no_longer_good(site, machine)


def no_longer_good(site: BootSite, machine: Chassis) -> None:
    """Neither link nor window gives anything away, whatever the BMC has still to hear."""
    assert [machine.status_of(url) for url in machine.urls] == [404] * len(machine.urls)
    links = [row for row in site.json("link", "list") if row["host"] == machine.member.name]
    assert [row["state"] for row in links] == ["revoked"] * len(links)
    window = site.status(machine.member)["window"]
    assert window is None or not window["open"]
    site.call("audit", "--verify")


def came_up(site: BootSite, machine: Chassis, booting: Boot) -> list[str]:
    """The command ends well, and the machine is what it is to be; returns what the command said."""
    code, said = booting.ended()
    assert (code, said[-1]) == (0, f"{machine.member.name}: up"), said
    assert f"{machine.member.name}: the host is up" in said and machine.on
    assert machine.vm is not None
    report = machine.vm.report(boots.TIMEOUT)
    expect.network(site, machine.member, report)
    expect.firmware(report, machine.firmware)
    assert report["phone-home"] == "ok" and site.status(machine.member)["stage"] == "up"
    if machine.urls:
        expect.identity(site, machine.member, report, Sent.on(machine.medium))
    taken_back(site, machine)
    return said


def of_others(office: Office) -> dict[str, bytes]:
    """What crosses no wire in clear, whatever the host is given."""
    return {"the BMC's password": PASSWORD.encode(), "the operator's token": office.token.encode()}


@pytest.mark.parametrize(("name", "firmware"), [("by-cd", Firmware.SECURE_BOOT), ("by-plain-cd", Firmware.UEFI)])
def test_a_cd_by_a_link(site: BootSite, office: Office, name: str, firmware: Firmware) -> None:
    """Over TLS nothing of it is on the wire; a BMC that cannot do that has it in plain HTTP, where the site says so."""
    member, plain = MEMBERS[name], name == "by-plain-cd"
    with (
        chassis(site, member, firmware, plain) as machine,
        machine.answering(),
        site.mgmt.capture() as near,
        site.guest.capture() as far,
        office.boot(member.name, "--via", "cd") as booting,
    ):
        read = [int(percent) for percent in booting.wait_for(READ).groups()]
        assert min(read) < 100, "the first line is said while the machine still reads"
        said = came_up(site, machine, booting)
    assert any("kernel 100 %, initrd 100 %, seed 100 %" in line for line in said), said
    assert [url.partition("/b/")[0] for url in machine.urls] == [
        "http://10.77.1.1" if plain else "https://10.77.1.1:8443"
    ]
    near_sent, far_sent, needles = Sent.over(near), Sent.over(far), site.needles(member)
    assert len(near_sent.raw) > machine.medium.stat().st_size // 2, "the medium was read over this wire"
    assert near_sent.found(needles) == (set(needles) if plain else set())
    assert far_sent.has(b"\x16\x03") and far_sent.found(needles) == set()
    hidden = of_others(office) | ({} if plain else {"the link": machine.urls[0].rpartition("/")[2].encode()})
    assert near_sent.found(hidden) == far_sent.found(hidden) == set()
    assert Sent.on(booting.log).found({**needles, **hidden, "a link": b"/b/"}) == set()
    released = {(e["channel"], e["link"], e["address"]) for e in site.audit(member) if e.get("answer") == "released"}
    assert [(channel, address) for channel, _, address in released] == [
        ("management:mgmt" if plain else "operator", "10.77.1.250")
    ]


def test_http_boot(site: BootSite, office: Office) -> None:
    member = MEMBERS["by-http-boot"]
    with (
        chassis(site, member, Firmware.UEFI) as machine,
        machine.answering(),
        office.boot(member.name, "--via", "http-boot") as booting,
    ):
        came_up(site, machine, booting)
    status = site.status(member)
    assert (status["medium"], status["window"]["used"]) == ("http-boot", 1)


def test_ctrl_c_takes_everything_back(site: BootSite, office: Office) -> None:
    member = MEMBERS["by-cancelled"]
    with (
        chassis(site, member, Firmware.UEFI) as machine,
        machine.answering(),
        office.boot(member.name, "--via", "cd") as booting,
    ):
        booting.wait_for(READ)
        assert machine.on and machine.status_of(machine.urls[0]) == 200
        booting.interrupt()
        code, said = booting.ended()
        assert code == 130 and f"{member.name}: the machine is off again" in said, said
        assert not machine.on
        taken_back(site, machine)
    assert site.status(member)["stage"] != "up"


def test_a_bmc_that_dies_keeps_nothing(site: BootSite, office: Office) -> None:
    """The host comes up without it. What the server gave is void at once; what the BMC holds, when it is back."""
    member = MEMBERS["by-orphaned"]
    with chassis(site, member, Firmware.BIOS) as machine, ExitStack() as life:
        life.enter_context(machine.answering())
        with office.boot(member.name, "--via", "cd") as booting:
            booting.wait_for("the machine is on")
            life.close()
            code, said = booting.ended()
        assert (
            code == Exit.UNAVAILABLE and "is up, but not everything set up for its boot could be undone" in said[-1]
        ), said
        assert machine.on and machine.bmc.drive["Inserted"]
        no_longer_good(site, machine)
        with machine.answering(), office.boot(member.name, "--via", "cd") as again:
            code, said = again.ended()
            assert code == Exit.CONFLICT and "its machine is on" in said[-1], said
            taken_back(site, machine)
