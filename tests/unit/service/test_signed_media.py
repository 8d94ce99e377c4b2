"""What hosts with `chain: uki` are given as files: the signed image, without a secret of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.api.links import LinkMedium, MakeLink
from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.boot import DiskFormat, Medium
from provision.errors import Conflict, Denied, Gone
from tests.helpers.links import content, make, take
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, Site, site

UKI = INVENTORY.replace("  node1:\n", "  node1:\n    chain: uki\n").replace("  node2:\n", "  node2:\n    chain: uki\n")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, UKI) as opened:
        opened.service.secure_boot.init(NewSecureBootKey(), ROOT)
        opened.secret("node1", CANARY)
        yield opened


@pytest.fixture
def signed(here: Site) -> Site:
    here.service.secure_boot.sign("base", SignUnified(), ROOT)
    return here


@pytest.mark.integration
@pytest.mark.parametrize("medium", [Medium.ISO, Medium.DISK])
def test_every_host_gets_the_same_file_without_a_secret(signed: Site, medium: Medium) -> None:
    signed.secret("node2", b"another-secret-of-node2")
    own, other = (signed.service.media.plan(name, medium, ROOT) for name in ("node1", "node2"))
    assert own == other and own.patches == ()
    assert not any(secret in content(own) for secret in (CANARY, b"another-secret-of-node2", b"node1"))
    decided = [entry for entry in signed.audit("decision") if entry.get("medium") == str(medium)]
    assert {(entry["host"], entry["answer"]) for entry in decided} == {("node1", "released"), ("node2", "released")}


@pytest.mark.integration
def test_the_iso_is_that_of_the_image(signed: Site) -> None:
    plan, _ = signed.service.secure_boot.medium("base")
    assert signed.service.media.plan("node1", Medium.ISO, ROOT).base_digest == plan.base_digest
    packed = signed.service.media.plan("node1", Medium.DISK, ROOT, DiskFormat.RAW_ZST)
    assert packed.size < signed.service.media.plan("node1", Medium.DISK, ROOT).size


def test_without_a_signed_image_policy_says_what_is_missing(here: Site) -> None:
    with pytest.raises(Denied, match="without a signed image of its base image") as refused:
        here.service.media.plan("node1", Medium.ISO, ROOT)
    assert (refused.value.rule, refused.value.remedy) == ("incomplete", "Sign it: 'provision sb sign IMAGE'")
    with pytest.raises(Denied, match="without a signed image"):
        here.service.links.make("node1", MakeLink(medium=LinkMedium.DISK), ROOT)
    rows = [row for row in here.service.reports.explain("node1", ROOT) if row.medium is Medium.ISO]
    assert not any(row.allowed for row in rows)
    assert [row.rule for row in rows if row.channel == "operator"] == ["incomplete"]


def test_explain_says_that_it_is_the_signed_image(signed: Site) -> None:
    rows = {(row.medium, row.channel): row for row in signed.service.reports.explain("node1", ROOT)}
    for medium in (Medium.ISO, Medium.DISK):
        assert rows[medium, "operator"].allowed and rows[medium, "operator"].signed
    assert not rows[Medium.PXE, "management:mgmt"].signed
    signed.apply(UKI.replace("chain: uki", "chain: grub"))
    assert not any(row.signed for row in signed.service.reports.explain("node1", ROOT))


def test_what_policy_says_of_any_host_it_says_of_these(here: Site) -> None:
    here.service.secure_boot.sign("base", SignUnified(), ROOT)
    here.apply(UKI.replace("  node1:\n", "  node1:\n    storage: none\n"))
    with pytest.raises(Denied) as refused:
        here.service.media.plan("node1", Medium.DISK, ROOT)
    assert refused.value.rule == "no-storage"


def test_there_is_no_patch_of_what_is_the_same_for_all(signed: Site) -> None:
    with pytest.raises(Conflict, match="same for all hosts, so there is no patch for it; write the whole disk"):
        signed.service.media.disk_patch("node1", ROOT)


@pytest.mark.integration
def test_a_link_is_pinned_to_the_image(signed: Site) -> None:
    made = make(signed, uses=2)
    taken = take(signed, made)
    assert CANARY not in content(taken.plan)
    taken.seen(0, taken.plan.size)
    read = signed.service.links.read(made.id)
    assert read is not None and (read.percent, dict(read.parts)) == (100, {"image": 100})
    signed.apply(UKI.replace("  base: base\n", "  base: base\n  kernel_arguments: [quiet]\n"))
    signed.service.secure_boot.sign("base", SignUnified(), ROOT)
    with pytest.raises(Gone):
        take(signed, made)
