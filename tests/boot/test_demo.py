"""The demonstration, as `make demo` shows it: the host image boots by BIOS PXE; the stray machine is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from provision.demo.show import show
from provision.demo.site import DemoSite


def test_the_demonstration_comes_out_as_it_says(
    commands_in_this_process: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a user, each of its commands is a process.
    monkeypatch.setattr(DemoSite, "call", commands_in_this_process)
    said: list[str] = []
    show(said.append, lambda stage, done: None)
    text = "\n".join(said)
    booted, _, refused = text.partition("cabled to the guest LAN by mistake")
    for line in ("booted from  the network (PXE)", "seed         complete", "10.77.1.21/24", "node1  up "):
        assert line in booted, line
    assert "(rule: secrets-on-general)" in refused and "LOCAL DISK" in refused
    assert "the audit log is whole" in refused
