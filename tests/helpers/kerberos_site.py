"""A site whose API is served over TLS to Kerberos tickets, with a realm of its own, and curl to ask it."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from provision import clock
from provision.tls import files
from provision.tls.authority import Names
from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.kdc import Realm
from tests.helpers.serving import Served, serve

SERVER = "HTTP/localhost"
ROLES = """\
[api.kerberos]
keytab = "http.keytab"
[[api.kerberos.role]]
principals = ["alice@EXAMPLE.TEST", "*/admin@EXAMPLE.TEST"]
role = "admin"
[[api.kerberos.role]]
principals = ["bob@EXAMPLE.TEST"]
role = "operator"
selector = { rack = "b" }
[[api.kerberos.role]]
principals = ["*@EXAMPLE.TEST"]
role = "reader"
"""


def shown(token: bytes) -> str:
    """The header that shows a token."""
    return f"Authorization: Negotiate {base64.b64encode(token).decode()}"


@dataclass(frozen=True)
class KerberosSite:
    """The site, its realm and its keytab. Its name is "localhost"."""

    site: ApiSite
    realm: Realm
    keytab: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.site.port}"

    def send(self, token: bytes, path: str = "/v1/principal", *arguments: str) -> tuple[int, bytes]:
        """Status and body of a request that shows this token."""
        return self.site.curl(path, "--header", shown(token), *arguments, known=False)

    def curl(self, user: Mapping[str, str], path: str, *arguments: str) -> tuple[int, str, bytes]:
        """Status, header and body of what curl gets at last that shows the ticket of a user's environment."""
        argv = ["curl", "--silent", "--max-time", "60", "--cacert", str(self.site.ca), "--include", "--negotiate"]
        argv += ["--user", ":", "--write-out", "\n%{http_code}", *arguments, self.url + path]
        ran = subprocess.run(argv, capture_output=True, timeout=90, env=os.environ | dict(user))
        answer, _, status = ran.stdout.rpartition(b"\n")
        header, _, body = answer.partition(b"\r\n\r\n")
        while body.startswith(b"HTTP/1.1 "):
            header, _, body = body.partition(b"\r\n\r\n")
        return int(status), header.decode().lower(), body


@contextmanager
def kerberos_site(
    directory: Path, realm: Realm, roles: str = ROLES, configuration: str | None = None
) -> Iterator[tuple[KerberosSite, Served]]:
    """The site as it is served, by a server with another krb5.conf than its clients when `configuration` names one."""
    made = api_site(directory, ca=False)
    settings = made.state / "provision.toml"
    text = settings.read_text().replace('["prov.example.test"]', '["prov.example.test", "localhost"]')
    settings.write_text(text + roles)
    names = Names(("prov.example.test", "localhost"), (ip_address("127.0.0.1"),))
    files.create(made.state, names, clock.now())
    realm.add(SERVER)
    site = KerberosSite(made, realm, realm.keytab(made.state / "http.keytab", SERVER))
    known = configuration or realm.environment()["KRB5_CONFIG"]
    with serve(made.state, prefix=("env", f"KRB5_CONFIG={known}")) as served:
        served.wait_for("serving the operators' API at")
        yield site, served
        assert served.stop() == 0
        assert "Traceback" not in served.log and "internal error" not in served.log
