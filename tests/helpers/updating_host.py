"""A host that takes updates, made of the image's own programs on loopback: only the disk's slots, libvirt and systemd
are stand-ins. And a machine in between, which sees and changes what goes over the wire."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn

from tests.helpers.paths import ROOT

_PROGRAMS = ROOT / "images/host/root/usr/lib/provision"
_NAMES = (
    *("alive", "update", "update-gate"),
    *("answers.py", "slot_report.py", "update_description.py", "signed_file.py", "libcrypto.py"),
)

SLOTS = """\
#!/usr/bin/python3
import json, sys
from pathlib import Path
place = Path(__file__).parent / "slots.json"
disk = json.loads(place.read_text())
there = {"a": "b", "b": "a"}[disk["running"]]
word, *rest = sys.argv[1:]
if word == "running":
    print(disk["running"])
elif word == "state":
    print(json.dumps(disk))
elif word == "write":
    *paths, disk["versions"][there] = rest
    disk["trying"] = disk["failed"] = None
    for name, path in zip(("kernel", "initrd", "arguments") if len(paths) > 1 else ("slot",), paths):
        (place.parent / f"{there}.{name}").write_bytes(Path(path).read_bytes())
elif word == "try":
    disk["trying"], disk["tries"], disk["failed"] = there, 1, None
elif word == "commit":
    disk["default"], disk["trying"] = disk["running"], None
place.write_text(json.dumps(disk))
"""

SYSTEMCTL = """\
#!/bin/dash
here=$(dirname "$0")/..
case "$*" in
    is-system-running) echo running ;;
    "start --no-block provision-update.service")
        flock -n "$here/service" "$here/update" >>"$here/said" 2>&1 & ;;
    reboot) : >"$here/rebooted" ;;
esac
"""


class Host:
    """The host's programs below `directory`; slot A runs `version`, and `about` is its host.json. With `opened`, which
    its envelope has brought, it has started a signed image."""

    def __init__(
        self, directory: Path, about: dict[str, Any], version: str, opened: dict[str, Any] | None = None
    ) -> None:
        self.directory = directory
        (directory / "bin").mkdir(parents=True)
        (directory / "run").mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("virsh", "#!/bin/sh\n"), ("busctl", "#!/bin/sh\n")):
            self._write(f"bin/{name}", text)
        self._write("bin/sleep", '#!/bin/sh\nexec /bin/sleep "$(awk "BEGIN {print $1 / 100}")"\n')
        self._write("slots", SLOTS)
        self._write("unified-slots", SLOTS)
        self._write("host.json", json.dumps(about, indent=2))
        if opened is not None:
            self._write("alive.json", json.dumps(opened, indent=2))
        self._write("cmdline", f"panic=10 provision.image={version[:16]}\n" if opened is not None else "quiet\n")
        self._write("consoles", "")
        for name in _NAMES:
            self._write(name, self._placed((_PROGRAMS / name).read_text()))
        self.disk = {"running": "a", "default": "a", "trying": None, "failed": None, "tries": 0}
        self.disk |= {"versions": {"a": version, "b": None}}
        self._agent: subprocess.Popen[bytes] | None = None

    def _placed(self, text: str) -> str:
        for there, here in (
            ("/etc/provision/host.json", "host.json"),
            ("/etc/provision/alive.json", "alive.json"),
            ("/proc/cmdline", "cmdline"),
            ("/usr/lib/provision/slots", "slots"),
            ("/usr/lib/provision/unified-slots", "unified-slots"),
            ("/usr/lib/provision/firewall", "firewall"),
            ("/run/provision", "run"),
            ("/sys/class/tty/console/active", "consoles"),
        ):
            text = text.replace(there, str(self.directory / here))
        text = text.replace("PATH=/usr/bin:/usr/sbin", f"PATH={self.directory}/bin:$PATH")
        return text.replace("_SECONDS, _TELLING = 3600, 2, 30, 120, 12", "_SECONDS, _TELLING = 30, 0.1, 30, 120, 0.5")

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(0o755)

    @property
    def disk(self) -> dict[str, Any]:
        """What is on the disk."""
        found: dict[str, Any] = json.loads((self.directory / "slots.json").read_text())
        return found

    @disk.setter
    def disk(self, content: dict[str, Any]) -> None:
        (self.directory / "slots.json").write_text(json.dumps(content))

    def content(self, slot: str) -> tuple[bytes, ...]:
        """Kernel, initrds and arguments in a slot, or all of it in one."""
        names = ("kernel", "initrd", "arguments", "slot")
        places = (self.directory / f"{slot}.{name}" for name in names)
        return tuple(place.read_bytes() for place in places if place.exists())

    @property
    def said(self) -> str:
        """What its programs have said on the consoles."""
        path = self.directory / "said"
        return path.read_text() if path.exists() else ""

    @property
    def has_rebooted(self) -> bool:
        """Whether it wants to start again."""
        return (self.directory / "rebooted").exists()

    @contextmanager
    def up(self) -> Iterator[None]:
        """It is up: its agent and its gate run."""
        env = os.environ | {"PATH": f"{self.directory}/bin:{os.environ['PATH']}"}
        with (self.directory / "said").open("ab") as said:
            programs = [
                subprocess.Popen([sys.executable, self.directory / "update-gate"], env=env, stdout=said, stderr=said),
                subprocess.Popen(["dash", self.directory / "alive", "up"], env=env, stdout=said, stderr=said),
            ]
        try:
            yield
        finally:
            for program in programs:
                program.kill()
                program.wait(30)

    def starts(self) -> None:
        """It starts again, from the slot on trial if there is one."""
        disk = self.disk
        disk["running"], disk["tries"] = disk["trying"] or disk["default"], 0
        self.disk = disk
        for name in ("rebooted", "run/slots.said", "run/heard", "run/update.keys"):
            (self.directory / name).unlink(missing_ok=True)


def until(condition: Callable[[], object], host: Host, seconds: float = 60.0) -> None:
    """Wait until it holds."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, host.said
        time.sleep(0.05)


@contextmanager
def served(app: Any) -> Iterator[int]:
    """The application on a port of loopback."""
    config = uvicorn.Config(app, port=0, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False)
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        sock.close()


Change = Callable[[str, bytes, bytes], bytes]
"""What the machine in between makes of an answer: of the path, what was asked, and what was answered."""


class Between:
    """A machine between host and server."""

    def __init__(self, server: int) -> None:
        self.server, self.change = server, lambda path, asked, answer: answer
        self.port, self.seen = 0, []

    change: Change
    seen: list[tuple[str, bytes, bytes]]

    def pass_on(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The server's answer, as the host gets it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server, timeout=30)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.seen.append((path, body, content))
        changed = self.change(path, body, content)
        return (200 if changed != content else answer.status), changed


@contextmanager
def between(server: int) -> Iterator[Between]:
    """One that listens on a port of its own."""
    found = Between(server)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, content = found.pass_on(self.path, body)
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        found.port = listener.server_address[1]
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown()
            thread.join(30)
