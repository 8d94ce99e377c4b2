"""The TFTP server and the clients that people have, on loopback and on a LAN."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from pathlib import Path

import uvloop

from provision.media.content import PlanContent, open_file
from provision.media.plan import Patch, Plan
from provision.net.sockets import bind_udp
from provision.tftp.server import TftpRequest, TftpServer
from provision.tftp.session import Answer
from tests.helpers.netns import Peer, isolated, lan
from tests.unit.tftp.test_server import BIG, FILES, serving


def clients(folder: Path, address: str, port: int) -> list[tuple[str, list[str]]]:
    out = folder / "got"
    return [
        ("tftp-hpa", ["tftp", "-m", "binary", address, str(port), "-c", "get", "{}", str(out)]),
        ("busybox", ["busybox", "tftp", "-g", "-l", str(out), "-r", "{}", address, str(port)]),
        ("busybox-1468", ["busybox", "tftp", "-b", "1468", "-g", "-l", str(out), "-r", "{}", address, str(port)]),
        ("curl", ["curl", "-sSf", "-4", "--tftp-blksize", "1468", "-o", str(out), f"tftp://{address}:{port}/{{}}"]),
        ("curl-plain", ["curl", "-sSf", "-4", "--tftp-no-options", "-o", str(out), f"tftp://{address}:{port}/{{}}"]),
    ]


def test_real_clients_get_every_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving() as (server, port):
            for name, argv in clients(tmp_path, "127.0.0.1", port):
                for path, data in FILES.items():
                    if name.startswith("curl") and not data:
                        continue  # this curl writes no file for an empty one
                    (tmp_path / "got").unlink(missing_ok=True)
                    command = [part.replace("{}", path) for part in argv]
                    process = await asyncio.create_subprocess_exec(*command, stdout=-3, stderr=subprocess.PIPE)
                    _, err = await process.communicate()
                    assert process.returncode == 0, (name, path, err)
                    assert (tmp_path / "got").read_bytes() == data, (name, path)
            while server.active:
                await asyncio.sleep(0.01)

    uvloop.run(test())


def test_a_file_longer_than_65535_blocks(tmp_path: Path) -> None:
    data = hashlib.shake_256(b"long").digest(65540 * 512 + 7)
    (tmp_path / "base").write_bytes(data)

    async def handler(request: TftpRequest) -> Answer:
        return Answer(open_file(tmp_path / "base", len(data), ""))

    async def test() -> None:
        async with serving(handler) as (_, port):
            command = ["curl", "-sSf", "-4", "-o", str(tmp_path / "got"), f"tftp://127.0.0.1:{port}/base"]
            process = await asyncio.create_subprocess_exec(*command)
            assert await process.wait() == 0

    uvloop.run(test())
    assert hashlib.sha256((tmp_path / "got").read_bytes()).digest() == hashlib.sha256(data).digest()


@isolated
def test_on_a_lan_by_device(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(BIG)
    plan = Plan(tmp_path / "base", "", len(BIG), (Patch(100_000, b"patched"),), "r")

    async def handler(request: TftpRequest) -> Answer:
        assert str(request.peer) == "192.0.2.7"
        return Answer(PlanContent(plan))

    async def test(there: Peer) -> str:
        server = TftpServer(bind_udp("eth1", "192.0.2.1", 69), handler, (20000, 20015))
        server.start()
        try:
            argv = there.argv("sh", "-ec", "curl -sSf -4 --tftp-blksize 8000 tftp://192.0.2.1/iso | sha256sum")
            process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
            return (await process.communicate())[0].decode().split()[0]
        finally:
            server.close()

    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24") as there:
        got = asyncio.run(test(there))
    assert got == hashlib.sha256(BIG[:100_000] + b"patched" + BIG[100_007:]).hexdigest()
