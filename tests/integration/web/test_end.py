"""What browsers follow: everybody their own hosts, no longer than their token is good, and no longer than the service
wants to go on."""

from __future__ import annotations

import json
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from provision.web.servers import GRACE_SECONDS
from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.serving import serve
from tests.helpers.site_fixture import INVENTORY

_COOKIE = re.compile(rb"(?i)set-cookie: (__Host-provision=[^;]+)")
_ENDED = b"event: ended\ndata: \n\n"
_SITE = INVENTORY.replace("    netboot: never\n", "    labels: {rack: b}\n")
"""With a rack of two hosts and one of node3 alone."""


@contextmanager
def _following(made: ApiSite, path: str, token: str) -> Iterator[IO[bytes]]:
    """What a browser that has logged in by a token is sent, as it comes."""
    form = ("--data", f"token={token}", "--include", "--header", f"Origin: {made.url}")
    found = _COOKIE.search(made.curl("/login", *form, known=False)[1])
    assert found
    argv = ["curl", "--silent", "--no-buffer", "--max-time", "120", "--cacert", str(made.ca)]
    argv += ["--header", f"Cookie: {found[1].decode()}", f"{made.url}{path}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as curl:
        assert curl.stdout
        assert curl.stdout.readline() == b"retry: 5000\n"
        yield curl.stdout


def _until(words: bytes, stream: IO[bytes]) -> bytes:
    """What is sent up to these words."""
    sent = b""
    for line in stream:
        sent += line
        if words in line:
            return sent
    raise AssertionError(f"{words!r} is not in {sent!r}")


def _ask(made: ApiSite, method: str, path: str, content: object = None) -> bytes:
    body = () if content is None else ("--header", "Content-Type: application/json", "--data", json.dumps(content))
    status, found = made.curl(f"/v1/{path}", "--request", method, *body)
    assert status in (200, 201, 204), found
    return found


def test_the_picture_of_a_site_is_followed_until_the_service_ends(tmp_path: Path) -> None:
    made = api_site(tmp_path)
    with serve(made.state) as served:
        served.wait_for("serving the operators' API at")
        _ask(made, "POST", "inventory", {"files": [{"name": "site.yaml", "text": b64encode(_SITE.encode()).decode()}]})
        wanted = {"name": "rack", "role": "reader", "selector": {"rack": "b"}}
        rack = json.loads(_ask(made, "POST", "tokens", wanted))["token"]
        with _following(made, "/site/events", made.token) as all_of_it, _following(made, "/site/events", rack) as part:
            _until(b"3 hosts: 3 idle.", all_of_it)
            heard = _until(b"1 host: 1 idle.", part)
            _ask(made, "POST", "hosts/node1/window", {})
            _until(b"3 hosts: 1 ready to boot, 2 idle.", all_of_it)
            _ask(made, "POST", "hosts/node3/window", {})
            _until(b"3 hosts: 2 ready to boot, 1 idle.", all_of_it)
            heard += _until(b"1 host: 1 ready to boot.", part)
            _ask(made, "DELETE", "tokens/rack")
            _ask(made, "DELETE", "hosts/node3/window")
            _until(b"3 hosts: 1 ready to boot, 2 idle.", all_of_it)
            heard += part.read()
            assert heard.endswith(_ENDED) and heard.count(b"1 host: ") == 2
            assert b"3 hosts: " not in heard and b" of a" not in heard
            began = time.monotonic()
            assert served.stop() == 0
            assert time.monotonic() - began < GRACE_SECONDS
            assert all_of_it.read().endswith(_ENDED)
        assert "internal error" not in served.log and made.token not in served.log and rack not in served.log
