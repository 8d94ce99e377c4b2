"""Why a boot has stopped: by policy when that objects, else by how far it has come."""

from __future__ import annotations

import pytest

from provision.api.status import Explanation, HostStatus
from provision.boot import Medium
from provision.service.diagnosis import explained


def status(stage: str, **parts: int) -> HostStatus:
    return HostStatus(
        host="node1",
        stage=stage,
        parts=parts,
        medium=Medium.PXE,
        mac=None,
        network="mgmt",
        started=None,
        seen=None,
        up=None,
        window=None,
        heard=None,
        alerts=(),
    )


def answer(network: str = "management:mgmt", medium: Medium = Medium.PXE, allowed: bool = False) -> Explanation:
    if allowed:
        return Explanation(medium=medium, channel=network, allowed=True)
    return Explanation(
        medium=medium, channel=network, allowed=False, rule="window-closed", reason="it has none", remedy="Open one"
    )


@pytest.mark.parametrize(
    ("stage", "parts", "step", "cause"),
    [
        ("configuration", {"configuration": 100}, "It got its boot loader's configuration", "Secure Boot"),
        ("kernel", {"kernel": 100}, "It read the kernel", "before the initrd"),
        ("kernel", {"kernel": 40}, "It read the kernel, 40 % of it", "in the middle of reading"),
        ("initrd", {"initrd": 100}, "It read the initrd", "fit into memory"),
        ("seed", {"seed": 100}, "It read its seed", "did not report that it is up"),
        ("seed", {}, "It read its seed, or a part of it", "did not report that it is up"),
        ("other", {}, "It reached 'other'", "Nothing more was asked for"),
    ],
)
def test_what_usually_stops_a_boot_there(stage: str, parts: dict[str, int], step: str, cause: str) -> None:
    found = explained(status(stage, **parts), [answer(allowed=True)])
    assert found.step == step and cause in found.cause and found.remedy and found.rule == ""
    assert not any(text.endswith(".") for text in (found.step, found.cause, found.remedy))


@pytest.mark.parametrize("parts", [{"kernel": 100}, {"kernel": 40}])
def test_what_policy_says_comes_first(parts: dict[str, int]) -> None:
    found = explained(status("kernel", **parts), [answer()])
    assert (found.rule, found.cause, found.remedy) == ("window-closed", "it has none", "Open one")


@pytest.mark.parametrize("other", [answer("general:office"), answer(medium=Medium.HTTP_BOOT)])
def test_what_policy_says_of_another_boot_is_not_the_cause(other: Explanation) -> None:
    assert explained(status("kernel", kernel=100), [other]).rule == ""


def test_a_host_that_has_its_seed_is_not_stopped_by_policy() -> None:
    """Its window is used up, as it should be."""
    assert explained(status("seed", seed=100), [answer()]).rule == ""
    assert explained(status("seed", seed=50), [answer()]).rule == "window-closed"


def test_a_host_that_was_to_have_its_identity_on_its_disk() -> None:
    plain = Explanation(medium=Medium.PXE, channel="management:mgmt", allowed=True, plain=True)
    found = explained(status("initrd", initrd=100), [plain])
    assert "its disk may have been exchanged or wiped" in found.cause
    assert found.remedy == "Give it a new one: 'provision host reprovision node1'"
    assert "in the middle" in explained(status("initrd", initrd=40), [plain]).cause
