"""Every data file of a vendor is read whole, and the right one is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.bmc import vendors
from provision.bmc.vendors import Via, choose, known, parse
from tests.helpers.redfish import KINDS


def test_there_is_a_bmc_in_tests_for_each() -> None:
    files = Path(vendors.__file__).parent.joinpath("vendors").glob("*.toml")
    assert {file.stem for file in files} == set(KINDS) and len(known()) == len(KINDS)
    assert known()[-1].title == "Redfish" and not known()[-1].names


def test_each_can_do_what_is_asked_of_it() -> None:
    for vendor in known():
        assert vendor.insert and all("Image" in names for names in vendor.insert)
        assert set(vendor.targets) == set(Via) and vendor.shut_down and vendor.slots


@pytest.mark.parametrize(
    ("said", "title"),
    [
        (["Dell"], "Dell iDRAC"),
        (["", "Dell Inc."], "Dell iDRAC"),
        (["Hewlett Packard Enterprise"], "HPE iLO"),
        (["", "Super Micro Computer"], "Supermicro"),
        (["ExampleCorp", "OpenBmc"], "OpenBMC"),
        (["", "Sushy Emulator"], "sushy-emulator"),
        (["Contoso"], "Redfish"),
        ([], "Redfish"),
        (["not dell"], "Redfish"),
    ],
)
def test_by_what_it_says(said: list[str], title: str) -> None:
    assert choose(said).title == title


def test_a_parameter_that_there_is_not() -> None:
    media = {"slots": [], "insert": [["Image", "Image2"]], "eject_body": True}
    with pytest.raises(ValueError, match="Image2"):
        parse({"title": "x", "names": [], "media": media, "boot": {}, "power": {}})
