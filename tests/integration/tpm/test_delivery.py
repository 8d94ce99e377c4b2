"""Credentials on their way to one TPM: from the store over a general network to their places on the host, and whatever
may be wrong with the host, its boot, the site or the wire."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.boot_paths import Initrd, http
from provision.enrolled_tpm import KeyKind
from provision.service import bindings
from provision.site_key import KeyUse
from provision.tpm import event_log
from provision.tpm.boot_chain import application_events
from tests.helpers.firmware_log import enforced, entry, log_of
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, MAC1
from tests.helpers.tpm import Tpm, software_tpm
from tests.helpers.wrapped_site import TPM, UKI, Wrapped, wrapped


@pytest.fixture
def host(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """node1 with its TPM enrolled; it has not booted yet."""
    with wrapped(tmp_path / "site", tpm) as found:
        found.enroll()
        yield found


@pytest.mark.parametrize("kind", list(KeyKind))
def test_the_host_gets_its_files_and_nobody_else_reads_them(tpm: Tpm, tmp_path: Path, kind: KeyKind) -> None:
    with wrapped(tmp_path / "site", tpm) as host:
        host.enroll(kind)
        host.boot()
        assert host.run(), host.console
        assert host.token() == CANARY
        status = (host.root / "etc/provision/token").stat()
        assert stat.S_IMODE(status.st_mode) == 0o640 and (status.st_uid, status.st_gid) == (0, 0)
        assert sorted(str(p.relative_to(host.root)) for p in host.root.rglob("*")) == [
            "etc",
            "etc/provision",
            "etc/provision/token",
        ]
        assert not any(CANARY in seen for seen in (*host.wire, *host.bus.seen)), "on the wire, or on the TPM's bus"
        assert host.here.service.core.tally.releases()["envelope", "general:office"] == 1
        assert ("general:office",) not in host.here.service.core.tally.secrets()
        [given] = host.here.audit("decision")
        assert (given["medium"], given["answer"], given["mac"]) == ("envelope", "released", MAC1)
        [opened] = host.here.audit("envelope-opened")
        assert (opened["host"], opened["answer"]) == ("node1", "opened")
        kept = b"".join(path.read_bytes() for path in host.here.state.rglob("*") if path.is_file())
        assert CANARY not in kept


def test_a_new_credential_is_a_new_envelope_and_the_old_one_is_refused(host: Wrapped) -> None:
    host.boot()
    assert host.run()
    old = next(one for one in host.wire if one.startswith(b"provision-envelope"))
    host.here.secret("node1", b"canary-of-the-second-token")
    host.restart()
    assert host.run() and host.token() == b"canary-of-the-second-token"
    host.change = lambda file: old
    host.restart()
    host.refused("was opened already", "old")
    assert host.token() == b"canary-of-the-second-token"


def test_the_same_envelope_is_made_once(host: Wrapped) -> None:
    host.boot()
    assert host.run()
    host.restart()
    assert host.run()
    first, second = (one.split(b"\n")[2] for one in host.wire if one.startswith(b"provision-envelope"))
    assert [part in second for part in first.split(b'"sealed":')[1:]] == [True], "only the approval is signed anew"


@pytest.mark.parametrize(("times", "opens"), [(1, True), (7, True), (1000, False)])
def test_measurements_of_others_do_not_keep_it_closed(host: Wrapped, times: int, opens: bool) -> None:
    """The kernel measures, too (PCR 10): a session that has seen the PCRs before that opens nothing."""
    host.boot()
    unseal, left = TPM.Tpm.unseal, iter(range(times))

    def measured_before(device: Any, *arguments: object) -> bytes:
        if next(left, None) is not None:
            device.extend(10, b"a module")
        return bytes(unseal(device, *arguments))

    with patch.object(TPM.Tpm, "unseal", measured_before):
        assert host.run() is opens
    assert opens or "failed with 0x128" in " ".join(host.console)


@pytest.mark.parametrize("pcr", [4, 8, 9])
def test_another_chain_opens_nothing(host: Wrapped, pcr: int) -> None:
    """Another loader, one more word on the command line, another initrd: each is another value of one PCR."""
    host.boot(instead={pcr: [sha256(b"somebody else's").digest()]})
    host.refused("no approved boot chain is the one that was booted", "chain")
    assert "provision tpm explain node1" in host.here.service.reports.status(ROOT, "node1").hosts[0].alerts[0].text


ROGUE = {
    "another word on the command line": ((b"\ninitrd ", b" init=/bin/sh\ninitrd "), {8, 9}),
    "another grub.cfg": ((b"set timeout=0", b"set timeout=1"), {8, 9}),
    "another initrd": (None, {9}),
}


@pytest.mark.parametrize("attack", ROGUE)
def test_a_rogue_server_with_the_same_signed_programs_opens_nothing(
    host: Wrapped, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    """What GRUB measures of his files, computed as for ours: PCR 4 is the same, and would have let him in."""
    found, (change, differs) = host.here.service.bindings, ROGUE[attack]
    honest, grub, files = host.bindings()[0], found._configurations.grub, bindings._files
    with monkeypatch.context() as rogue:
        if change is not None:
            rogue.setattr(found._configurations, "grub", lambda *asked: grub(*asked).replace(*change))
        else:
            theirs = sha256(b"his own initrd").digest()
            rogue.setattr(bindings, "_files", lambda base: files(base) | {http(Initrd(base.id, 0)): theirs})
        found._by_grub.clear()
        booted = host.bindings()[0]
    found._by_grub.clear()
    of = [{one.pcr: [e.digest for e in b.expected if e.pcr == one.pcr] for one in b.expected} for b in (honest, booted)]
    assert {pcr for pcr in of[0] if of[0][pcr] != of[1][pcr]} == differs and 4 in of[0]
    host.boot(booted)
    host.refused("no approved boot chain is the one that was booted", "chain")


def test_what_is_measured_after_the_boot_closes_it(host: Wrapped) -> None:
    host.boot()
    host.tpm.run("pcrextend", f"9:sha256={'ab' * 32}")
    host.refused("no approved boot chain", "chain")


def test_another_host_s_tpm_with_this_host_s_mac_opens_nothing(host: Wrapped, tmp_path: Path) -> None:
    host.boot()
    with software_tpm(tmp_path / "impostor") as other, wrapped(tmp_path / "elsewhere", other) as there:
        impostor = Wrapped(host.here, other, there.root)
        impostor.boot(host.bindings()[0])
        impostor.refused("this TPM is not the one that the envelope is for", "other-tpm")


def test_another_site_s_envelope_is_refused(host: Wrapped, tmp_path: Path) -> None:
    host.boot()
    with wrapped(tmp_path / "elsewhere", host.tpm) as there:
        there.enroll()
        theirs = there.ask("http://10.1.0.1/envelope", "GET", None)[1]
    host.change = lambda file: theirs
    host.refused("is not signed by this site", "not-signed")


def test_an_envelope_that_was_changed_is_refused(host: Wrapped) -> None:
    host.boot()
    for at in (0, 40, 200, -40):
        host.change = lambda file, at=at: file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]  # type: ignore[misc]
        host.refused("the envelope", "not-signed")
    host.change = lambda file: file[: len(file) // 2]
    host.refused("the envelope", "not-signed")


def test_a_revoked_image_opens_nothing_also_with_its_old_approval(host: Wrapped) -> None:
    host.boot()
    before = host.bindings()[0]
    assert host.run()
    old = next(one for one in host.wire if one.startswith(b"provision-envelope"))
    store = host.here.service.core.store
    store.image_versions.revoke(host.here.base.id)
    host.console.clear()
    assert not host.run()
    assert "versions below 2 are revoked" in " ".join(host.console)
    # The TPM learns of it from the next envelope that it is given, of a newer image.
    host.device.raise_counter(0x01805056, store.image_versions.least)
    host.change = lambda file: old
    with pytest.MonkeyPatch.context() as patched:
        host.tpm.restart()
        host.boot(before)
        patched.setattr(type(store.image_versions), "least", 1)
        host.refused("the approval of what was booted is revoked", "revoked")


def test_a_host_without_a_tpm_says_so(host: Wrapped) -> None:
    host.boot()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            type(host), "device", property(lambda self: (_ for _ in ()).throw(FileNotFoundError(2, "none")))
        )
        host.refused("this machine's kernel knows no TPM", "no-tpm")


def test_a_tpm_that_is_not_enrolled_gets_nothing(tpm: Tpm, tmp_path: Path) -> None:
    with wrapped(tmp_path / "site", tpm) as host:
        assert not host.run()
        assert "No TPM of node1 is enrolled" in " ".join(host.console)
        assert host.here.audit("decision")[-1]["rule"] == "tpm-not-enrolled"


def test_the_operator_is_told_what_was_expected_and_what_was_booted(host: Wrapped) -> None:
    """One more word on the kernel's command line, from a rogue server."""
    explained = host.here.service.tpm_explanations.explain
    [before] = explained("node1", ROOT).networks
    assert before.missing is None and [pcr.same for pcr in before.chains[0].pcrs] == [None] * 3
    expected = host.bindings()[0].expected
    at = next(n for n, one in enumerate(expected) if one.data.startswith(b"grub_cmd: linux"))
    word = expected[at].data.removeprefix(b"grub_cmd: ") + b" init=/bin/sh"
    events = [*expected[:at], replace(expected[at], digest=sha256(word).digest(), data=word), *expected[at + 1 :]]
    host.log = log_of(enforced(b"somebody's certificate")) + b"".join(entry(one) for one in events)
    host.boot(instead={8: [one.digest for one in events if one.pcr == 8]})
    host.refused("no approved boot chain", "chain")
    said = host.here.service.netboot.openings.last("node1")
    assert said is not None and {one.pcr for one in said.events} == {4, 8, 9}, "there is no room for the keys"
    found = explained("node1", ROOT)
    assert found.last == "node1 has booted in no chain that the site has approved"
    four, eight, nine = found.networks[0].chains[0].pcrs
    assert (four.same, eight.same, nine.same) == (True, False, True)
    assert eight.differs is not None
    assert "'grub_cmd: linux /boot/" in eight.differs and "init=/bin/sh' (" in eight.differs
    assert "was expected, but it measured" in eight.differs


@pytest.fixture
def unified(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """The same by a unified kernel that the site has signed."""
    with wrapped(tmp_path / "site", tpm, UKI) as found:
        boot = found.here.service.secure_boot
        boot.init(NewSecureBootKey(), ROOT)
        boot.sign("base", SignUnified(), ROOT)
        found.enroll()
        yield found


@pytest.mark.parametrize("secure_boot", [True, False])
@pytest.mark.parametrize("failures", [0, 7])
def test_a_unified_kernel_opens_it_whatever_failed_before(unified: Wrapped, secure_boot: bool, failures: int) -> None:
    [with_secure_boot, without] = unified.bindings()
    binding = with_secure_boot if secure_boot else without
    programs = [one.digest for one in binding.expected if one.pcr == 4][2:]
    started = [one.digest for one in application_events(*programs, failures=failures)]
    unified.boot(binding, instead={4: started})
    assert unified.run(), unified.console
    assert unified.token() == CANARY and not any(CANARY in seen for seen in (*unified.wire, *unified.bus.seen))


@pytest.mark.parametrize(
    "instead",
    [
        {4: [sha256(b"another unified kernel, signed by another site").digest()]},
        {11: [sha256(b"one more word on its command line").digest()]},
        {12: [sha256(b"a companion .cred file, or load options").digest()]},
    ],
)
def test_another_unified_kernel_or_a_companion_opens_nothing(unified: Wrapped, instead: dict[int, list[bytes]]) -> None:
    unified.boot(instead=instead)
    unified.refused("no approved boot chain is the one that was booted", "chain")


def by_certificate(unified: Wrapped) -> tuple[bytes, ...]:
    """Let the host be enrolled as one whose firmware took the image by the site's certificate; returns what it measures
    into PCR 7."""
    [key] = unified.here.service.core.store.site_keys.of(KeyUse.SECURE_BOOT)
    measured = [one for one in event_log.parse(log_of(enforced(key.public)), "log") if one.pcr == 7]
    store = unified.here.service.core.store
    store.tpms.remove("node1")
    unified.enroll(pcr7=event_log.replay(measured)[7], loader=key.fingerprint)
    return tuple(one.digest for one in measured)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_unified_kernel_opens_it_by_the_site_s_certificate(unified: Wrapped, kind: KeyKind) -> None:
    measured = by_certificate(unified)
    own = unified.here.service.core.store.tpms.get("node1")
    assert own is not None
    unified.here.service.core.store.tpms.remove("node1")
    unified.enroll(kind, pcr7=own.pcr7, loader=own.loader)
    [binding] = unified.bindings()
    assert binding.pcrs == (7, 11, 12), "the image's hash, and what failed before, does not count"
    unified.boot(instead={7: list(measured), 4: [sha256(b"whatever boot options failed before").digest()]})
    assert unified.run(), unified.console
    assert unified.token() == CANARY and not any(CANARY in seen for seen in (*unified.wire, *unified.bus.seen))


@pytest.mark.parametrize("secure", [b"\0", b"\1"])
def test_who_measures_the_site_s_image_himself_opens_nothing(unified: Wrapped, secure: bytes) -> None:
    """Another system on the host, Secure Boot off or by another certificate, that has the image and all of its log."""
    measured = by_certificate(unified)
    [binding] = unified.bindings()
    other = enforced(secure=secure) if secure == b"\0" else enforced(b"another certificate")
    first = [one.digest for one in event_log.parse(log_of(other), "log") if one.pcr == 7]
    unified.boot(instead={7: [*first, *measured]})
    unified.log = log_of((*other, *enforced(b"the site's")))
    unified.refused("no approved boot chain", "chain")
    assert unified.bindings() == (binding,), "4 and 11 are not approved beside it"
    seven, *_ = unified.here.service.tpm_explanations.explain("node1", ROOT).networks[0].chains[0].pcrs
    assert (seven.pcr, seven.same) == (7, False) and seven.differs is not None
    assert "has changed since the enrolment" in seven.differs


def test_another_image_by_the_site_s_certificate_opens_nothing(unified: Wrapped) -> None:
    unified.boot(instead={7: list(by_certificate(unified)), 11: [sha256(b"one more word").digest()]})
    unified.refused("no approved boot chain", "chain")


def test_a_certificate_of_the_site_that_was_retired_counts_no_more(unified: Wrapped) -> None:
    """Whoever has its key starts what he likes, and measures the site's image behind it."""
    measured = by_certificate(unified)
    unified.boot(instead={7: list(measured)})
    assert unified.run()
    service = unified.here.service
    service.secure_boot.init(NewSecureBootKey(), ROOT)
    first, _ = service.core.store.site_keys.of(KeyUse.SECURE_BOOT)
    service.site_keys.retire(first.number, ROOT)
    assert {binding.pcrs for binding in unified.bindings()} == {(4, 11, 12)}
    unified.refused("no approved boot chain", "chain")
    service.secure_boot.sign("base", SignUnified(), ROOT)
    assert {binding.pcrs for binding in unified.bindings()} == {(4, 11, 12)}


def test_nine_boot_options_that_failed_are_too_many(unified: Wrapped) -> None:
    binding = unified.bindings()[0]
    programs = [one.digest for one in binding.expected if one.pcr == 4][2:]
    unified.boot(binding, instead={4: [one.digest for one in application_events(*programs, failures=8)]})
    unified.refused("no approved boot chain", "chain")


def test_a_new_unified_kernel_is_approved_and_nothing_is_wrapped_anew(unified: Wrapped) -> None:
    old = unified.bindings()[0]
    unified.boot(old)
    assert unified.run()
    unified.here.apply(UKI.replace("  base: base\n", "  base: base\n  kernel_arguments: [quiet]\n", 1))
    unified.here.service.secure_boot.sign("base", SignUnified(), ROOT)
    assert unified.bindings()[0].branches != old.branches
    unified.tpm.restart()
    unified.boot(old)
    unified.refused("no approved boot chain", "chain")
