"""An operator elsewhere: on the other LAN, with a token and the CA's fingerprint, and nothing else of the server's."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from provision.lab.lans import ip
from provision.lab.processes import Patience, plain, wait_for
from tests.boot.site import API, BootSite

_SILENCE = 300.0
"""Seconds without a new line; several times what the longest step takes on a quiet machine."""


@dataclass
class Boot:
    """`provision boot` under way."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has said that."""
        running = lambda: self.process.poll() is None  # noqa: E731
        return wait_for(self.log, pattern, Patience(_SILENCE, self.log), "provision boot", running)

    def ended(self) -> tuple[int, list[str]]:
        """Wait for its end; its exit code, and its lines."""
        code = self.process.wait(1200)
        return code, plain(self.log).splitlines()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


class Office:
    """Somebody who has logged in from another LAN."""

    def __init__(self, site: BootSite) -> None:
        self.site = site
        self.namespace = site.guest.host("office", "10.77.2.250/24")
        ip(self.namespace, "route", "add", "10.77.1.1/32", "via", str(site.guest.address))
        self.token = site.json("token", "create", "office", "--role", "operator")["token"]
        fingerprint = re.search(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", site.call("ca", "show"))
        assert fingerprint is not None
        self.call("login", "--fingerprint", fingerprint[0], stdin=f"{self.token}\n")

    @cached_property
    def _home(self) -> Path:
        path = self.site.lab.directory / "office"
        path.mkdir(mode=0o700)
        return path

    def argv(self, *arguments: str) -> list[str]:
        """The command line of somebody there."""
        own = ["env", f"XDG_CONFIG_HOME={self._home}", "PROVISION_STATE=/nonexistent"]
        provision = [sys.executable, "-m", "provision", "--server", API]
        return ["ip", "netns", "exec", self.namespace, *own, *provision, *arguments]

    def call(self, *arguments: str, stdin: str = "") -> str:
        """Run one command there and return what it prints."""
        done = subprocess.run(self.argv(*arguments), input=stdin, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done
        return done.stdout

    @contextmanager
    def boot(self, host: str, *arguments: str) -> Iterator[Boot]:
        """Boot a host from there, and show each step."""
        log = self.site.lab.directory / f"boot-{host}.log"
        with log.open("wb") as output:
            argv = self.argv("boot", host, "--watch", *arguments)
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield Boot(process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)
