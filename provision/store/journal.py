"""The one door to the systemd journal: its native protocol over a datagram socket (systemd's JOURNAL_NATIVE_PROTOCOL).

What has reached the journal is out of reach of anyone who can only write the state directory.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")

_log = logging.getLogger("provision.audit")


class Journal:
    """Sends entries without ever blocking or failing; with no journal on this machine they go to the Python log."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def send(self, message: str, fields: Mapping[str, str]) -> None:
        """One entry of priority "info". `fields` has names of capital letters and one-line values."""
        pairs = {"MESSAGE": message, "PRIORITY": "6", "SYSLOG_IDENTIFIER": "provision", **fields}
        datagram = "".join(f"{name}={' '.join(value.split())}\n" for name, value in pairs.items()).encode()
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.sendto(datagram, str(self._path))
        except OSError:
            _log.info("%s", message)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
