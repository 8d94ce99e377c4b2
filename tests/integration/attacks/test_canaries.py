"""Every secret of a day's work, each one made up for this run, looked for wherever it should not be."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.helpers import redfish
from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.browser import FORM
from tests.helpers.receivers import receiving
from tests.helpers.serving import run, serve
from tests.helpers.site_fixture import leaks

PAGES = [
    "/hosts",
    "/hosts/node1",
    "/hosts/node1/bmc",
    "/hosts/node1/power",
    "/hosts/node1/compromised",
    "/hosts/node1/decommission",
    "/hosts/node1/move",
    "/selection?action=link-iso&host=node1",
    "/site",
    "/unknown",
    "/inventory",
    "/images",
    "/rollout",
    "/networks",
    "/tpms",
    "/audit",
    "/audit/chain",
    "/tokens",
    "/docs",
    "/docs/api.json",
]
_KEY = re.compile(rb'name="key" value="([0-9a-f]{64})"')


@dataclass
class Client:
    """A browser at a running service. A request line or an argument vector has no secret of it."""

    made: ApiSite
    cookie: str = ""
    key: str = ""
    shown: list[bytes] = field(default_factory=list)
    """All that it was shown."""

    def ask(self, method: str, path: str, until: bytes | None = None, **fields: str) -> tuple[int, str, bytes]:
        """Status, the cookie that was set, and the body, or as much of it as has `until` in it."""
        trust = ssl.create_default_context(cafile=str(self.made.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.made.port, timeout=60, context=trust)
        origin = {"origin": f"https://127.0.0.1:{self.made.port}", "content-type": FORM}
        headers = {**origin, **({"cookie": self.cookie} if self.cookie else {})}
        body = urlencode({"key": self.key, **fields}) if method == "POST" else None
        with closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read() if until is None else answer.read1()
            while until is not None and until not in data:
                data += answer.read1()
            self.shown.append(data)
            return answer.status, (answer.getheader("set-cookie") or "").partition(";")[0], data

    def log_in(self, token: str) -> int:
        status, cookie, _ = self.ask("POST", "/login", token=token)
        self.cookie = cookie or self.cookie
        if status == 303:
            found = _KEY.search(self.ask("GET", "/hosts")[2])
            assert found
            self.key = found[1].decode()
        return status


@contextmanager
def passing(temporary: Path) -> Iterator[set[bytes]]:
    """What is there for a moment only, seen again and again until the block ends: every argument vector and environment
    of this machine's processes, and every file in `temporary`."""
    seen, over = set[bytes](), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            processes = Path("/proc").glob("[0-9]*")
            files = [process / name for process in processes for name in ("cmdline", "environ")]
            for file in (*files, *temporary.rglob("*")):
                with suppress(OSError):
                    seen.add(file.read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def metrics(path: Path) -> bytes:
    """What the metrics' own socket says."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /v1/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_secrets_are_where_they_belong_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password, credential = f"bmc-{secrets.token_hex(12)}", f"cred-{secrets.token_hex(12)}"
    monkeypatch.setattr(redfish, "PASSWORD", password)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    for name, text in (("password", password), ("credential", credential)):
        (tmp_path / name).write_text(text)
    own, events = tmp_path / "metrics.sock", list[bytes]()
    with receiving() as there, redfish.served() as bmc, passing(temporary) as passed:
        toml = f'[metrics]\nsocket = "{own}"\n[[webhook]]\nname = "desk"\nurl = "{there.url}"\nsecret = "webhook.key"\n'
        made = api_site(tmp_path, toml=toml)
        key = b64encode(secrets.token_bytes(32))
        (made.state / "webhook.key").write_bytes(key)
        (made.state / "webhook.key").chmod(0o600)
        with serve(made.state) as served:
            served.wait_for("serving the operators' API at")
            pin = redfish.fingerprint(redfish.certificate()[0])
            known = ("--user", redfish.USER, "--password-file", tmp_path / "password", "--fingerprint", pin)
            orders: list[tuple[str | Path, ...]] = [("bmc", "set", "node1", "--url", bmc.url, *known)]
            orders.append(("credential", "set", "node1", "token", "--file", tmp_path / "credential"))
            for order in orders:
                ran = run(made.state, *order)
                assert ran.returncode == 0, ran.stderr
            assert run(made.state, "bmc", "check", "node1").returncode == 0
            browser = Client(made)
            assert browser.log_in("provision_" + "A" * 43) == 401 and browser.log_in(made.token) == 303
            _, _, page = browser.ask("POST", "/hosts/node1/links", medium="iso")
            link = re.findall(rb"/b/([A-Za-z0-9_-]{26})\.iso", page)[0]
            _, _, page = browser.ask("POST", "/tokens", name="heir", role="reader", days="1")
            token = re.findall(rb"provision_[A-Za-z0-9_-]{43}", page)[0]
            for path in PAGES:
                assert browser.ask("GET", path)[0] == 200, path
            assert browser.ask("GET", "/hosts/node1/events", until=b"event: changed")[0] == 200
            status, _, medium = browser.ask("GET", "/hosts/node1/media/iso")
            assert status == 200 and credential.encode() in medium
            bmc.spoils = lambda asked, _: (500, {}, password.encode()) if asked.path.endswith("Reset") else None
            assert run(made.state, "boot", "node1", "--via", "cd").returncode != 0
            inserted = next(body["Image"] for name, body in bmc.orders() if name.endswith("InsertMedia"))
            browser.ask("POST", "/logout")
            told = metrics(own)
            assert served.stop() == 0
        events += [event.body + json.dumps(event.headers).encode() for event in there.events]
        assert events and b"provision_hosts" in told and any(b"--password-file" in one for one in passed)
        bodies = [body for body in browser.shown if body != medium and link not in body and token not in body]
        assert len(bodies) > len(PAGES)
        cookie = browser.cookie.partition("=")[2].encode()
        again = inserted.rpartition("/")[2].partition(".")[0].encode()
        found = [password.encode(), credential.encode(), key, link, token, made.token.encode(), cookie, again]
        forms = [*found, *(one.hex().encode() for one in found), *(b64encode(one)[:-4] for one in found)]
        places = {"log": served.log.encode(), "metrics": told, "processes and temporary files": b"\n".join(passed)}
        places |= {f"event {number}": body for number, body in enumerate(events)}
        places |= {f"page {number}": body for number, body in enumerate(bodies)}
        left = (path for place in (made.state, temporary) for path in place.rglob("*"))
        files = [path for path in left if path.is_file() and path.name != "webhook.key"]
        places |= {str(path): path.read_bytes() for path in files}
        assert {name for name, content in places.items() if leaks(forms, content)} == set()
        assert not any(path.stat().st_mode & 0o077 for path in (made.state / "audit.log", made.state / "provision.db"))
