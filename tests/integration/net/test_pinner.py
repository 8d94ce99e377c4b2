"""The helper process that pins addresses, by what it is told and answers."""

from __future__ import annotations

import errno
import json
import socket
import threading

import pytest

from provision.net.entries import Entries, Entry
from provision.net.pinner import Pinner
from tests.helpers.netns import isolated, lan
from tests.integration.net.test_pins import HOST, MAC, OWN, place, raw


class Stuck(Entries):
    """A kernel that takes no entry but the machine's own."""

    def pin(self, entry: Entry) -> None:
        if entry.mac != raw(MAC):
            raise OSError(errno.ENOBUFS, "no room")
        super().pin(entry)


@isolated
def test_what_cannot_be_kept_from_a_machine_meanwhile_is_not_given_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.net.pinner.Entries", Stuck)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with lan("eth1", f"{OWN}/24", f"{HOST}/24", MAC), ours, its:
        ours.settimeout(10)
        serving = threading.Thread(target=Pinner(its).run)
        serving.start()
        said = [json.loads(ours.recv(4096))]
        for number, what in enumerate(("pin", "recheck", "confirm")):
            order = {"id": number, "do": what, "interface": place().ifindex, "own": str(OWN)}
            ours.send(json.dumps(order | {"address": str(HOST), "mac": MAC}).encode())
            said.append(json.loads(ours.recv(4096)))
        assert [one.get("ok") for one in said] == [None, True, False, True]
        ours.shutdown(socket.SHUT_RDWR)
        serving.join()
