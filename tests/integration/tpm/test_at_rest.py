"""The envelope of a host at rest: on its own disk, which is worth nothing without its TPM and an approved boot
chain."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from provision.boot import Medium
from provision.enrolled_tpm import KeyKind
from provision.errors import Denied
from provision.media import identity
from provision.media.initrd import ALIVE, IDENTITY
from provision.service.alive import Message
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, GENERAL, MAC1
from tests.helpers.tpm import Tpm, software_tpm
from tests.helpers.wrapped_site import AT_REST, INVENTORY, RECORD, Wrapped, wrapped

SIZE = 256 * 1024
STORED = INVENTORY.replace("  node1:\n", "  node1:\n    disk: {serial: boot-7}\n", 1)
CLEAR = b"canary-of-the-identity-in-clear"


def with_disk(tmp_path: Path, host: Wrapped) -> Path:
    """Let the host have a configuration partition, with an identity in clear of before."""
    base = host.here.base
    host.here.service.core._bases[base.id] = replace(base, features=(ALIVE, IDENTITY))
    host.disk = tmp_path / "disk"
    before = bytearray(SIZE)
    for place in (0, 1):
        for offset, data in identity.write(SIZE, place, place + 7, CLEAR * 3000):
            before[offset : offset + len(data)] = data
    host.disk.write_bytes(before)
    return host.disk


@pytest.fixture
def host(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """node1 with a disk and its TPM enrolled; it has booted once."""
    with wrapped(tmp_path / "site", tpm, STORED) as found:
        found.enroll()
        with_disk(tmp_path, found)
        found.boot()
        assert found.run(), found.console
        yield found


def files_on(host: Wrapped) -> tuple[bytes, bytes]:
    assert host.disk is not None
    copy = identity.newest(host.disk.read_bytes())
    assert copy is not None
    found: tuple[bytes, bytes] = RECORD.unpack(copy.content)
    return found


def envelopes(host: Wrapped) -> list[bytes]:
    """Those that were on the wire."""
    return [one for one in host.wire if one.startswith(b"provision-envelope")]


def silent(host: Wrapped) -> None:
    """Power the host off and on; the server gives nothing any more."""
    host.silent = True
    host.restart()
    host.console.clear()
    (host.root / "etc/provision/token").unlink(missing_ok=True)


def test_the_disk_has_the_envelope_and_nothing_else(host: Wrapped) -> None:
    assert host.disk is not None
    data = host.disk.read_bytes()
    assert files_on(host) == (envelopes(host)[0], b"")
    assert CANARY not in data and b"canary" not in data, "nothing is left of what was there in clear"
    places = [identity.newest(data[:at] + bytes(512) + data[at + 512 :]) for at in (0, SIZE // 2)]
    assert [copy and copy.content for copy in places] == [RECORD.pack(envelopes(host)[0])] * 2, "both copies have it"


def test_it_opens_at_each_boot_also_when_the_server_is_silent(host: Wrapped) -> None:
    assert host.disk is not None
    before = host.disk.read_bytes()
    for _ in range(2):
        silent(host)
        assert host.run(), host.console
        assert host.token() == CANARY
        assert "this host opens the envelope on its own disk" in " ".join(host.console)
    assert host.disk.read_bytes() == before, "and is not written again"
    assert not any(CANARY in seen for seen in (*host.wire, *host.bus.seen))


@pytest.mark.parametrize("kind", list(KeyKind))
def test_with_the_server_the_disk_is_written_only_for_what_is_new(tpm: Tpm, tmp_path: Path, kind: KeyKind) -> None:
    with wrapped(tmp_path / "site", tpm, STORED) as host:
        host.enroll(kind)
        disk = with_disk(tmp_path, host)
        host.boot()
        assert host.run(), host.console
        before = disk.read_bytes()
        host.restart()
        assert host.run() and disk.read_bytes() == before
        host.here.secret("node1", b"canary-of-the-second-token")
        host.restart()
        assert host.run() and host.token() == b"canary-of-the-second-token"
        assert files_on(host)[0] == envelopes(host)[-1]
        assert envelopes(host)[0] not in disk.read_bytes(), "nothing of the older one is left"


def test_an_older_envelope_on_the_disk_is_not_opened_any_more(host: Wrapped) -> None:
    """Somebody has copied the disk, and puts the copy back when the credential was replaced."""
    assert host.disk is not None
    older = host.disk.read_bytes()
    host.here.secret("node1", b"canary-of-the-second-token")
    host.restart()
    assert host.run()
    host.disk.write_bytes(older)
    host.restart()
    assert host.run() and host.token() == b"canary-of-the-second-token", "the server's wins"
    assert files_on(host)[0] == envelopes(host)[-1], "and is stored"
    host.disk.write_bytes(older)
    silent(host)
    host.refused("was opened already", "old")


def test_the_server_s_older_one_does_not_win_over_a_newer_one_on_the_disk(host: Wrapped) -> None:
    """Also when the TPM does not remember: it was cleared."""
    older = envelopes(host)[0]
    host.here.secret("node1", b"canary-of-the-second-token")
    host.restart()
    assert host.run()
    host.tpm.run("clear", "-c", "p")
    host.restart()
    host.change = lambda file: older
    host.refused("was opened already", "old")


def test_another_chain_and_a_second_start_open_nothing(host: Wrapped) -> None:
    silent(host)
    assert host.run()
    host.refused("no approved boot chain is the one that was booted", "chain")
    host.tpm.restart()
    host.boot(instead={9: [sha256(b"his own initrd").digest()]})
    host.refused("no approved boot chain is the one that was booted", "chain")


def test_a_revoked_image_opens_what_is_on_the_disk_no_more(host: Wrapped) -> None:
    host.device.raise_counter(0x01805056, 2)
    silent(host)
    host.refused("the approval of what was booted is revoked", "revoked")


def test_a_no_of_the_server_is_a_no(host: Wrapped) -> None:
    """The operator has removed the TPM, or declared the host compromised: the host is not to go on by its disk."""
    host.here.service.compromises.declare("node1", ROOT)
    silent(host)
    host.silent = False
    assert not host.run() and not (host.root / "etc/provision/token").exists()
    assert "the server gives no envelope" in " ".join(host.console)


@pytest.mark.parametrize(
    ("status", "content", "opens"),
    [
        (200, b"<html>", False),
        (404, b"<html>not found", True),
        (503, b'{"detail": "it starts"}', True),
        (403, b'{"detail": "the clock", "rule": "clock-went-back"}', True),
        (403, b'{"detail": "it is pending", "rule": "tpm-pending"}', False),
    ],
)
def test_what_cannot_answer_is_as_silent(host: Wrapped, status: int, content: bytes, opens: bool) -> None:
    """Something else than a provisioning server, or one that cannot; what the site has not signed is told instead."""
    silent(host)
    asked = Wrapped.ask

    def ask(url: str, method: str, body: str | None) -> tuple[int, bytes]:
        return (status, content) if method == "GET" else asked(host, url, method, body)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(host, "ask", ask)
        assert host.run() == opens
    assert (host.root / "etc/provision/token").exists() == opens


def test_a_moved_or_cloned_disk_opens_on_no_other_machine(host: Wrapped, tmp_path: Path) -> None:
    """Not even on one that has this host's MAC and has booted the approved chain; and the server hears of it."""
    assert host.disk is not None
    clone = tmp_path / "clone"
    clone.write_bytes(host.disk.read_bytes())
    with software_tpm(tmp_path / "impostor") as other:
        elsewhere = Wrapped(host.here, other, tmp_path / "elsewhere" / "root", disk=clone, silent=True)
        elsewhere.root.parent.mkdir()
        elsewhere.boot(host.bindings()[0])
        elsewhere.refused("this TPM is not the one that the envelope is for", "other-tpm")
    assert clone.read_bytes() == host.disk.read_bytes()


def test_another_host_with_the_disk_says_whose_it_is(host: Wrapped) -> None:
    silent(host)
    host.host = "node2"
    host.refused("the envelope is for node1, and this is node2", "foreign")


@pytest.mark.parametrize("at", [4096 + 40, 4096 + 400])
def test_a_changed_record_is_none(host: Wrapped, at: int) -> None:
    """A bit of the newest copy: the other one counts. The same in both, sums and all: the site has not signed it."""
    assert host.disk is not None
    data = bytearray(host.disk.read_bytes())
    data[at] ^= 1
    host.disk.write_bytes(data)
    silent(host)
    assert host.run() and host.token() == CANARY
    file = bytearray(files_on(host)[0])
    file[at - 4096] ^= 1
    RECORD.Partition(str(host.disk)).write(RECORD.pack(bytes(file)))
    silent(host)
    host.refused("the envelope", "not-signed")


def said(host: Wrapped, sequence: int = 1) -> Message:
    """What the host says by the key in its envelope."""
    about = json.loads((host.root / "etc/provision/alive.json").read_text())
    line = host.identity.read_text().strip() if host.identity.exists() else ""
    unsigned = Message("node1", about["alive"]["boot"], "run1", sequence, True, b"", line)
    key = bytes.fromhex(about["alive"]["key"])
    return replace(unsigned, tag=hmac.digest(key, unsigned.signed, hashlib.sha256))


def test_the_server_knows_what_the_host_holds(host: Wrapped) -> None:
    service = host.here.service
    assert service.netboot.phone_home.alive(said(host)) is None
    shown = service.inventories.host("node1", ROOT).stored
    assert shown is not None and shown.sealed and shown.current and shown.credentials == {"token": 1}
    host.here.secret("node1", b"canary-of-the-second-token")
    shown = service.inventories.host("node1", ROOT).stored
    assert shown is not None and not shown.current
    assert service.core.store.earlier_credentials.of("node1") == {"token": 1}
    host.restart()
    assert host.run()
    service.netboot.phone_home.alive(said(host))
    shown = service.inventories.host("node1", ROOT).stored
    assert shown is not None and shown.current and shown.credentials == {"token": 2}
    assert service.core.store.earlier_credentials.of("node1") == {}, "the host has confirmed the new one"
    forged = replace(said(host, 2), tag=bytes(32))
    with pytest.raises(Denied, match="not signed with the key of that boot"):
        service.netboot.phone_home.alive(forged)


def test_it_is_still_not_booted_without_its_measured_seed(host: Wrapped) -> None:
    """What is on the disk changes nothing of what the boot loader gets: its values are bound."""
    service = host.here.service
    service.netboot.phone_home.alive(said(host))
    state = service.core.state("node1")
    assert state.stored is not None and state.stored.is_sealed
    assert not any(state.is_plain(medium, GENERAL, host.here.clock()) for medium in Medium)
    rows = [row for row in service.reports.explain("node1", ROOT) if row.medium is Medium.ENVELOPE]
    assert {row.caution for row in rows} == {"An envelope is on its disk, too, which it opens when no server answers"}
    [decided] = [entry for entry in host.here.audit("decision") if entry["mac"] == MAC1]
    assert decided["medium"] == "envelope"


def test_decommission_wipes_it_and_says_that_it_is_ciphertext(host: Wrapped) -> None:
    service = host.here.service
    service.netboot.phone_home.alive(said(host))
    host.here.apply(STORED.replace("netboot: always", "netboot: never"))
    done = service.decommissions.decommission("node1", ROOT)
    assert done.wiping and done.sealed
    order = service.netboot.phone_home.alive(said(host, 2))
    assert order is not None and order["order"] == "wipe"
    assert service.core.store.tpms.get("node1") is None
    host.identity.write_text("wiped\n")
    service.netboot.phone_home.alive(said(host, 3))
    assert service.inventories.host("node1", ROOT).stored is None
    assert service.compromises.declare("node1", ROOT).sealed is False


def test_a_compromised_host_s_disk_has_ciphertext_and_its_key_ends(host: Wrapped) -> None:
    service = host.here.service
    service.netboot.phone_home.alive(said(host))
    assert service.decommissions.lost("node1", ROOT).sealed
    with pytest.raises(Denied, match="not signed with the key of that boot"):
        service.netboot.phone_home.alive(said(host, 2))


def test_what_cannot_be_stored_is_said(host: Wrapped) -> None:
    assert host.disk is not None
    host.disk.write_bytes(bytes(16 * 1024))
    host.restart()
    assert host.run() and host.token() == CANARY, "the host has its credentials all the same"
    assert "provision-disk: the envelope is not stored: it is too small" in host.console
    service = host.here.service
    service.netboot.phone_home.alive(said(host))
    [alert] = [one for one in service.reports.status(ROOT, "node1").hosts[0].alerts if one.event == "identity-refused"]
    assert "it is too small" in alert.text


def test_without_word_of_a_disk_there_is_none(tmp_path: Path) -> None:
    none = AT_REST.Disk(str(tmp_path / "part"), str(tmp_path / "seed"), str(tmp_path / "identity"))
    none.look("node1", [])
    none.keep(b"", None, {}, None, print)
    assert (none.file, none.number) == (b"", 0) and not (tmp_path / "identity").exists()
