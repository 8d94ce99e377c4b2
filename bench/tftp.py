"""TFTP with the options OVMF asks for, against dnsmasq and tftpd-hpa, on loopback; the same client for all."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path

from bench.common import Row, memory, paired, process, python, table, workspace
from provision.proc import find

SIZE = 60 * 1024 * 1024
PAIRS = 5
BLOCK = 1468
OURS = "127.0.0.1"
LOCKSTEP, WINDOW = 1, 4
"""OVMF asks for a window of 4 (PcdPxeTftpWindowSize in EDK II's NetworkPkg); GRUB and pxelinux know no windows."""


def serve(path: Path) -> None:
    """Our side, in a process of its own."""
    import uvloop

    from provision.media.content import open_file
    from provision.net.sockets import bind_udp
    from provision.tftp.server import TftpRequest, TftpServer
    from provision.tftp.session import Answer

    async def handler(request: TftpRequest) -> Answer:
        return Answer(open_file(path, path.stat().st_size, "0" * 64))

    async def run() -> None:
        TftpServer(bind_udp("lo", OURS, 69), handler, (20000, 20063)).start()
        await asyncio.Event().wait()

    uvloop.run(run())


def fetch(address: str, window: int) -> int:
    """Read a file as OVMF does and return how many bytes came; a window is acknowledged by its last block."""
    options = f"tsize\0000\0blksize\0{BLOCK}\0" + (f"windowsize\0{window}\0" if window > 1 else "")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b"\0\1" + f"file\0octet\0{options}".encode(), (address, 69))
        data, peer = sock.recvfrom(2048)
        if data[1] != 6:
            raise SystemExit(f"no options were acknowledged: {data[:80]!r}")
        fields = data[2:-1].split(b"\0")
        said = dict(zip(fields[::2], fields[1::2], strict=True))
        if int(said[b"blksize"]) != BLOCK or int(said.get(b"windowsize", b"1")) not in (1, window):
            raise SystemExit(f"other options than asked for: {said}")
        window = int(said.get(b"windowsize", b"1"))
        sock.connect(peer)
        sock.send(b"\0\4\0\0")
        number = total = since = 0
        while True:
            data = sock.recv(2048)
            if data[1] != 3:
                raise SystemExit(f"not data: {data[:80]!r}")
            since += 1
            if data[2:4] == ((number + 1) & 0xFFFF).to_bytes(2):
                number += 1
                total += len(data) - 4
            elif since < window:
                continue
            last = len(data) < BLOCK + 4
            if since >= window or last:
                since = 0
                sock.send(b"\0\4" + (number & 0xFFFF).to_bytes(2))
            if last:
                return total


def speed(address: str, window: int, size: int) -> float:
    """MiB/s of one transfer."""
    start = time.perf_counter()
    got = fetch(address, window)
    seconds = time.perf_counter() - start
    if got != size:
        raise SystemExit(f"{got} bytes came instead of {size}")
    return size / seconds / 1024 / 1024


def answers(address: str) -> Callable[[], bool]:
    """Whether a TFTP server is there."""

    def ready() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            try:
                sock.sendto(b"\0\1nothing-of-this-name\0octet\0", (address, 69))
                return bool(sock.recv(600))
            except OSError:
                return False

    return ready


def main(size: int = SIZE, pairs: int = PAIRS) -> list[Row]:
    """Measure in a network namespace of its own (dnsmasq's port cannot be chosen), print the table, return its rows."""
    inside = python("bench.tftp", "inside", str(size), str(pairs))
    done = subprocess.run(["unshare", "-n", *inside], stdout=subprocess.PIPE, check=True)
    rows = [Row(*fields) for fields in json.loads(done.stdout)]
    print(table(rows))
    return rows


def measure(size: int, count: int) -> list[Row]:
    """All rows, of so many pairs with a file of so many bytes, in the present namespace."""
    # tftpd-hpa resolves its address only where an interface besides loopback has one.
    for line in ("link set lo up", "tuntap add away mode tap", "addr add 192.0.2.1/24 dev away", "link set away up"):
        subprocess.run(["ip", *line.split()], check=True)
    rows = []
    with workspace("provision-tftp-") as root, ExitStack() as stack:
        (root / "file").write_bytes(os.urandom(1024 * 1024) * (size // 1024 // 1024))
        dnsmasq = [find("dnsmasq", "dnsmasq-base"), "-k", "-C", "/dev/null", "-p", "0", "--enable-tftp", "-u", "root"]
        dnsmasq += [f"--tftp-root={root}", "--listen-address=127.0.0.2", "--bind-interfaces", "--pid-file=", "-8", "-"]
        hpa = [find("in.tftpd", "tftpd-hpa"), "-L", "-4", "-u", "root", "-a", "127.0.0.3:69", "-s", str(root)]
        ours = stack.enter_context(process(python("bench.tftp", root / "file"), answers(OURS)))
        peers = {"dnsmasq": "127.0.0.2", "tftpd-hpa": "127.0.0.3"}
        stack.enter_context(process(dnsmasq, answers(peers["dnsmasq"])))
        stack.enter_context(process(hpa, answers(peers["tftpd-hpa"])))
        for window, goal in ((LOCKSTEP, ">= 0.7"), (WINDOW, "> 1.0")):
            for name, address in peers.items():
                speed(OURS, window, size), speed(address, window, size)
                pairs = [(speed(OURS, window, size), speed(address, window, size)) for _ in range(count)]
                label = f"TFTP {size // 1024 // 1024} MiB against {name}, window {window}"
                rows.append(paired(label, "MiB/s", goal, pairs))
        rows.append(Row("TFTP memory, highest", memory(ours.pid, "VmHWM"), 0, "MiB", 0, "< 150 MiB"))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        print(json.dumps([astuple(row) for row in measure(int(sys.argv[2]), int(sys.argv[3]))]))
    elif sys.argv[1:]:
        serve(Path(sys.argv[1]))
    else:
        main()
