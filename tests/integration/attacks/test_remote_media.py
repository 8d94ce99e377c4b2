"""A server that says something else than the rest of the medium, once a download's connection has broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.cli import download, servers
from provision.cli.servers import Address, Login
from provision.errors import Exit
from provision.secret import Secret
from tests.helpers.authority import Authority
from tests.helpers.cli_runner import Ran, run
from tests.integration.attacks.fake_service import answer, fake_tls

PINNED = Authority()


@pytest.fixture(autouse=True)
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(download, "PAUSES", (0.0,) * 3)


CONTENT = bytes(range(256)) * 2000
ETAG = '"the-medium"'
DESCRIBED = {
    "host": "node1",
    "medium": "iso",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "size": len(CONTENT),
    "etag": ETAG,
}


def part(data: bytes, first: int = 200_000, status: str = "206 x", **fields: str) -> bytes:
    usual = {"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": ETAG}
    return answer(
        data, "application/octet-stream", status, **{k.replace("_", "-"): v for k, v in (usual | fields).items()}
    )


REST = CONTENT[200_000:]
SECOND_ANSWERS = {
    "the whole instead of the rest": part(CONTENT, status="200 x"),
    "another part": part(CONTENT[200_001:], 200_001),
    "a part that is said to be another": part(REST, 200_001),
    "a part of a longer medium": part(REST, Content_Range=f"bytes 200000-{len(CONTENT) - 1}/{len(CONTENT) + 1}"),
    "the rest of another medium": part(REST, ETag='"another"'),
    "the rest with no tag": part(REST, ETag=""),
    "the rest with other bytes": part(bytes(len(REST))),
    "several parts": answer(b"--x\r\n\r\n--x--", "multipart/byteranges; boundary=x", "206 x"),
    "a compressed rest": part(REST, Content_Encoding="gzip"),
    "nothing of that range": part(b"", status="416 x"),
    "more than the rest": part(REST + b"x", Content_Length=str(len(REST)), Transfer_Encoding="chunked"),
    "that it has changed": answer(b"", status="412 x"),
    "that it is gone": answer(b"", status="410 x"),
    "that it is elsewhere": answer(b"", status="302 x", Location="https://127.0.0.1:1/"),
}


def resumed(tmp_path: Path, second: bytes, *keep: str) -> Ran:
    """Download a medium of which the server gives the first 200,000 bytes, and then this answer for the rest."""
    begun: list[str] = []

    def behave(method: str, path: str) -> Iterator[bytes]:
        if path.endswith("/sha256"):
            yield answer(json.dumps(DESCRIBED).encode())
        elif not begun:
            begun.append(path)
            whole = answer(CONTENT, "application/octet-stream", ETag=ETAG)
            yield whole[: len(whole) - len(REST)]
        else:
            yield second

    with fake_tls(PINNED.issue("127.0.0.1").context(tmp_path), behave) as (server, port):
        address = Address("127.0.0.1", port)
        servers.save(Login(address, PINNED.pem.decode(), Secret(b"a-token")))
        ran = run("--server", address.url, "iso", "node1", "-o", "node1.iso", *keep)
    lines = [line.split(": ", 1) for line in server.heads[2].decode().split("\r\n") if ": " in line]
    asked = {name.lower(): text for name, text in lines}
    assert (asked["range"], asked["if-range"], asked["if-match"]) == ("bytes=200000-", ETAG, ETAG)
    return ran


@pytest.mark.parametrize("keep", [(), ("--resume",)], ids=("", "kept"))
@pytest.mark.parametrize("name", SECOND_ANSWERS)
def test_the_rest_of_a_medium_is_of_that_medium(tmp_path: Path, name: str, keep: tuple[str, ...]) -> None:
    ran = resumed(tmp_path, SECOND_ANSWERS[name], *keep)
    assert ran.code in (Exit.UNAVAILABLE, Exit.INVALID, Exit.CONFLICT), ran
    assert len(ran.err.splitlines()) == 1 and "internal error" not in ran.err
    assert not (tmp_path / "node1.iso").exists()
    if name in ("that it has changed", "that it is gone"):
        assert ran.err == "error: medium: it changed while it was being written; run the command again\n"
        keep = ()  # of no use any more
    assert keep or list(tmp_path.glob(".node1*")) == []


def test_with_the_right_rest_it_is_the_medium(tmp_path: Path) -> None:
    ran = resumed(tmp_path, part(REST))
    assert (ran.code, (tmp_path / "node1.iso").read_bytes() == CONTENT) == (0, True)
