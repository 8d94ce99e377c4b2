"""A running service tells a receiver elsewhere, and neither waits for it nor loses anything by a kill."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from base64 import b64encode
from pathlib import Path

from tests.helpers.receivers import ReceiverServer, receiving
from tests.helpers.serving import run, serve
from tests.helpers.site_fixture import closed_site


def site(directory: Path, url: str) -> Path:
    state = closed_site(directory, toml=f'[[webhook]]\nname = "desk"\nurl = "{url}"\nsecret = "webhook.key"\n')
    (state / "webhook.key").write_bytes(b64encode(os.urandom(32)))
    (state / "webhook.key").chmod(0o600)
    return state


def until(there: ReceiverServer, count: int, seconds: float = 60.0) -> list[str]:
    """The events as soon as there are so many."""
    deadline = time.monotonic() + seconds
    while len(there.events) < count:
        assert time.monotonic() < deadline, there.events
        time.sleep(0.05)
    return [event.kind for event in there.events]


def begun(state: Path, seconds: float = 60.0) -> None:
    """Wait until the service knows where its receiver begins."""
    deadline = time.monotonic() + seconds
    while not (state / "webhooks" / "desk").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    with receiving() as there:
        state = site(tmp_path, there.url)
        with serve(state) as served:
            begun(state)
            there.answers = [b"HTTP/1.1 503 Not Now\r\ncontent-length: 0\r\n\r\n"] * 1000
            assert run(state, "window", "node1").returncode == 0
            until(there, 1)
            assert run(state, "window", "node1", "--close").returncode == 0
            served.stop(signal.SIGKILL)
            assert "was answered with 503" in served.log and "/events" not in served.log
        there.answers, refused = [], len(there.events)
        with serve(state) as served:
            kinds = until(there, refused + 2)
            assert "/events" not in served.log, "the URL may have a secret in it"
    assert kinds == ["window-opened"] * (refused + 1) + ["window-closed"]


def test_nothing_waits_for_a_receiver_that_does_not_answer(tmp_path: Path) -> None:
    asked, let_go = threading.Event(), threading.Event()

    def silent(_: socket.socket) -> None:
        asked.set()
        let_go.wait(60)

    with receiving() as there:
        state = site(tmp_path, there.url)
        with serve(state) as served:
            begun(state)
            there.answers = [silent]
            assert run(state, "window", "node1").returncode == 0
            assert asked.wait(60)
            assert run(state, "window", "node1", "--close").returncode == 0
            assert run(state, "status").returncode == 0
            assert served.stop() == 0, "its end waits for nobody"
        let_go.set()


def test_an_operator_tries_a_receiver_and_lets_it_hear_again(tmp_path: Path) -> None:
    with receiving() as there:
        state = site(tmp_path, there.url)
        with serve(state) as served:
            begun(state)
            tried = run(state, "webhook", "test", "desk")
            assert (tried.returncode, tried.stdout) == (0, "desk: took the test event\n")
            assert run(state, "window", "node1").returncode == 0
            assert run(state, "window", "node1", "--close").returncode == 0
            assert until(there, 3) == ["webhook-test", "window-opened", "window-closed"]
            first = there.events[1].data["seq"]
            again = run(state, "webhook", "replay", "desk", "--from", str(first))
            assert again.returncode == 0, again.stderr
            assert until(there, 5)[3:] == ["window-opened", "window-closed"]
            assert there.events[3].headers["webhook-id"] == there.events[1].headers["webhook-id"]
            served.wait_for("provision.events: window-closed")
            there.answers = [b"HTTP/1.1 500 Not Now\r\ncontent-length: 0\r\n\r\n"]
            tried = run(state, "webhook", "test", "desk")
            assert tried.returncode != 0 and "the test event was answered with 500" in tried.stderr
            assert "/events" not in served.log + tried.stderr
        alone = run(state, "webhook", "test", "desk")
        assert alone.returncode != 0 and "no service runs that could tell it" in alone.stderr
