"""Receivers are told of every event, once, in order and signed, whatever they do."""

from __future__ import annotations

import hashlib
import hmac
import logging
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Invalid, Unavailable
from provision.server import webhooks
from provision.server.webhooks import LONGEST, Receiver, read_secret
from provision.settings import Webhook
from tests.helpers.certificates import root, server, write_pair
from tests.helpers.principals import ROOT
from tests.helpers.receivers import ReceiverServer, receiving
from tests.helpers.site_fixture import CANARY, MAC3, NOW, Site, charged, leaks, origin, secret_forms, seed_url

KEY = bytes(range(32))


FAILURE = b"HTTP/1.1 500 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Time:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def receiver(here: Site, url: str, time: Time | None = None, **fields: Any) -> Receiver:
    """What tells the receiver at `url`; everything up to now is known to it."""
    secret = here.state / "webhook.key"
    secret.write_bytes(b"whsec_" + b64encode(KEY) + b"\n")
    secret.chmod(0o600)
    webhook = Webhook(name="desk", url=url, secret=secret, **fields)
    made = Receiver(webhook, here.service.core, time or Time())
    made.work()
    return made


@pytest.fixture
def there() -> Iterator[ReceiverServer]:
    with receiving() as found:
        yield found


def test_events_are_told_in_order_and_signed(here: Site, there: ReceiverServer) -> None:
    hook = receiver(here, there.url)
    here.window()
    here.service.windows.close("node1", ROOT)
    hook.work()
    assert [event.kind for event in there.events] == ["window-opened", "window-closed"]
    opened = there.events[0]
    assert opened.data["host"] == "node1" and opened.data["operator"] == "uid=0"
    sent = opened.headers["webhook-timestamp"]
    assert int(sent) == NOW.timestamp()
    signed = f"{opened.headers['webhook-id']}.{sent}.".encode() + opened.body
    expected = b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert opened.headers["webhook-signature"] == f"v1,{expected}"
    hook.work()
    assert len(there.events) == 2


def test_a_new_receiver_hears_of_nothing_that_was_before(here: Site, there: ReceiverServer) -> None:
    here.window()
    receiver(here, there.url).work()
    assert there.events == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n",
        b"\x00\xff this is no HTTP\r\n\r\n",
        b"",
        b"HTTP/1.1 2",
    ],
    ids=["500", "404", "redirect", "garbage", "dies", "dies in the middle"],
)
def test_what_was_not_taken_comes_again_and_nothing_overtakes_it(
    here: Site, there: ReceiverServer, answer: bytes
) -> None:
    time = Time()
    hook = receiver(here, there.url, time)
    here.window()
    here.service.windows.close("node1", ROOT)
    there.answers = [answer, answer]
    for _ in range(3):
        hook.work()
        time.now += LONGEST
    hook.work()
    assert [event.kind for event in there.events] == ["window-opened"] * 3 + ["window-closed"]
    assert len({event.headers["webhook-id"] for event in there.events}) == 2
    assert hook.warnings() == []


def test_an_answer_that_never_ends_is_not_read(here: Site, there: ReceiverServer) -> None:
    def pour(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        while True:  # until nobody reads it any more
            sock.sendall(piece)

    hook = receiver(here, there.url)
    here.window()
    there.answers = [pour]
    hook.work()
    assert hook.warnings() == [] and len(there.events) == 1


def test_a_receiver_that_drips_has_its_seconds_and_no_more(
    here: Site, there: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def drip(sock: socket.socket) -> None:
        try:
            sock.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not gone.wait(0.05):
                sock.sendall(b"x")
        finally:
            gone.set()

    monkeypatch.setattr(webhooks, "SECONDS", 1.0)
    hook = receiver(here, there.url)
    here.window()
    there.answers = [drip]
    hook.work()
    assert "no answer in time" in str(hook.warnings()[0])
    assert gone.wait(20), "its connection was closed"


def test_pauses_grow_and_have_an_end(here: Site, there: ReceiverServer) -> None:
    time = Time()
    hook = receiver(here, there.url, time)
    here.window()
    there.answers = [b"HTTP/1.1 503 Not Now\r\ncontent-length: 0\r\n\r\n"] * 14
    pauses = []
    for number in range(1, 15):
        hook.work()
        begun = time.now
        assert len(there.events) == number
        hook.work()
        assert len(there.events) == number, "it was tried again at once"
        time.now = hook._not_before
        pauses.append(time.now - begun)
    assert pauses[0] <= 1.0 and pauses[3] > 4.0
    assert max(pauses) <= LONGEST and min(pauses[-3:]) >= 0.7 * LONGEST


def test_trouble_is_a_warning_and_is_logged_once(
    here: Site, there: ReceiverServer, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    hook = receiver(here, there.url, time)
    here.window()
    there.answers = [b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"] * 3
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            hook.work()
            time.now += LONGEST
        assert "was answered with 500" in str(hook.warnings()[0])
        hook.work()
    assert hook.warnings() == []
    assert [record.levelname for record in caplog.records if "desk" in record.message] == ["WARNING", "INFO"]


def test_it_goes_on_where_it_was(here: Site, there: ReceiverServer) -> None:
    hook = receiver(here, there.url)
    here.window()
    hook.work()
    here.service.windows.close("node1", ROOT)
    again = receiver(here, there.url)
    again.work()
    assert [event.kind for event in there.events] == ["window-opened", "window-closed"]


def test_a_number_in_its_file_plays_events_again(here: Site, there: ReceiverServer) -> None:
    before = here.service.core.audit.sequence
    hook = receiver(here, there.url)
    here.window()
    hook.work()
    (here.state / "webhooks" / "desk").write_text(f"{before}\n")
    receiver(here, there.url).work()
    assert [event.kind for event in there.events] == ["window-opened"] * 2
    assert there.events[0].headers["webhook-id"] == there.events[1].headers["webhook-id"]


@pytest.mark.parametrize("content", ["", "x", "-"])
def test_a_number_that_is_none_is_told(here: Site, there: ReceiverServer, content: str) -> None:
    receiver(here, there.url)
    (here.state / "webhooks" / "desk").write_text(content)
    assert "is not the number of an entry" in str(receiver(here, there.url).warnings()[0])


def test_a_log_that_begins_anew_is_told_from_its_beginning(here: Site, there: ReceiverServer) -> None:
    (here.state / "webhooks").mkdir()
    (here.state / "webhooks" / "desk").write_text("100000\n")
    here.window()
    receiver(here, there.url)
    assert there.events[-1].kind == "window-opened"


def test_decisions_are_told_by_what_was_decided(here: Site, there: ReceiverServer) -> None:
    hook = receiver(here, there.url, events=("denied", "released", "unknown-machine"))
    here.window()
    charged(here.service.netboot.seed(origin(), seed_url(here)))
    here.service.netboot.grub_config(origin(MAC3))
    here.service.netboot.grub_config(origin("02:00:00:00:00:01"))
    hook.work()
    assert [event.kind for event in there.events] == ["released", "released", "denied", "unknown-machine"]
    assert there.events[2].data["rule"] == "netboot-never"


def test_no_secret_is_in_a_body(here: Site, there: ReceiverServer) -> None:
    hook = receiver(here, there.url)
    here.window()
    charged(here.service.netboot.seed(origin(), seed_url(here)))
    here.secret("node1", CANARY + b" and more")
    hook.work()
    assert "credential-set" in {event.kind for event in there.events}
    said = [event.body + str(event.headers).encode() for event in there.events]
    assert leaks([*secret_forms(here), KEY, b64encode(KEY)], *said) == []


def test_a_certificate_is_checked(here: Site, tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, server())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(root().pem())
    time = Time()
    with receiving(context) as there:
        url = f"https://127.0.0.1:{there.port}/"
        hook = receiver(here, url, time)
        here.window()
        hook.work()
        assert there.events == [] and "ConnectError" in str(hook.warnings()[0])
        receiver(here, url, time, ca=ca).work()
        assert [event.kind for event in there.events] == ["window-opened"]


@pytest.mark.parametrize(
    ("content", "mode", "fact"),
    [
        (b64encode(KEY), 0o644, "is not a file that nobody else may read"),
        (b64encode(KEY[:8]), 0o600, "is not a valid key"),
        (b"no base64!", 0o600, "is not a valid key"),
        (b"", 0o600, "is not a valid key"),
    ],
)
def test_a_key_that_is_none_signs_nothing(tmp_path: Path, content: bytes, mode: int, fact: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(Invalid, match=fact):
        read_secret(path)


def test_a_key_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        read_secret(tmp_path / "key")


def test_without_a_log_nothing_is_told_or_forgotten(
    here: Site, there: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.state / "webhooks").mkdir()
    (here.state / "webhooks" / "desk").write_text("3\n")
    with monkeypatch.context() as closed:
        closed.setattr(type(here.service.core.audit), "known", None)
        receiver(here, there.url).work()
    assert there.events == [] and (here.state / "webhooks" / "desk").read_text() == "3\n"


def test_a_test_is_an_event_that_nothing_has_caused(here: Site, there: ReceiverServer) -> None:
    hook = receiver(here, there.url, events=("up",))
    before = here.service.core.audit.sequence
    hook.test()
    hook.test()
    assert [(event.kind, event.data) for event in there.events] == [("webhook-test", {})] * 2
    first, second = (event.headers["webhook-id"] for event in there.events)
    assert first != second and here.service.core.audit.sequence == before
    there.answers.append(FAILURE)
    with pytest.raises(Unavailable, match="the test event was answered with 500"):
        hook.test()
    assert hook.warnings() == []


def test_events_are_told_again_with_their_ids(here: Site, there: ReceiverServer) -> None:
    time = Time()
    hook = receiver(here, there.url, time)
    here.window()
    here.service.windows.close("node1", ROOT)
    hook.work()
    ids = [event.headers["webhook-id"] for event in there.events]
    there.answers.append(FAILURE)
    here.window()
    hook.work()
    hook.replay(int(there.events[0].data["seq"]))
    hook.work()  # at once, although the last attempt has failed
    assert [event.headers["webhook-id"] for event in there.events][-3:-1] == ids
    assert [event.kind for event in there.events][-3:] == ["window-opened", "window-closed", "window-opened"]
    again = receiver(here, there.url)
    count = len(there.events)
    again.work()
    assert len(there.events) == count, "what was taken is remembered"


def test_nobody_waits_for_more_than_one_event_to_be_told_again(
    here: Site, there: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow receiver with a long backlog would keep those who ask, and with them the threads of all operators."""
    hook = receiver(here, there.url)
    for _ in range(5):
        here.window()
    first = here.service.core.audit.sequence
    threads: list[threading.Thread] = []
    tell = Receiver._tell

    def slowly(self: Receiver, entry: Any) -> None:
        if not threads:
            threads.append(threading.Thread(target=hook.replay, args=(first,)))
            threads[0].start()
            assert hook._give_way.wait(60)
        tell(self, entry)

    monkeypatch.setattr(Receiver, "_tell", slowly)
    hook.work()
    threads[0].join(60)
    assert len(there.events) == 1 and not threads[0].is_alive()
    hook.work()
    assert [event.data["seq"] for event in there.events[1:]] == [first]
