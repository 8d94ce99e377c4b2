"""A recorded MAC is asked itself, and its address stays at it: with real ARP, in network namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

import pytest

from provision.net import arp
from provision.net.neighbours import Neighbours
from provision.net.pins import Helper, Pins, Place
from tests.helpers.netns import Peer, isolated, lan, sh

MAC = "52:54:00:00:00:07"
OWN, HOST = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.7")
STRANGER = bytes.fromhex("5254000000ee")


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def place(mac: str = MAC) -> Place:
    return Place(socket.if_nametoindex("eth1"), OWN, HOST, mac)


def entry() -> str:
    return sh(f"ip neigh show {HOST} dev eth1")


def with_pins(test: Callable[[Pins, Peer], Awaitable[None]]) -> None:
    """Run `test` on a LAN with one machine on it."""

    async def inside(there: Peer) -> None:
        with Neighbours() as neighbours:
            pins = Pins(Helper.start(), neighbours)
            try:
                await test(pins, there)
            finally:
                pins.close()

    with lan("eth1", f"{OWN}/24", f"{HOST}/24", MAC) as there:
        asyncio.run(inside(there))


def forged(there: Peer, source: bytes, sender_mac: bytes) -> None:
    """Send one ARP reply for the host's address from the other end of the wire, every 10 ms, 100 times."""
    ours = raw(sh("ip -o link show eth1").split("link/ether ")[1][:17])
    frame = ours + source + b"\x08\x06" + bytes.fromhex("0001080006040002") + sender_mac + HOST.packed
    frame += ours + OWN.packed
    program = (
        "import socket,time\ns=socket.socket(socket.AF_PACKET,socket.SOCK_RAW);s.bind(('eth0',0))\n"
        f"for _ in range(100):\n s.send(bytes.fromhex('{frame.hex()}'));time.sleep(.01)"
    )
    there.sh(f'python3 -c "{program}"')


@isolated
def test_a_machine_that_is_there_is_confirmed_and_pinned_until_it_is_let_go() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        assert await pins.confirm(place())
        assert "PERMANENT" not in entry()
        one, two = await asyncio.gather(pins.pin(place()), pins.pin(place()))
        assert one is not None and two is not None
        assert f"lladdr {MAC}" in entry() and "PERMANENT" in entry()
        one.release()
        one.release()
        assert await pins.confirm(place()) and "PERMANENT" in entry(), "the other one still holds it"
        two.release()
        assert await pins.confirm(place()) and "PERMANENT" not in entry()
        again = await pins.pin(place())
        assert again is not None and not again.lost and "PERMANENT" in entry()

    with_pins(test)


@isolated
def test_nothing_goes_to_a_machine_while_it_is_asked_whether_it_is_still_there() -> None:
    """Its switch may have forgotten it, and would give its frames to everybody."""

    async def test(pins: Pins, there: Peer) -> None:
        ours = sh("ip -o link show eth1").split("link/ether ")[1][:17]
        one, two = await asyncio.gather(pins.pin(place()), pins.pin(place()))
        assert one is not None and two is not None
        there.sh("ip link set eth0 arp off")
        asked = asyncio.create_task(one.reconfirm())
        while ours not in entry():
            await asyncio.sleep(0)
            assert not asked.done()
        assert "PERMANENT" in entry()
        at = place().ifindex, place().address
        assert pins.behind(*at, ours) == MAC, "the entry says nothing of who asks"
        there.sh("ip link set eth0 arp on")
        assert await asked and MAC in entry() and "PERMANENT" in entry()
        there.sh("ip link set eth0 arp off")
        assert not await two.reconfirm() and ours in entry(), "it did not answer"
        two.release()
        there.sh("ip link set eth0 arp on")
        assert await one.reconfirm() and MAC in entry(), "the other one has asked again"
        there.sh("ip link set eth0 arp off")
        assert not await one.reconfirm() and ours in entry()
        there.sh("ip link set eth0 arp on")
        three = await pins.pin(place())
        assert three is not None and MAC in entry() and "PERMANENT" in entry()
        assert not (one.lost or three.lost)
        one.release()
        three.release()
        assert await pins.confirm(place()) and MAC in entry() and "PERMANENT" not in entry()
        assert pins.behind(*at, ours) == ours and pins.behind(*at, None) is None

    with_pins(test)


@isolated
def test_a_machine_that_is_off_is_not() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        sh(f"ip neigh replace {HOST} lladdr {MAC} dev eth1 nud stale")
        there.sh("ip link set eth0 down")
        assert not await pins.confirm(place())
        assert await pins.pin(place()) is None
        assert "PERMANENT" not in entry()

    with_pins(test)


@isolated
def test_whoever_joins_a_question_has_it_put_anew() -> None:
    """A machine has just come up that somebody else asked for in vain, as in its name."""

    async def test(pins: Pins, there: Peer) -> None:
        there.sh("ip link set eth0 arp off")
        first = asyncio.create_task(pins.confirm(place()))
        await asyncio.sleep(1.65)  # the last time that it is asked is after 1.5 s
        there.sh("ip link set eth0 arp on")
        assert await pins.confirm(place())
        await first
        there.sh("ip link set eth0 arp off")
        asking = [asyncio.create_task(pins.confirm(place())) for _ in range(3)]
        await asyncio.sleep(1.0)
        begin = time.monotonic()
        assert not await pins.confirm(place()) and time.monotonic() - begin > 1.9
        assert not any(task.result() for task in asking if task.done()) and all(task.done() for task in asking)

    with_pins(test)


@isolated
@pytest.mark.parametrize("source", [STRANGER, None], ids=["in its own name", "in the host's name"])
def test_answers_of_another_machine_are_not_the_hosts(source: bytes | None) -> None:
    """The address moves to another MAC, which answers for it: with its own, or with the host's inside of the packet."""

    async def test(pins: Pins, there: Peer) -> None:
        there.sh(f"ip link set eth0 address {STRANGER.hex(':')}")
        sender = STRANGER if source else raw(MAC)
        lying = asyncio.create_task(asyncio.to_thread(forged, there, STRANGER, sender))
        while not lying.done():
            assert not await pins.confirm(place())
        await lying

    with_pins(test)


@isolated
def test_what_others_say_by_arp_does_not_move_a_pinned_address() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        await asyncio.to_thread(forged, there, STRANGER, STRANGER)
        assert f"lladdr {MAC}" in entry() and "PERMANENT" in entry() and not pin.lost
        assert await pin.reconfirm()

    with_pins(test)


@isolated
@pytest.mark.parametrize(
    "what", [f"del {HOST} dev eth1", f"replace {HOST} lladdr 52:54:00:00:00:99 dev eth1 nud permanent"]
)
def test_whoever_changes_the_entry_ends_what_it_was_made_for(what: str) -> None:
    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        await asyncio.to_thread(sh, f"ip neigh {what}")
        end = time.monotonic() + 20
        while not pin.lost and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert pin.lost and not await pin.reconfirm()

    with_pins(test)


_CLIENT = f"""
import socket, sys
s = socket.socket(socket.AF_INET, int(sys.argv[1]))
s.bind(("{HOST}", 7000))
s.connect(("{OWN}", 7001))
for line in sys.stdin:
    s.send(line.encode())
"""


def drops(sock: socket.socket) -> int:
    """How many packets the kernel has dropped at this socket (SO_MEMINFO, SK_MEMINFO_DROPS)."""
    return int(struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, 55, 36))[8])


@isolated
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_guarded_socket_hears_the_machine_alone(kind: int) -> None:
    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        with contextlib.ExitStack() as stack:
            own = stack.enter_context(socket.socket(socket.AF_INET, kind))
            own.bind((str(OWN), 7001))
            if kind == socket.SOCK_STREAM:
                own.listen()
            argv = there.argv("python3", "-uc", _CLIENT, str(int(kind)))
            client = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, bufsize=1))
            stack.callback(client.kill)
            assert client.stdin is not None
            heard = stack.enter_context(own.accept()[0]) if kind == socket.SOCK_STREAM else own
            heard.settimeout(20)
            if kind == socket.SOCK_STREAM:
                assert await pin.guard_stream(heard)
            else:
                pin.guard(heard)
            client.stdin.write("one\n")
            assert heard.recv(10) == b"one\n"
            there.sh(f"ip link set eth0 address {STRANGER.hex(':')}")
            before = drops(heard)
            client.stdin.write("two\n")
            while drops(heard) == before:
                await asyncio.sleep(0.01)
            heard.setblocking(False)
            with pytest.raises(BlockingIOError):
                heard.recv(10)

    with_pins(test)


@isolated
def test_two_macs_never_have_one_address_at_a_time() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        there.sh("ip link set eth0 address 52:54:00:00:00:99")
        assert await pins.pin(place("52:54:00:00:00:99")) is None
        assert await pins.confirm(place("52:54:00:00:00:99"))
        pin.release()
        other = await pins.pin(place("52:54:00:00:00:99"))
        assert other is not None and "52:54:00:00:00:99 PERMANENT" in entry()

    with_pins(test)


@isolated
def test_whoever_leaves_does_not_take_the_pin_of_one_who_has_just_asked() -> None:
    """As somebody does who sends requests in the host's name, of which nothing comes, while the host boots."""

    async def test(pins: Pins, there: Peer) -> None:
        others = await pins.pin(place())
        assert others is not None
        there.sh("ip link set eth0 arp off")
        asking = asyncio.create_task(pins.pin(place()))
        while not pins._waiting:
            await asyncio.sleep(0)
        others.release()
        await asyncio.sleep(0.02)
        there.sh("ip link set eth0 arp on")
        pin = await asking
        assert pin is not None and "PERMANENT" in entry()
        assert await pin.reconfirm(), "the kernel's notifications have told of nothing else"
        pin.release()
        async with asyncio.timeout(20):
            while "PERMANENT" in entry():
                await asyncio.sleep(0.005)

    with_pins(test)


@isolated
def test_what_is_pinned_at_the_end_stays_so_until_everything_is_closed() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        pins.stop()
        assert pin.lost and "PERMANENT" in entry()
        assert await pins.pin(place()) is None
        pins.close()
        assert "PERMANENT" not in entry()

    with_pins(test)


@isolated
def test_nothing_is_left_behind() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        assert await pins.pin(place()) is not None

    with_pins(test)
    sh("true")
    with lan("eth1", f"{OWN}/24", f"{HOST}/24", MAC):
        sh(f"ip neigh replace {HOST} lladdr {MAC} dev eth1 nud permanent protocol 80")
        sh(f"ip neigh replace 192.0.2.9 lladdr {MAC} dev eth1 nud permanent")
        helper = Helper.start()
        assert "PERMANENT" not in entry(), "what a killed process left is swept"
        assert "PERMANENT" in sh("ip neigh show 192.0.2.9"), "an operator's own is not"
        status = sh(f"cat /proc/{helper.process.pid}/status")
        assert "CapEff:\t0000000000001000" in status and "CapPrm:\t0000000000001000" in status
        assert "NoNewPrivs:\t1" in status
        helper.close()


@isolated
def test_a_service_that_ends_with_an_answer_unread_is_no_error() -> None:
    with lan("eth1", f"{OWN}/24", f"{HOST}/24", MAC):
        helper, asked = Helper.start(), place()
        order = {"id": 1, "do": "pin", "interface": asked.ifindex, "own": str(OWN), "address": str(HOST), "mac": MAC}
        helper.control.send(json.dumps(order).encode())
        assert select.select([helper.control], [], [], 10.0)[0]
        helper.control.close()
        assert helper.process.wait(10.0) == 0
        assert "PERMANENT" not in entry()


@isolated
def test_a_helper_that_is_killed_ends_every_pin() -> None:
    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        pins._helper.process.kill()
        await asyncio.wait_for(pins.ended.wait(), 20)
        assert pin.lost and await pins.pin(place()) is None and not await pins.confirm(place())

    with_pins(test)


@isolated
def test_a_helper_that_has_too_much_to_do_is_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.net.pins._MOST_UNSAID", 1000)

    async def test(pins: Pins, there: Peer) -> None:
        pin = await pins.pin(place())
        assert pin is not None
        os.kill(pins._helper.process.pid, signal.SIGSTOP)
        asking = [asyncio.create_task(pins.confirm(place())) for _ in range(3000)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert len(pins._unsaid) == 1000, "it was told what its socket holds, and these wait"
        pin.release()
        os.kill(pins._helper.process.pid, signal.SIGCONT)
        there_now = await asyncio.gather(*asking)
        assert sum(there_now) > 1000 and not all(there_now) and caplog.text.count("does not keep up") == 1
        async with asyncio.timeout(20):
            while "PERMANENT" in entry():
                await asyncio.sleep(0.01)

    with_pins(test)


def test_frames_that_are_no_replies() -> None:
    ask = arp.request(raw(MAC), OWN.packed, STRANGER, HOST.packed)
    assert len(ask) == 60 and arp.parse(ask) is None
    reply = ask[:20] + b"\0\2" + ask[22:]
    assert arp.parse(reply) == arp.Reply(raw(MAC), STRANGER, raw(MAC), OWN.packed, HOST.packed)
    assert arp.parse(reply[:41]) is None and arp.parse(reply[:12] + b"\x08\0" + reply[14:]) is None
