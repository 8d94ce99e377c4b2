"""What the configurations for others' servers say of networks that this server should serve, and cannot."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.errors import Conflict, Exit, Invalid, NotFound, ProvisionError, Unavailable
from provision.service.endpoints import Endpoints
from provision.settings import Listen
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import INVENTORY, MAC1, Site, closed_site, make_base

NODE4 = """\
  node4:
    base: other
    interfaces:
      office: {mac: "52:54:00:00:00:04", network: office, addressing: dhcp}
"""


def settle(here: Site, *blocks: Listen) -> None:
    """Let the settings have these [[listen]] blocks."""
    core = here.service.core
    core.settings = core.settings.model_copy(update={"listen": blocks})
    core.endpoints = Endpoints(core.settings, lambda: core.site)


def listen(here: Site, **fields: object) -> None:
    """Let the one [[listen]] block say something else."""
    (one,) = here.service.core.settings.listen
    settle(here, one.model_copy(update=fields))


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"interface": "absent0", "address": None}, Unavailable, "network 'mgmt': there is no interface absent0"),
        ({"network": "mgnt"}, Invalid, r"network 'mgnt': .*\(there: mgmt, office\); .*restart"),
    ],
)
def test_the_real_reason_is_said(here: Site, fields: dict[str, object], kind: type[ProvisionError], said: str) -> None:
    listen(here, **fields)
    for call in (here.service.exports.dhcp, here.service.exports.tree):
        with pytest.raises(kind, match=said):
            call()
    assert here.service.core.endpoints.of("mgmt") is None, "media are made without it"


def test_a_block_that_is_missing_may_be_one_that_was_not_read(here: Site) -> None:
    settle(here)
    with pytest.raises(Conflict, match=r"add one for mgmt to provision.toml; a running service must be restarted"):
        here.service.exports.dhcp()


def test_render_ends_with_an_error(tmp_path: Path) -> None:
    state = closed_site(tmp_path, toml='[[listen]]\nnetwork = "mgmt"\ninterface = "absent0"\n')
    ran = cli(state, "render", "-o", tmp_path / "tree")
    assert (ran.code, ran.out, ran.err.count("\n")) == (Exit.UNAVAILABLE, "", 1)
    assert not (tmp_path / "tree").exists()


def tree(here: Site) -> dict[str, bytes]:
    """The files of the boot tree by their paths."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(here.service.exports.tree()))) as archive:
        return {member.name: file.read() for member in archive if (file := archive.extractfile(member))}


def test_hosts_on_other_networks_are_left_out_with_their_images(here: Site) -> None:
    here.apply(INVENTORY + NODE4)
    texts = tree(here)
    assert f"pxelinux.cfg/01-{MAC1.replace(':', '-')}" in texts
    assert not [name for name in texts if "00-04" in name or "00:04" in name]
    assert f"images/{here.base.id}/kernel" in texts


def test_a_host_without_its_base_is_named(here: Site) -> None:
    here.apply(INVENTORY.replace("  node2:\n", "  node2:\n    base: gone\n"))
    with pytest.raises(NotFound, match=r"^node2: its base image 'gone' is not imported \(there: base\)"):
        here.service.exports.tree()


def test_a_tree_has_one_set_of_loaders(here: Site) -> None:
    core = here.service.core
    other = make_base(here.state, "other")
    core.store.bases.name("other", other.id)
    here.apply(INVENTORY.replace("  node2:\n", "  node2:\n    base: other\n"))
    with pytest.raises(Conflict, match=r"'base' and 'other' bring different ones"):
        here.service.exports.tree()
    core._bases[other.id] = replace(other, loaders=here.base.loaders)
    found = tree(here)
    assert hashlib.sha256(found["lpxelinux.0"]).hexdigest() == here.base.loaders["lpxelinux.0"].sha256
    assert {f"images/{base.id}/kernel" for base in (here.base, other)} <= set(found)


def test_a_host_finds_it_on_a_general_network_only_without_a_management_network(here: Site) -> None:
    general, both = NODE4, NODE4.replace("node4", "node5").replace(":04", ":05")
    both += '      mgmt: {mac: "52:54:00:00:00:06", network: mgmt, addressing: dhcp}\n'
    make_base(here.state, "other")
    here.apply(INVENTORY + general + both)
    office = Listen(network="office", interface="lo", address=IPv4Address("10.1.0.1"), http_port=8080)
    (mgmt,) = here.service.core.settings.listen
    hosts = here.service.core.hosts
    for blocks, urls in (
        ((mgmt, office), ("http://10.1.0.1:8080", "http://10.0.0.1")),
        ((mgmt,), (None, "http://10.0.0.1")),
        ((office,), ("http://10.1.0.1:8080", None)),
        ((mgmt.model_copy(update={"interface": "absent0", "address": None}), office), ("http://10.1.0.1:8080", None)),
    ):
        settle(here, *blocks)
        endpoints = here.service.core.endpoints
        found = [endpoints.of_own(hosts[name]) for name in ("node4", "node5")]
        assert tuple(one.url if one else None for one in found) == urls
