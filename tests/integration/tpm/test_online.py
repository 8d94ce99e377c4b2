"""Hosts that prove each boot before they get their envelope: what a server believes, and what opens afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.errors import Denied
from provision.service.proving import QUOTED
from provision.service.unfinished import LIFETIME
from provision.site_key import KeyUse
from provision.tpm import event_log
from provision.tpm.boot_chain import application_events
from provision.tpm.chains import Binding
from provision.tpm.event_log import Event, EventType
from tests.helpers.firmware_log import enforced, entry, header, log_of
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, GENERAL
from tests.helpers.tpm import Tpm, software_tpm
from tests.helpers.wrapped_site import INVENTORY, KEPT_KEY, LOG, ONLINE, Wrapped, wrapped

ONCE = INVENTORY.replace("    netboot: always\n", "    netboot: always\n    tpm: online\n", 1)
UKI = ONCE.replace("    netboot: always\n", "    netboot: always\n    chain: uki\n", 1)
FOREIGN = Event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, sha256(b"somebody else's").digest(), b"")


def keys(*certificates: bytes, secure: bytes = b"\1") -> tuple[Event, ...]:
    """What firmware says of its keys, and by which of them it took programs."""
    return event_log.parse(log_of(enforced(*certificates, secure=secure)), "log")


def booted(host: Wrapped, binding: Binding | None = None, first: tuple[Event, ...] = keys(b"Microsoft")) -> None:
    """Boot the host as the server expects, on a firmware that says more than the server can compute."""
    host.tpm.restart()
    host.log = b""
    menu = Event(4, EventType.EFI_ACTION, sha256(b"Entering the menu").digest(), b"Entering the menu")
    host.measure((*first, menu, *(binding or host.bindings()[0]).expected))


@pytest.fixture
def host(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """node1, which boots by GRUB, has its TPM enrolled, and has booted."""
    with wrapped(tmp_path / "site", tpm, ONCE) as found:
        found.enroll()
        booted(found)
        yield found


@pytest.fixture
def unified(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """The same by a unified kernel that the site has signed, with Secure Boot off."""
    with wrapped(tmp_path / "site", tpm, UKI) as found:
        found.here.service.secure_boot.init(NewSecureBootKey(), ROOT)
        found.here.service.secure_boot.sign("base", SignUnified(), ROOT)
        found.enroll()
        booted(found, found.bindings()[1], keys(secure=b"\0"))
        yield found


@pytest.mark.parametrize("storage", ["persistent", "none"])
def test_nothing_of_it_stays_for_another_start(host: Wrapped, tmp_path: Path, storage: str) -> None:
    """What opens in one start alone is worth nothing on a disk, or in the TPM."""
    host.storage = storage
    if storage != "none":
        host.disk = tmp_path / "disk"
        host.disk.write_bytes(bytes(256 * 1024))
    assert host.run(), host.console
    assert host.token() == CANARY
    assert host.disk is None or not any(host.disk.read_bytes())
    assert KEPT_KEY.find(host.device) is None
    host.silent = True
    host.console.clear()
    assert not host.run()
    assert "no server answers with this host's envelope" in " ".join(host.console)


def refused(host: Wrapped, words: str) -> None:
    """Require that nothing is given, by policy, that the console says why, and that the operator is told."""
    host.console.clear()
    before = len(host.wire)
    assert not host.attempt()
    assert words in " ".join(host.console), host.console
    assert not any(one.startswith(b"provision-envelope") for one in host.wire[before:])
    # What comes again within a minute is counted.
    denied = [one for one in host.here.audit("decision") if one["answer"] == "denied"]
    assert "tpm-proof-failed" in {one["rule"] for one in denied[-2:]}
    last = host.here.service.proving.last("node1")
    assert last is not None and words in last.text and "has not proved its boot" in last.text
    alerts = host.here.service.reports.status(ROOT, "node1").hosts[0].alerts
    assert any(one.event == "tpm-proof-failed" and words in one.text for one in alerts)


@pytest.mark.parametrize("boots", ["host", "unified"])
def test_a_host_that_proves_its_boot_gets_its_envelope(request: pytest.FixtureRequest, boots: str) -> None:
    """Its firmware measures what no server computes: offline, its values open nothing."""
    host: Wrapped = request.getfixturevalue(boots)
    assert host.run(), host.console
    assert host.token() == CANARY and not any(CANARY in seen for seen in (*host.wire, *host.bus.seen))
    asked, given = host.here.audit("decision")
    assert (asked["rule"], given["answer"], given["medium"]) == ("tpm-not-proved", "released", "envelope")
    [proved] = host.here.audit("tpm-proved")
    assert proved["host"] == "node1" and "in start" in proved["reason"] and proved["answer"] == "released"
    found = host.here.service.tpm_explanations.explain("node1", ROOT)
    assert found.online and found.proof is not None and "has booted by" in found.proof
    assert all(network.missing is None for network in found.networks)
    booted(host, host.bindings()[-1], keys(b"x") if boots == "host" else keys(secure=b"\0"))
    assert host.run(), "and again at the next boot"


def test_without_a_proof_there_is_no_envelope_whoever_asks(host: Wrapped) -> None:
    status, content = host.ask("http://10.1.0.1/envelope", "GET", None)
    assert (status, json.loads(content)["rule"]) == (403, "tpm-not-proved")
    state = host.here.service.core.state("node2")
    with pytest.raises(Denied, match="the proof of its boot does not match its setting"):
        host.here.service.envelopes.file(None, state, (), (1, 0))  # type: ignore[arg-type]


def test_it_opens_in_that_start_alone(host: Wrapped) -> None:
    """Who has kept the envelope, and starts the host again in the same chain, without this server: the second lock."""
    assert host.run(), host.console
    old = next(one for one in host.wire if one.startswith(b"provision-envelope"))
    booted(host)
    host.change = lambda file: old
    host.refused("no approved boot chain is the one that was booted", "chain")
    (host.root / "etc/provision/token").unlink()
    host.change = lambda file: file
    booted(host)
    assert host.run() and host.token() == CANARY


def test_what_another_host_was_given_for_the_same_chain_opens_nothing_of_it(unified: Wrapped) -> None:
    """Values of a unified kernel are the same for all hosts, and approvals of others may be copied."""
    assert unified.run()
    body = json.loads(next(one for one in unified.wire if one.startswith(b"provision-envelope")).split(b"\n")[2])
    service = unified.here.service
    store = service.core.store
    unified.here.apply(UKI.replace("    tpm: online\n", ""))
    booted(unified, unified.bindings()[1], keys(secure=b"\0"))
    status, content = unified.ask("http://10.1.0.1/envelope", "GET", None)
    assert status == 200 and store.tpms.start("node1") is not None
    offline = json.loads(content.split(b"\n")[2])
    assert offline["authority"]["reference"] != body["authority"]["reference"]
    assert "start" not in offline["approvals"][0] and len(body["approvals"][0]["start"]) == 2
    # Even one who signs for the site mixes nothing that a TPM would take: it looks at the reference itself.
    number = offline["sequence"] + 1
    own = {name: body[name] for name in ("object", "nonce", "sealed", "revision")}
    for mixed in (
        body | {"approvals": offline["approvals"]},
        body | {"authority": offline["authority"]},
        offline | own,
    ):
        file = resigned(unified, mixed | {"sequence": number})
        unified.change = lambda _, file=file: file  # type: ignore[misc]
        unified.refused("no approved boot chain is the one that was booted", "chain")


def resigned(host: Wrapped, body: dict[str, Any]) -> bytes:
    """A file that the site's key has signed."""
    _, key = host.here.service.site_keys.signing()
    text = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    return b"\n".join((b"provision-envelope 1", key.sign(b"provision-envelope 1\n" + text).hex().encode(), text, b""))


def test_once_it_was_opened_nothing_in_this_start_proves_anything(host: Wrapped) -> None:
    """Another kernel that the booted one starts has the log, and the key; and what it quotes is more than the log."""
    assert host.run()
    refused(host, "log does not give the quoted PCR 9, 11")


@pytest.mark.parametrize(
    ("pcr", "words"),
    [
        (8, "PCR 8 is not the computed one"),
        (9, "PCR 9 is not the computed one"),
        (4, "its firmware started a program that is not part of its boot chain"),
    ],
)
def test_another_chain_is_refused_in_words(host: Wrapped, pcr: int, words: str) -> None:
    host.tpm.restart()
    host.log = b""
    events = list(host.bindings()[0].expected)
    at = next(n for n, one in reversed(list(enumerate(events))) if one.pcr == pcr and one.kind != EventType.EFI_ACTION)
    events[at] = replace(events[at], digest=FOREIGN.digest)
    host.measure((*keys(b"Microsoft"), *events))
    refused(host, words)


def test_grub_without_secure_boot_is_refused_in_words(host: Wrapped) -> None:
    """All that was booted is right, and was enrolled with Secure Boot on."""
    booted(host, first=keys(b"Microsoft", secure=b"\0"))
    refused(host, "its firmware does not say, before all else in PCR 7, that Secure Boot is on")


def test_one_more_application_is_refused(unified: Wrapped) -> None:
    binding = unified.bindings()[1]
    at = next(n for n, one in enumerate(binding.expected) if one.kind == EventType.EFI_BOOT_SERVICES_APPLICATION)
    unified.tpm.restart()
    unified.log = b""
    unified.measure((*binding.expected[:at], FOREIGN, *binding.expected[at:]))
    refused(unified, "its firmware started a program that is not part of its boot chain")
    # And in the log by another name.
    for kind in (EventType.EFI_ACTION, EventType.SEPARATOR, EventType.IPL):
        unified.log = unified.log.replace(entry(FOREIGN), entry(replace(FOREIGN, kind=kind, data=b"Calling")))
        refused(unified, "measured into PCR 4 something that is not a boot step")
        unified.log = unified.log.replace(entry(replace(FOREIGN, kind=kind, data=b"Calling")), entry(FOREIGN))


def test_a_log_with_an_event_less_or_more_is_refused(host: Wrapped) -> None:
    whole = host.log
    parts = [entry(event) for event in event_log.parse(whole, "log") if event.pcr in QUOTED]
    for part in (parts[0], parts[len(parts) // 2], parts[-1]):
        host.log = whole.replace(part, b"", 1)
        refused(host, "log does not give the quoted PCR")
    host.log = whole + entry(FOREIGN)
    refused(host, "log does not give the quoted PCR 4")
    host.log = b""
    refused(host, "log of what it measured is empty")
    host.log = whole
    assert host.run(), host.console


def tampered(host: Wrapped, change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Callable[..., Any]:
    """How the host asks when somebody changes what it sends, by the path."""
    ask = host.ask

    def asks(url: str, method: str, body: str | None) -> tuple[int, bytes]:
        path = url.removeprefix("http://10.1.0.1")
        return ask(url, method, json.dumps(change(path, json.loads(body))) if body else body)

    return asks


def test_a_quote_is_good_once_and_for_its_own_nonce(host: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, Any]] = []

    def keep(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/proof":
            kept.append(body)
        return body

    monkeypatch.setattr(host, "ask", tampered(host, keep))
    assert host.run()
    again = json.dumps(kept[0])
    status, content = host.ask("http://10.1.0.1/proof", "POST", again)
    assert status == 403 and b"has begun no proof in the last minutes" in content
    monkeypatch.undo()
    booted(host)
    # A new nonce, and the old quote, whose values are those of now but for what was measured since.
    monkeypatch.setattr(host, "ask", tampered(host, lambda path, body: kept[0] if path == "/proof" else body))
    refused(host, "is not for the nonce that was sent")
    monkeypatch.undo()

    quote = type(host.device).quote

    def other(device: Any, key: Any, nonce: bytes, numbers: list[int]) -> Any:
        return quote(device, key, bytes(32), numbers)

    with monkeypatch.context() as wrong:
        wrong.setattr(type(host.device), "quote", other)
        refused(host, "is not for the nonce that was sent")
    assert host.run(), host.console


def test_another_tpm_s_quote_is_refused(host: Wrapped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine with the host's MAC and address, in the right chain; with its own key, and with the host's."""
    with software_tpm(tmp_path / "impostor") as other:
        impostor = Wrapped(host.here, other, host.root)
        impostor.measure(event_log.parse(host.log, "log"))
        refused(impostor, "Its TPM is not the one that is enrolled")
        with host.device.primary(0x4000000B, ONLINE.tpm.attestation_template()) as key:
            area = key.public.hex()

        def claims(path: str, body: dict[str, Any]) -> dict[str, Any]:
            return body | {"attestation": area} if path == "/proof/begin" else body

        monkeypatch.setattr(impostor, "ask", tampered(impostor, claims))
        refused(impostor, "is not signed by the host's attestation key")
        monkeypatch.undo()
        forged = area[:8] + "00040072" + area[16:]
        monkeypatch.setattr(impostor, "ask", tampered(impostor, lambda path, body: body | {"attestation": forged}))
        refused(impostor, "is not an attestation key")
    assert host.run(), "and none of it has ended what the host does"


def test_a_tpm_that_was_cleared_or_set_back_proves_nothing(host: Wrapped) -> None:
    assert host.run()
    store = host.here.service.core.store
    seen = store.tpms.start("node1")
    assert seen is not None and seen[0] > 0
    store.tpms.rise("node1", (seen[0] + 5, 0))
    booted(host)
    refused(host, f"after {seen[0] + 5} and 0")
    # Once an operator has enrolled it anew, it counts from there.
    host.here.service.tpms.remove("node1", False, ROOT)
    host.enroll()
    booted(host)
    assert host.run(), host.console
    host.tpm.run("clear", "-c", "p")
    host.log = b""
    booted(host)
    refused(host, "restarted 0 times, after ")
    assert "provision tpm remove node1" in " ".join(host.console)


def test_the_server_lets_the_same_start_ask_again_until_it_has_opened_one(host: Wrapped) -> None:
    host.change = lambda file: file.replace(b"node1", b"node2", 1)
    host.refused("is not signed by this site", "not-signed")
    host.change = lambda file: file
    assert host.run(), host.console


def test_a_proof_takes_minutes_and_comes_from_one_machine(host: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/proof":
            host.here.clock.now += LIFETIME
        return body

    with monkeypatch.context() as slow:
        slow.setattr(host, "ask", tampered(host, late))
        refused(host, "has begun no proof in the last minutes")

    def moved(path: str, body: dict[str, Any]) -> dict[str, Any]:
        host.peer = "10.1.0.12" if path == "/proof" else "10.1.0.11"
        return body

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(host, "ask", tampered(host, moved))
        host.console.clear()
        assert not host.attempt()
        assert "No TPM of node2 is enrolled" in " ".join(host.console)
    host.peer = "10.1.0.11"
    assert host.run(), host.console


def test_a_host_that_does_not_have_to_prove_anything_cannot(tpm: Tpm, tmp_path: Path) -> None:
    with wrapped(tmp_path / "site", tpm) as host:
        host.enroll()
        with host.device.primary(0x4000000B, ONLINE.tpm.attestation_template()) as key:
            body = json.dumps({"attestation": key.public.hex()})
        status, content = host.ask("http://10.1.0.1/proof/begin", "POST", body)
        assert status == 403 and b"'tpm: offline'" in content


@pytest.mark.parametrize("path", ["/proof/begin", "/proof/log", "/proof"])
def test_garbage_is_refused_and_not_repeated(host: Wrapped, path: str) -> None:
    values = {str(number): "00" * 32 for number in QUOTED}
    good = {"attestation": "00", "at": 0, "part": "", "message": "00", "signature": "00", "pcrs": values}
    wrong: list[Any] = [None, 7, "zqxj-marker", [], {}, "0g", "00" * 5000, True, -1]
    for body in ([], 7, "zqxj-marker", *(good | {name: value} for name in good for value in wrong)):
        status, content = host.ask(f"http://10.1.0.1{path}", "POST", json.dumps(body))
        assert status in (204, 403, 422) or (status == 200 and path == "/proof/begin"), content
        assert b"zqxj-marker" not in content


def test_another_certificate_of_the_site_is_none_when_the_enrolment_was_by_one(unified: Wrapped) -> None:
    """A new dbx is another PCR 7, and is taken here; another key that took the image, or Secure Boot off, is not."""
    [key] = unified.here.service.core.store.site_keys.of(KeyUse.SECURE_BOOT)
    first = keys(key.public)
    unified.here.service.core.store.tpms.remove("node1")
    unified.enroll(pcr7=event_log.replay(first)[7], loader=key.fingerprint)
    with_dbx = (*first[:2], Event(7, 0x80000001, sha256(b"dbx").digest(), b"dbx"), *first[2:])
    sections = [one for one in unified.bindings()[0].expected if one.pcr == 11]
    image = unified.here.service.bindings.expected(unified.here.service.core.state("node1"), GENERAL).bindings[0]
    for keys_of_firmware, words in (
        (with_dbx, ""),
        (keys(b"another"), "by the certificate of the site"),
        (keys(key.public, secure=b"\0"), "by the certificate of the site"),
    ):
        unified.tpm.restart()
        unified.log = b""
        programs = [one.digest for one in image.expected if one.kind == EventType.EFI_BOOT_SERVICES_APPLICATION]
        unified.measure((*keys_of_firmware, *application_events(*programs, failures=9), *sections))
        if words:
            refused(unified, words)
        else:
            assert unified.run(), unified.console


def test_a_damaged_log_of_a_firmware_ends_no_program() -> None:
    whole = header() + entry(FOREIGN)
    for end in range(60, len(whole)):
        assert LOG.short(whole[:end]) and len(list(LOG.entries(whole[:end]))) <= 1
