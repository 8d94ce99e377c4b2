"""Virtual CDs of every kind of BMC: the right drive, in the vendor's way, and believed when they show it."""

from __future__ import annotations

import pytest

from provision.bmc import virtual_media
from provision.bmc.machine import Machine
from provision.errors import NotFound, Unavailable
from provision.secret import Secret
from tests.helpers.redfish import Bmc

LINK = "https://10.0.0.1:8443/b/0123456789abcdefghjkmnpqrs.iso"


def machine(bmc: Bmc) -> Machine:
    return Machine("node1", bmc.access(), pause=lambda seconds: None)


def test_in_and_out(bmc: Bmc) -> None:
    there = machine(bmc)
    drive = virtual_media.slot(there)
    assert drive.path == bmc.rules["drive"] and not drive.inserted
    virtual_media.insert(there, drive, Secret(LINK.encode()))
    assert bmc.drive["Image"] == LINK and virtual_media.slot(there).inserted
    virtual_media.eject(there, drive)
    virtual_media.eject(there, drive)
    assert not bmc.drive["Inserted"] and not bmc.drive["Image"]
    assert sum("Eject" in name for name, _ in bmc.orders()) <= 1, "an empty drive is left alone"


def test_another_way_is_tried(other: Bmc) -> None:
    other.rules["refuses"] = ["Inserted"]
    there = machine(other)
    virtual_media.insert(there, virtual_media.slot(there), Secret(LINK.encode()))
    assert [set(body) for _, body in other.orders()] == [{"Image", "Inserted", "WriteProtected"}, {"Image"}]


def test_the_protocol_is_the_links(other: Bmc) -> None:
    other.rules["requires"] = ["TransferProtocolType"]
    there = machine(other)
    virtual_media.insert(there, virtual_media.slot(there), Secret(LINK.replace("https", "http").encode()))
    assert other.orders()[-1][1]["TransferProtocolType"] == "HTTP"


def test_no_way_is_taken(other: Bmc) -> None:
    other.rules["refuses"] = ["Image"]
    there = machine(other)
    with pytest.raises(Unavailable) as told:
        virtual_media.insert(there, virtual_media.slot(there), Secret(LINK.encode()))
    assert "answered 400 (Base.1.8.ActionParameterNotSupported)" in str(told.value)
    assert "0123456789abcdef" not in str(told.value) and len(other.orders()) == 3


def test_an_error_of_its_own_is_no_reason_to_try_again(other: Bmc) -> None:
    there = machine(other)
    drive = virtual_media.slot(there)
    other.spoils = lambda asked, _: (500, {}, b"{}") if asked.method == "POST" else None
    with pytest.raises(Unavailable, match="answered 500"):
        virtual_media.insert(there, drive, Secret(LINK.encode()))
    assert len(other.orders()) == 1


def test_a_lie_is_found_out(other: Bmc) -> None:
    there = machine(other)
    drive = virtual_media.slot(there)
    other.lies = True
    with pytest.raises(Unavailable, match="nothing is in its virtual CD CD1"):
        virtual_media.insert(there, drive, Secret(LINK.encode()))
    other.drive.update({"Inserted": True, "Image": "x"})
    with pytest.raises(Unavailable, match="something is still in its virtual CD CD1"):
        virtual_media.eject(there, drive)


def test_no_drive(other: Bmc) -> None:
    other.drive["MediaTypes"] = ["USBStick"]
    with pytest.raises(NotFound, match="no virtual CD"):
        virtual_media.slot(machine(other))
