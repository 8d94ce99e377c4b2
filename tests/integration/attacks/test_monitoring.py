"""Attacks on what watches the service: labels that strangers choose, and receivers of webhooks that are anybody's."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provision.api.tokens import NewToken
from provision.principal import PrincipalRole
from provision.server.webhooks import LONGEST, Receiver
from provision.settings import Webhook
from provision.web import boot_app
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_token
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.receivers import receiving
from tests.helpers.site_fixture import (
    CANARY,
    MAC1,
    Site,
    ask,
    charged,
    edge,
    leaks,
    origin,
    secret_forms,
    seed_url,
    site,
)

EVIL = 'a"} 1\nprovision_hosts{x="\\\x1b[2J\x00é'
URL_SECRET = "T0PS3CRET-of-the-url"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def series(here: Site) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series of the metrics, as a strict parser has them."""
    families = text_string_to_metric_families(here.service.metrics.text().decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples}


def disturb(here: Site, number: int) -> None:
    """What strangers can do on every face, in words of their own."""
    word = f"{EVIL}{number}"
    mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
    boots = boot_app.create(here.service.netboot, edge(macs={"10.0.0.99": mac}))
    api = operator_app.create(here.service, by_token(here.service))

    async def all_of_it() -> None:
        paths = ["/pxe/pxelinux.cfg/{}", "/boot/{}/kernel", "/boot/seed/{}/seed.cpio", "/{}", "/up", "/http-boot.iso"]
        for path in paths:
            for method in ("GET", "POST"):
                await ask(boots, method, path.format(word), headers={"user-agent": quote(word)}, peer="10.0.0.99")
        for path in ("/v1/hosts/{}", "/b/{}.iso", "/v1/{}"):
            headers = {"authorization": f"Bearer {quote(word)}", "host": quote(word)}
            await ask(api, "GET", path.format(word), headers=headers, peer=f"2001:db8:{number:x}::1")

    asyncio.run(all_of_it())
    here.service.netboot.grub_config(origin(mac))


def test_strangers_choose_no_label(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Any number of them, by whatever names: the series are those that one of them makes."""
    caplog.set_level(0)
    disturb(here, 0)
    known, began = series(here), len(here.audit())
    for number in range(1, 12):
        disturb(here, number)
    assert series(here) == known and len(known) < 100
    text = here.service.metrics.text().decode()
    assert not any(word in text for word in ("\x1b", "\x00", "02:00:00", "2001:db8", "node1", MAC1, "provision_hosts{"))
    assert len(here.audit()) > began
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert not any("\x1b" in str(value) for entry in here.audit() for value in entry.values())


def test_metrics_name_no_host_no_person_and_no_secret(here: Site) -> None:
    shown = here.service.tokens.create(NewToken(name="ci-of-ops", role=PrincipalRole.ADMIN, days=1), ROOT).token
    here.window()
    link = make(here)
    charged(here.service.netboot.seed(origin(), seed_url(here)))
    text = here.service.metrics.text()
    forms = [*secret_forms(here), shown.encode(), link.path.encode(), b"node1", b"ci-of-ops", b"uid=0", MAC1.encode()]
    assert leaks(forms, text) == [] and b"provision_windows_open" in text


# Receivers


def receiver(here: Site, url: str) -> Receiver:
    """What tells the receiver at `url` of all that happens from now on, at a time that does not pass."""
    secret = here.state / "webhook.key"
    secret.write_bytes(b64encode(bytes(range(32))))
    secret.chmod(0o600)
    now = [0.0]
    made = Receiver(Webhook(name="desk", url=url, secret=secret), here.service.core, lambda: now[0])
    made.work()
    now[0] += LONGEST
    return made


def pours(head: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def pour(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:  # until nobody reads it any more
            sock.sendall(piece)

    return pour


ANSWERS: dict[str, bytes | Callable[[socket.socket], None]] = {
    "a redirect to itself": b"HTTP/1.1 307 X\r\nlocation: /events\r\ncontent-length: 0\r\n\r\n",
    "a redirect to a file": b"HTTP/1.1 301 X\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
    "a redirect with a line end": b"HTTP/1.1 302 X\r\nlocation: http://x/\r\n y\r\ncontent-length: 0\r\n\r\n",
    "no number": b"HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n",
    "a huge number": b"HTTP/1.1 99999 OK\r\ncontent-length: 0\r\n\r\n",
    "escapes": b"HTTP/1.1 500 \x1b[2J\x07\r\nx: \x1b]0;x\x07\r\ncontent-length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
    "headers without an end": pours(b"HTTP/1.1 200 OK\r\n", b"x-header: " + b"y" * 4000 + b"\r\n"),
    "one header without an end": pours(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65536),
    "hints without an end": pours(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 100),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_receiver_may_answer_what_it_likes(here: Site, caplog: pytest.LogCaptureFixture, answer: str) -> None:
    """It is tried again after a pause; nothing is raised, followed, kept or repeated of what it said."""
    caplog.set_level(0)
    with receiving() as there:
        hook = receiver(here, there.url + "/" + URL_SECRET)
        here.window()
        there.answers = [ANSWERS[answer]] * 3
        began = time.monotonic()
        hook.work()
        assert time.monotonic() - began < 60
        assert len(there.events) == 1, "it has to wait"
        said = [str(error) for error in hook.warnings()]
        told = [record.getMessage() for record in caplog.records if record.name.startswith("provision")]
        if said:
            hook.work()
            assert len(there.events) == 1, "its pause is not over"
        assert all(text.isprintable() and URL_SECRET not in text for text in [*said, *told])


def test_a_receiver_that_is_gone_costs_no_memory(here: Site) -> None:
    """The log is the queue, however long it gets."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hook = receiver(here, f"http://127.0.0.1:{port}/{URL_SECRET}")
    for _ in range(600):
        here.service.core.note("logout", ROOT, channel="api")
    for _ in range(600):
        here.service.core.audit.record(
            {"time": here.clock(), "event": "window-closed", "host": "node1", "operator": "uid=0"}, durable=True
        )
    hook.work()
    assert "was not taken" in str(hook.warnings()[0]) and URL_SECRET not in str(hook.warnings()[0])
    assert len(hook._waiting) <= 256


def test_what_receivers_are_told_has_no_secret_and_no_escape(here: Site) -> None:
    """Everything that is done with secrets, told to a receiver that is anybody's."""
    with receiving() as there:
        hook = receiver(here, there.url)
        shown = here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.ADMIN, days=1), ROOT).token
        cookie = here.service.sessions.begin(shown.encode(), "192.0.2.7").reveal()
        here.window()
        link = make(here)
        here.secret("node1", CANARY)
        charged(here.service.netboot.seed(origin(), seed_url(here)))
        disturb(here, 7)
        hook.work()
    secret = link.path.rpartition("/")[2].partition(".")[0].encode()
    forms = [*secret_forms(here), shown.encode(), cookie, secret, (here.state / "webhook.key").read_bytes()]
    assert len(there.events) > 4
    for event in there.events:
        assert leaks(forms, event.body, event.headers) == []
        assert event.body.isascii() and b"\x1b" not in event.body and json.loads(event.body)["type"] == event.kind


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.test/x",
        "http://user:hunter2@example.test/",
        "gopher://127.0.0.1:6379/x",
        "http:///x",
        "https://example.test/#x",
        "http://ex\nample.test/",
        "unix:/run/x",
        "http+unix://%2Frun%2Fx",
        "javascript:x",
    ],
)
def test_what_is_no_receiver_is_refused_before_anything_is_sent(tmp_path: Path, url: str) -> None:
    from provision import settings
    from provision.errors import ProvisionError

    toml = f'[[webhook]]\nname = "desk"\nurl = {json.dumps(url)}\nsecret = "webhook.key"\n'
    (tmp_path / "provision.toml").write_text(toml)
    with pytest.raises(ProvisionError) as told:
        settings.load(tmp_path, tmp_path / "provision.toml")
    assert "hunter2" not in str(told.value) and str(told.value).count("\n") <= 1


def test_the_key_of_a_receiver_is_in_no_message(here: Site) -> None:
    logging.getLogger("provision").setLevel(0)
    with receiving() as there:
        hook = receiver(here, there.url)
        key = b64encode(os.urandom(8))  # too short, and a secret all the same
        (here.state / "webhook.key").write_bytes(key)
        here.window()
        hook.work()
    assert there.events == [] and key.decode() not in str(hook.warnings()[0]) + repr(hook.warnings()[0].__dict__)
