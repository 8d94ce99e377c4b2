"""The races' witnesses are to be believed: each port's recording, the count of secret bytes, the table."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.lab.lans import Lab, Lan, ip
from tests.integration.attacks import frames
from tests.integration.attacks.__main__ import main
from tests.integration.attacks.frames import octets
from tests.integration.attacks.intruder import Intruder
from tests.integration.attacks.ports import Ports, ports_of, write_pcap
from tests.integration.attacks.races import STUCK, Outcome, races
from tests.integration.attacks.runner import variants
from tests.integration.attacks.spilled import Secrets
from tests.integration.attacks.table import failures, table

FIRST, SECOND = "52:54:00:77:00:01", "52:54:00:77:00:02"
TOKEN = secrets.token_hex(600).encode()
KNOWN = Secrets(b"provision-seed/root/etc/token\0" + TOKEN + b" of node1, common", [b"of node1, common"], [b"node1"])
SERVER, HOST = ("10.0.0.1", 20000), ("10.0.0.2", 2070)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    with Lab("w", tmp_path / "lab") as lab:
        lan = lab.lan("mgmt", "10.77.1.0/24")
        lan.host("one", "10.77.1.21/24", mac=FIRST)
        lan.host("two", "10.77.1.22/24", mac=SECOND)
        yield lan


def carrying(payload: bytes, destination: str) -> bytes:
    return frames.ethernet(octets(destination), octets(FIRST), frames.IPV4, frames.udp(HOST, SERVER, payload))


def test_each_port_has_what_was_delivered_to_it(lan: Lan) -> None:
    """A frame to a MAC that the switch has not learned is on every port but the sender's; later only on its own."""
    first = Intruder(f"{lan.namespace.removesuffix('lan-mgmt')}one", FIRST)
    second = Intruder(f"{lan.namespace.removesuffix('lan-mgmt')}two", SECOND)
    ports = Ports(lan)
    try:
        assert ports_of(lan) == ["p0", "p1", "p2"]
        ip(lan.namespace, "link", "set", "br0", "type", "bridge", "fdb_flush")
        ports.forget()
        first.put(carrying(b"flooded", SECOND))
        assert {port: len(taken) for port, taken in ports.take().items()} == {"p0": 1, "p1": 0, "p2": 1}
        second.put(frames.ethernet(octets(FIRST), octets(SECOND), frames.IPV4, frames.udp(SERVER, HOST, b"hello")))
        ports.forget()
        first.put(carrying(b"sent", SECOND))
        taken = ports.take()
        assert {port: len(taken[port]) for port in taken} == {"p0": 0, "p1": 0, "p2": 1} and b"sent" in taken["p2"][0]
    finally:
        ports.close()
        first.close()
        second.close()


def test_a_secret_on_a_wrong_port_is_counted(lan: Lan) -> None:
    ports = Ports(lan)
    lan.send(carrying(TOKEN[:1000], "52:54:00:77:00:99"))
    taken = ports.take()
    ports.close()
    assert [KNOWN.in_frames(taken[port]) for port in ("p0", "p1", "p2")] == [1000, 1000, 1000]


def test_eight_bytes_in_a_row_are_a_leak() -> None:
    for start in (0, 1, 5, 300):
        assert KNOWN.count(b"x" * 13 + TOKEN[start : start + 8] + b"y" * 5) == 8
    assert KNOWN.count(b"zz" + TOKEN[9:16] + b"zz") == 0
    assert KNOWN.count(b"of node1, common") == 0, "anybody may see that"
    assert KNOWN.with_key(b"0123456789abcdef" * 4).count(b"x89abcdef0123x") == 12


def test_secrets_are_found_across_packets() -> None:
    """In pieces of five bytes, over TFTP and over TCP out of order."""
    pieces = [TOKEN[at : at + 5] for at in range(0, 500, 5)]
    data = [frames.udp(SERVER, HOST, struct.pack("!HH", 3, number) + piece) for number, piece in enumerate(pieces)]
    segments = [frames.tcp(SERVER, HOST, 16, (5 * number, 0), piece) for number, piece in enumerate(pieces)]
    for packets in (data, segments[::-1], segments + segments):
        wire = [frames.ethernet(octets(FIRST), octets(SECOND), frames.IPV4, packet) for packet in packets]
        assert KNOWN.in_frames(wire) == 500
        assert KNOWN.in_frames(wire[:1]) == 0


def test_packets_are_taken_apart_as_they_were_made() -> None:
    made = frames.ethernet(octets(FIRST), octets(SECOND), frames.IPV4, frames.tcp(SERVER, HOST, 18, (7, 9), b"x"))
    packet = frames.parse(made)
    assert packet is not None
    assert (packet.source, packet.destination, packet.ports, packet.numbers, packet.flags, packet.payload) == (
        *("10.0.0.1", "10.0.0.2", (20000, 2070), (7, 9), 18, b"x"),
    )
    assert frames.checksum(made[14:34]) == 0, "the header's own checksum makes it nothing"
    asked = frames.parse(
        frames.ethernet(
            frames.BROADCAST,
            octets(FIRST),
            frames.ARP,
            frames.arp(frames.REQUEST, (octets(FIRST), "10.0.0.2"), (frames.NOBODY, "10.0.0.1")),
        )
    )
    assert asked is not None and (asked.source, asked.destination, asked.flags) == ("10.0.0.2", "10.0.0.1", 1)


def test_a_kept_capture_is_read_again(tmp_path: Path) -> None:
    from provision.lab import capture

    write_pcap(tmp_path / "x.pcap", [b"a" * 60, b"b" * 70])
    assert list(capture.frames((tmp_path / "x.pcap").read_bytes())) == [b"a" * 60, b"b" * 70]


def outcome(**values: object) -> Outcome:
    fields = {"attack": "A", "variant": "v", "leaked": 0, "refusal": "", "denials": (), "host": "booted"}
    return Outcome(**(fields | values))  # type: ignore[arg-type]


def test_the_table_says_what_was_lost() -> None:
    runs = [outcome(), outcome(leaked=1500, refusal="no"), outcome(host="booted at try 2"), outcome(attack="B")]
    assert table(runs).splitlines()[2:] == [
        "| A | 3 | 1,500 in 1 runs | 1 | booted 2, booted at a further try 1 |",
        "| B | 1 | 0 | 0 | booted 1 |",
    ]
    assert failures(runs) == ["A: v: 1,500 in 1 runs secret bytes; booted 1"]


@pytest.mark.parametrize("broken", [{"leaked": 1}, {"host": STUCK}, {"burned": True}])
def test_each_way_to_break_the_promise_is_a_failure(broken: dict[str, object]) -> None:
    assert failures([outcome(), outcome(**broken)])
    assert not failures([outcome(host="refused: not-confirmed", denials=("not-confirmed",))])


def test_every_variant_is_there_once() -> None:
    names = [f"{one.attack}, {one.variant}" for one in variants()]
    assert len(names) == len(set(names)) > len(list(races())) > 200


def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["0"], ["1", "--only", "no such attack"], ["x"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
