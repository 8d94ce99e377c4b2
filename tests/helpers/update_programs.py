"""The host's programs for updates, and a server in the same process that gives one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.host import Reboot
from provision.update import KernelFiles, Update, UpdateFile, encode
from tests.helpers.host_programs import load

load("libcrypto")
load("answers")
load("signed_file")
DESCRIPTION: Any = load("update_description")
REPORT: Any = load("slot_report")
PROGRAM: Any = load("update")

KEY = Ed25519PrivateKey.generate()
NEW = "0b" * 32
KERNEL, INITRDS = os.urandom(3000), (os.urandom(1024), os.urandom(512))


class Server:
    """A server that has what it describes, and breaks off after some bytes."""

    host = "node7"

    def __init__(self) -> None:
        self.files = {"kernel": KERNEL, **{f"initrd/{number}": data for number, data in enumerate(INITRDS)}}
        self.fields: dict[str, Any] = {}
        self.key, self.parts, self.breaks = KEY, 0, 10**9

    def describe(self, nonce: str) -> bytes:
        files = [UpdateFile(len(data), hashlib.sha256(data).hexdigest()) for data in (KERNEL, *INITRDS)]
        update = Update(
            *("node7", "example.test", NEW, 17, 1, nonce, Reboot.NOW),
            content=KernelFiles("console=ttyS0 quiet", files[0], tuple(files[1:])),
        )
        return encode(replace(update, **self.fields), self.key)

    def patiently(self, path: str, what: str, most: int) -> bytes:
        word, *rest = what.split()
        if word == "describe":
            return self.describe(rest[0])
        self.parts += 1
        if self.parts > self.breaks:
            raise DESCRIPTION.Refused("the server does not answer")
        version, name, start = rest
        assert (path, version) == ("/update/part", self.fields.get("version", NEW))
        return self.files[name][int(start) :][:1000]


Taking = Callable[[Server], list[str]]
"""Takes an update; what was said of the slots meanwhile."""
