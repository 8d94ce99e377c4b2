"""Requests that are made from the API's own description, by schemathesis: no failure, no answer that is not described,
and no echo, over the Unix socket and over TLS, for an admin and for a reader of some hosts. `make fuzz-api` sends more
of them, and others each time."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from requests import PreparedRequest

from provision.web.operator import app as operator_app
from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.cli_runner import cli
from tests.helpers.fuzzing import fuzz, operations
from tests.helpers.netns import isolated
from tests.helpers.serving import serve

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
"""Requests of each operation by each sender; set, they are others each time."""
# A busy machine needs more than five minutes for the usual ones.
pytestmark = pytest.mark.timeout(7200 if EXAMPLES else 1800)

_USUAL = 12
_SECONDS = 120.0


class Sender:
    """Sends requests, one after another, on a connection that it keeps; `statuses` counts the answers."""

    def __init__(self, site: ApiSite, token: str | None) -> None:
        """Over the Unix socket when there is no `token`."""
        self._site, self._token = site, token
        self._connection: http.client.HTTPConnection | None = None
        self.statuses: Counter[int] = Counter()

    def __call__(self, request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        try:
            return self._send(request)
        except ConnectionError:
            self._connection = None  # it was idle for too long; a new one has to have its answer
            return self._send(request)
        except TimeoutError:
            self._connection = None
            raise AssertionError(f"no answer in {_SECONDS:.0f} seconds: {request.method} {request.url}") from None

    def _send(self, request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        if self._connection is None:
            self._connection = self._connect()
        headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        assert request.method is not None
        with suppress(BrokenPipeError):  # refused before all of it was read; the answer is there
            self._connection.request(request.method, request.path_url, request.body, headers)  # type: ignore[arg-type]
        answer = self._connection.getresponse()
        body = answer.read()
        self.statuses[answer.status] += 1
        if answer.will_close:
            self._connection.close()
            self._connection = None
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def _connect(self) -> http.client.HTTPConnection:
        site = self._site
        if self._token is not None:
            trusted = ssl.create_default_context(cafile=site.ca)
            return http.client.HTTPSConnection(site.address, site.port, timeout=_SECONDS, context=trusted)
        made = http.client.HTTPConnection("provision", timeout=_SECONDS)
        made.sock = socket.socket(socket.AF_UNIX)
        made.sock.connect(str(site.state / "operator.sock"))
        return made


def description() -> dict[str, Any]:
    nothing: Any = None
    return operator_app.description(nothing)


@isolated
def test_every_answer_is_one_that_is_described(tmp_path: Path) -> None:
    site = api_site(tmp_path)
    made = cli(site.state, "token", "create", "looks", "--role", "reader", "--selector", "rack=a", "--json")
    senders = [Sender(site, None), Sender(site, site.token), Sender(site, made.json["token"])]
    with serve(site.state) as served:
        served.wait_for("serving the operators' API at")
        for name, document in operations(description()):
            for sender in senders:
                try:
                    fuzz(document, sender, int(EXAMPLES or _USUAL), derandomize=EXAMPLES is None)
                except BaseException as error:
                    error.add_note(f"operation {name}")
                    raise
        assert served.process.poll() is None
        assert "internal error" not in served.log and "Traceback" not in served.log
    assert all(sender.statuses[200] and sender.statuses[404] and sender.statuses[422] for sender in senders)
    assert senders[2].statuses[403]
