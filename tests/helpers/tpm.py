"""A TPM 2.0 in software (swtpm), asked by tpm2-tools; no machine is started."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

AK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
"""Of an attestation key, as tpm2-tools write them."""


@dataclass(frozen=True)
class Tpm:
    """One that runs; files that its tools read and write are in `directory`."""

    directory: Path
    port: int

    def run(self, command: str, *arguments: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """`tpm2 COMMAND ARGUMENTS...`, in the directory; nothing that it loads is left when it ends well."""
        done = self._tool(command, *arguments)
        if ok and done.returncode:
            raise AssertionError(f"tpm2 {command}: {done.stdout}{done.stderr}")
        self._tool("flushcontext", "-t")
        if done.returncode:
            self._tool("flushcontext", "-s")
            self._tool("flushcontext", "-l")
        return done

    def _tool(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TPM2TOOLS_TCTI": f"swtpm:host=127.0.0.1,port={self.port}", "TSS2_LOG": "all+none"}
        command = ["tpm2", *map(str, argv)]
        return subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def restart(self) -> None:
        """Power it off and on: PCRs begin anew, and what is stored stays."""
        with socket.create_connection(("127.0.0.1", self.port + 1), 30) as control:
            control.sendall(struct.pack(">II", 2, 0))  # CMD_INIT, without flags
            assert control.recv(4) == bytes(4)
        self.run("startup", "-c")

    def put(self, name: str, data: bytes) -> Path:
        """Write a file for the tools."""
        path = self.directory / name
        path.write_bytes(data)
        return path

    def get(self, name: str) -> bytes:
        """Read a file that the tools wrote."""
        return (self.directory / name).read_bytes()

    def endorsement_key(self, kind: str) -> bytes:
        """Make the EK ("rsa" or "ecc") as ek.ctx; returns its TPMT_PUBLIC."""
        self.run("createek", "-G", kind, "-c", "ek.ctx", "-u", "ek.pub")
        return self.get("ek.pub")[2:]

    def by_endorsement(self, command: str, *arguments: str | Path, ok: bool = True) -> bool:
        """A command that uses the EK, in a session as its policy wants it; whether it succeeds."""
        self.run("startauthsession", "--policy-session", "-S", "ek.session")
        self.run("policysecret", "-S", "ek.session", "-c", "e")
        done = self.run(command, *arguments, ok=ok)
        self._tool("flushcontext", "ek.session")
        return done.returncode == 0


@contextmanager
def software_tpm(directory: Path) -> Iterator[Tpm]:
    """A TPM on loopback whose state is below `directory`; a new one, if there is none yet."""
    (directory / "state").mkdir(parents=True, exist_ok=True)
    process, port = _started(directory)
    try:
        yield Tpm(directory, port)
    finally:
        process.terminate()
        process.wait(10)


def _started(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    pid = directory / "pid"
    for _ in range(20):
        # The library wants the control port to be the next one; another process may have taken either by now.
        port = _free_port()
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory / 'state'}", "--pid", f"file={pid}"]
        argv += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
        process = subprocess.Popen([*argv, "--flags", "startup-clear,not-need-init"], stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if pid.exists():
                return process, port
            time.sleep(0.02)
    raise AssertionError("swtpm does not start")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return min(int(one.getsockname()[1]), 65534)
