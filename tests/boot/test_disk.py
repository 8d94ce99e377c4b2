"""The laboratory's own disk boots in every firmware, so a test can tell when a host went on to its disk."""

from __future__ import annotations

import pytest

from provision.lab import disk
from provision.lab.lans import Lab
from provision.lab.vm import VM, Firmware, Machine


@pytest.mark.parametrize("firmware", list(Firmware))
def test_the_local_disk_says_that_it_was_booted(lab: Lab, firmware: Firmware) -> None:
    path = disk.local_disk(lab.directory / "disk.img")
    with VM(lab, Machine("disk", firmware, disk=path)) as vm:
        vm.wait_for(disk.TEXT, 60)
