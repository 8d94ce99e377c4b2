"""Debian packages as the builder sees them."""

from __future__ import annotations

from provision.image import packages


def test_packages_are_seen_as_on_a_merged_usr_system() -> None:
    assert packages.merged("bin/ip") == "usr/bin/ip" and packages.merged("lib64/ld.so") == "usr/lib64/ld.so"
    assert packages.merged("usr/bin/ip") == "usr/bin/ip" and packages.merged("etc/lib/x") == "etc/lib/x"
    assert packages.merged_target("/bin/ip") == "/usr/bin/ip" and packages.merged_target("../bin/ip") == "../bin/ip"
