"""An update in place, with the server's application and the host's own programs, and a machine in between that would
have the host run something else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.media.initrd import ALIVE
from provision.media.unified import UnifiedImages
from provision.stored import envelope_label
from provision.web import boot_app
from tests.helpers.agent import IN_OFFICE, OFFICE, booted, from_disk
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL, INVENTORY, MAC2, MANAGEMENT, Site, edge, make_base, site
from tests.helpers.updating_host import Between, Host, between, served, until


@pytest.fixture(params=["management", "general"])
def inventory(request: pytest.FixtureRequest) -> str:
    """node2 boots on the management network, or is on the general one alone and boots from its disk image."""
    return INVENTORY if request.param == "management" else OFFICE


@pytest.fixture
def here(tmp_path: Path, inventory: str) -> Iterator[Site]:
    with site(tmp_path, inventory, listen=IN_OFFICE) as found:
        found.can(ALIVE)
        found.service.core.store.bases.name("other", make_base(found.state, "other").id)
        yield found


@pytest.fixture
def wire(here: Site, inventory: str) -> Iterator[Between]:
    channel = MANAGEMENT if inventory == INVENTORY else GENERAL
    app = boot_app.create(here.service.netboot, edge(channel, macs={"127.0.0.1": MAC2}))
    with served(app) as port, between(port) as found:
        yield found


@pytest.fixture
def host(here: Site, wire: Between, inventory: str, tmp_path: Path) -> Host:
    """node2, which runs the site's base, and is to run the other one."""
    about = (booted(here) if inventory == INVENTORY else from_disk(here)).about
    about["alive"]["url"] = f"http://127.0.0.1:{wire.port}/alive"
    here.apply(inventory.replace("  node2:\n", "  node2:\n    base: other\n    update: {reboot: now}\n"))
    return Host(tmp_path / "host", about, here.base.id)


def other(here: Site) -> str:
    return here.service.core.bases()["other"]


def says(here: Site) -> str:
    """What the server knows of the host's slots."""
    known = here.service.core.store.slots.of("node2")
    return known.said if known else ""


def test_a_host_takes_an_update_and_keeps_it(here: Site, host: Host, wire: Between) -> None:
    base = here.service.core.base(other(here))
    with host.up():
        until(lambda: host.has_rebooted, host)
        until(lambda: says(here) == f"a a {here.base.id} {base.id} rebooting {base.id}", host)
    initrds = b"".join(entry.path.read_bytes() for entry in base.initrds)
    kernel, initrd, arguments = host.content("b")
    assert (kernel, initrd) == (base.kernel.path.read_bytes(), initrds)
    assert re.fullmatch(rb"console=ttyS0 provision\.identity=[0-9a-f]{32}\n", arguments)
    assert host.disk["trying"] == "b" and host.disk["versions"]["b"].startswith(f"{base.id}:")
    host.starts()
    with host.up():
        until(lambda: says(here) == f"b b {here.base.id} {base.id} idle", host)
    assert (host.disk["default"], host.disk["trying"]) == ("b", None)
    kinds = [entry["kind"] for entry in here.audit("update-state")]
    assert kinds[-3:] == ["rebooting", "trying", "idle"] and not here.audit("update-failed")
    key = json.loads((host.directory / "host.json").read_text())["alive"]["key"].encode()
    assert not any(key in part for seen in wire.seen for part in seen[1:]), "the key is never sent"


def refused(here: Site, host: Host, why: str) -> None:
    with host.up():
        until(lambda: "refused" in says(here), host)
    assert why in says(here) and why in host.said, host.said
    assert host.disk["versions"]["b"] is None and not host.has_rebooted
    (row,) = here.service.reports.of_hosts(["node2"])
    assert "update-refused" in [alert.event for alert in row.alerts]


def test_a_changed_byte_is_seen(here: Site, host: Host, wire: Between) -> None:
    wire.change = lambda path, _, answer: answer[:-1] + b"\0" if path == "/update/part" else answer
    refused(here, host, "is not what the site has signed")


def test_a_changed_description_is_seen(here: Site, host: Host, wire: Between) -> None:
    wire.change = lambda path, _, answer: answer.replace(b"ttyS0", b"ttyS1") if path == "/update" else answer
    refused(here, host, "the update is not signed by this site")


def test_so_is_one_that_another_site_has_signed(here: Site, host: Host, wire: Between) -> None:
    key = Ed25519PrivateKey.generate()

    def signed(path: str, _: bytes, answer: bytes) -> bytes:
        if path != "/update":
            return answer
        head, _, rest = answer.split(b"\n", 2)
        head += b"\n"
        return head + key.sign(head + rest).hex().encode() + b"\n" + rest

    wire.change = signed
    refused(here, host, "the update is not signed by this site")


def test_an_earlier_one_is_no_answer(here: Site, host: Host, wire: Between) -> None:
    """The same host, the site's own key; the image may be one that had to be replaced."""
    wire.change = lambda path, _, answer: answer[:-1] + b"\0" if path == "/update/part" else answer
    refused(here, host, "is not what the site has signed")
    earlier = next(answer for path, _, answer in wire.seen if path == "/update")
    wire.change = lambda path, _, answer: earlier if path == "/update" else answer
    host.starts()
    with host.up():
        until(lambda: "earlier request" in says(here), host)
    assert host.disk["versions"]["b"] is None


def test_nobody_else_orders_one(here: Site, host: Host, wire: Between) -> None:
    """Who could name a key of his own in the order would be the site."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()

    def ordered(path: str, asked: bytes, answer: bytes) -> bytes:
        if path != "/alive" or not answer:
            return answer
        said = json.loads(answer)
        return json.dumps({"order": f"update {key}", "tag": said["tag"]}).encode()

    wire.change = ordered
    with host.up():
        until(lambda: host.said.count("not the server's") >= 3, host)
    assert not (host.directory / "run/update.keys").exists()
    assert not [path for path, _, _ in wire.seen if path != "/alive"]


def test_a_copy_of_its_requests_is_refused(here: Site, host: Host, wire: Between) -> None:
    with host.up():
        until(lambda: host.has_rebooted, host)
    for path in ("/update", "/update/part"):
        asked = next(body for there, body, _ in wire.seen if there == path)
        status, answer = wire.pass_on(path, asked)
        assert status == 403 and json.loads(answer)["rule"] == "alive"


def test_an_endless_answer_does_not_fill_the_hosts_memory(here: Site, host: Host, wire: Between) -> None:
    """Where its agent keeps answers, everything else of a host that is up stands, too."""
    wire.change = lambda path, _, answer: b"x" * (32 << 20) if path == "/alive" else answer
    sizes = [0]

    def not_heard() -> bool:
        kept = host.directory / "run/alive.answer"
        sizes.append(kept.stat().st_size if kept.exists() else 0)
        return "not heard" in host.said

    with host.up():
        until(not_heard, host)
    assert max(sizes) <= 64 << 10
    assert not (host.directory / "run/update.keys").exists()
    wire.change = lambda _path, _asked, answer: answer
    with host.up():
        until(lambda: host.has_rebooted, host)


@pytest.fixture
def signed(here: Site, wire: Between, tmp_path: Path) -> Host:
    """node2, which starts signed images and has opened its envelope: it runs the site's base, and is to run the other
    one."""
    here.service.secure_boot.init(NewSecureBootKey(), ROOT)
    here.service.secure_boot.sign("other", SignUnified(), ROOT)
    fields = "    base: other\n    chain: uki\n    update: {reboot: now}\n"
    here.apply(OFFICE.replace("  node2:\n", f"  node2:\n{fields}"))
    envelope = {"url": f"http://127.0.0.1:{wire.port}/envelope", "keys": []}
    label = envelope_label(1)
    key = here.service.core.store.keys.alive("node2", label).reveal().hex()
    about = {"host": "node2", "domain": "example.test", "envelope": envelope}
    return Host(tmp_path / "signed", about, here.base.id, {"alive": {"boot": label, "key": key}, "credentials": {}})


@pytest.mark.parametrize("inventory", [OFFICE])
def test_a_host_of_signed_images_takes_one_and_keeps_it(here: Site, signed: Host, wire: Between) -> None:
    with signed.up():
        until(lambda: signed.has_rebooted, signed)
    image = UnifiedImages(here.state).get(other(here))
    assert image is not None
    (slot,) = signed.content("b")
    assert slot == UnifiedImages(here.state).slot(image).path.read_bytes()
    signed.starts()
    with signed.up():
        until(lambda: says(here) == f"b b {here.base.id} {other(here)} idle", signed)
    assert (signed.disk["default"], signed.disk["trying"]) == ("b", None)
    key = json.loads((signed.directory / "alive.json").read_text())["alive"]["key"].encode()
    assert not any(key in part for seen in wire.seen for part in seen[1:]), "the key is never sent"


@pytest.mark.parametrize("inventory", [OFFICE])
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            lambda path, answer: answer[:-1] + b"\1" if path == "/update/part" else answer,
            "not what the site has signed",
        ),
        (lambda path, answer: b"" if path == "/update/part" else answer, "has less of slot than it says"),
        (
            lambda path, answer: answer.replace(b"\nslot ", b"\nslot 9") if path == "/update" else answer,
            "not signed by",
        ),
    ],
    ids=["a changed byte", "a part that is missing", "another size"],
)
def test_it_takes_no_other(
    here: Site, signed: Host, wire: Between, changed: Callable[[str, bytes], bytes], why: str
) -> None:
    wire.change = lambda path, _, answer: changed(path, answer)
    refused(here, signed, why)


@pytest.mark.parametrize("inventory", [OFFICE])
def test_one_that_opens_no_envelope_in_the_new_image_does_not_keep_it(here: Site, signed: Host) -> None:
    """It has no key to say anything with, and never hears the server."""
    with signed.up():
        until(lambda: signed.has_rebooted, signed)
    signed.starts()
    (signed.directory / "alive.json").rename(signed.directory / "sealed")
    (signed.directory / "cmdline").write_text("provision.gate=2 provision.image=0\n")
    with signed.up():
        until(lambda: signed.has_rebooted, signed)
    assert "the server has not answered" in signed.said
    assert (signed.disk["running"], signed.disk["default"], signed.disk["trying"]) == ("b", "a", "b")
    signed.disk = signed.disk | {"running": "a"}
    (signed.directory / "rebooted").unlink()
    (signed.directory / "sealed").rename(signed.directory / "alive.json")
    failed = f"failed {other(here)} 1 it did not prove itself"
    with signed.up():
        until(lambda: says(here) == f"a a {here.base.id} {other(here)} {failed}", signed)
    assert here.service.core.store.slots.of("node2").failed[other(here)].attempt == 1  # type: ignore[union-attr]
    assert not signed.has_rebooted
