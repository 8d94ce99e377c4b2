"""What is made of the files that are kept."""

from __future__ import annotations

from provision.image import finish
from tests.helpers.image_samples import TOP, file, module


def test_the_order_of_modules_has_those_that_are_kept() -> None:
    order = "kernel/net/nic_b.ko\nkernel/misc/gone.ko\nkernel/net/nic_a.ko\n"
    kept = [file(f"{TOP}/modules.order", order, 0o644), module("net/nic_a"), module("net/nic_b")]
    found = finish.finish({node.path: node for node in kept}, TOP.rpartition("/")[2])
    assert found[f"{TOP}/modules.order"].content.read() == b"kernel/net/nic_b.ko\nkernel/net/nic_a.ko\n"
