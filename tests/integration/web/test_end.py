"""A service that ends does not wait for browsers that follow it."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from provision.web.servers import GRACE_SECONDS
from tests.helpers.api_site import api_site
from tests.helpers.serving import serve

_COOKIE = re.compile(rb"(?i)set-cookie: (__Host-provision=[^;]+)")


def test_streams_end_with_the_service(tmp_path: Path) -> None:
    made = api_site(tmp_path)
    with serve(made.state) as served:
        served.wait_for("serving the operators' API at")
        origin = ("--header", f"Origin: {made.url}")
        form = ("--data", f"token={made.token}", "--include", *origin)
        found = _COOKIE.search(made.curl("/login", *form, known=False)[1])
        assert found
        argv = ["curl", "--silent", "--no-buffer", "--cacert", str(made.ca), "--header", f"Cookie: {found[1].decode()}"]
        url = f"{made.url}/hosts/node1/events"
        with subprocess.Popen([*argv, url], stdout=subprocess.PIPE) as following:
            assert following.stdout
            assert following.stdout.readline() == b"retry: 5000\n"
            began = time.monotonic()
            assert served.stop() == 0
            assert time.monotonic() - began < GRACE_SECONDS
            assert following.stdout.read().endswith(b"event: ended\ndata: \n\n")
        assert "internal error" not in served.log and made.token not in served.log
