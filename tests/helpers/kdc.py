"""A Kerberos realm of a test: a KDC of MIT krb5 on a port of 127.0.0.1, its principals, keytabs and tickets."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from provision import gssapi
from tests.helpers.api_site import free_port

REALM = "EXAMPLE.TEST"
PASSWORD = "of-a-test"

_CLIENT = """\
[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 clockskew = {skew}
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 .example.test = {realm}
 localhost = {realm}
 127.0.0.1 = {realm}
"""
_KDC = """\
[kdcdefaults]
 kdc_listen = ""
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {directory}/principal
  key_stash_file = {directory}/stash
  acl_file = {directory}/acl
  max_life = 1h
 }}
"""


@dataclass(frozen=True)
class Realm:
    """The realm, its files, and what tells programs of it."""

    name: str
    directory: Path
    port: int

    def environment(self, user: str = "nobody") -> dict[str, str]:
        """What a program needs to ask this KDC, with the tickets of a user."""
        return {"KRB5_CONFIG": str(self.directory / "krb5.conf"), "KRB5CCNAME": f"FILE:{self.directory / user}.cache"}

    def add(self, *principals: str) -> None:
        """New principals: services have random keys, users and their /admin the one password."""
        self._admin(*(f"addprinc {_key(one)} {one}" for one in principals))

    def keytab(self, path: Path, *principals: str) -> Path:
        """Export new keys of principals into a keytab, beside those that are in it; the old keys are good no more."""
        self._admin(f"ktadd -q -k {path} {' '.join(principals)}")
        return path

    def kinit(self, user: str, *arguments: str) -> dict[str, str]:
        """Get a ticket, and return the environment that has it."""
        environment = self.environment(user.replace("/", "."))
        argv = ["kinit", *arguments, user]
        subprocess.run(
            argv, input=PASSWORD.encode(), env=os.environ | environment, check=True, capture_output=True, timeout=60
        )
        return environment

    def _admin(self, *queries: str) -> None:
        text = "".join(f"{query}\n" for query in queries)
        _run("kadmin.local", text=text, environment=self._for_kdc())

    def _for_kdc(self) -> dict[str, str]:
        return self.environment() | {"KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}

    @contextmanager
    def _served(self) -> Iterator[None]:
        _run("kdb5_util", "create", "-s", "-r", self.name, "-P", PASSWORD, environment=self._for_kdc())
        with (
            (self.directory / "kdc.log").open("wb") as log,
            subprocess.Popen(
                ["/usr/sbin/krb5kdc", "-n", "-r", self.name],
                env=os.environ | self._for_kdc(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            ) as process,
        ):
            try:
                self._wait(process)
                yield
            finally:
                process.terminate()
                process.wait(30)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while b"starting..." not in (self.directory / "kdc.log").read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, (self.directory / "kdc.log").read_text()
            time.sleep(0.02)


@contextmanager
def realm(directory: Path, name: str = REALM, skew: int = 300) -> Iterator[Realm]:
    """A realm without principals of its own, from when its KDC answers. Clocks may differ by `skew` seconds."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Realm(name, directory, free_port())
    values = {"realm": name, "port": made.port, "directory": directory, "skew": skew}
    (directory / "krb5.conf").write_text(_CLIENT.format(**values))
    (directory / "kdc.conf").write_text(_KDC.format(**values))
    with made._served():
        yield made


def token(user: Mapping[str, str], host: str = "localhost", channel: bytes | None = None) -> bytes:
    """A SPNEGO token for the service HTTP on a host, by the ticket of a user's environment."""
    with environment(user), gssapi.Initiator(host, channel) as initiator:
        return initiator.token


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """This process with these variables, which the Kerberos library reads by itself."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            with suppress(KeyError):
                del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _key(principal: str) -> str:
    of_service = "/" in principal and not principal.endswith("/admin")
    return "-randkey" if of_service else f"-pw {PASSWORD}"


def _run(program: str, *arguments: str, environment: Mapping[str, str], text: str = "") -> None:
    ran = subprocess.run(
        [f"/usr/sbin/{program}", *arguments],
        input=text.encode(),
        env=os.environ | dict(environment),
        capture_output=True,
        timeout=120,
    )
    # kadmin.local goes on after a query that failed, and says so only.
    assert ran.returncode == 0 and b"while" not in ran.stderr, (ran.stdout, ran.stderr)
