"""`provision serve` as a process of its own, for tests that kill it, ask it or look into it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.forked import Forked

PROVISION = (sys.executable, "-m", "provision")


@dataclass
class Served:
    """The running service; `log` is all that it has written."""

    process: subprocess.Popen[bytes] | Forked
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for(self, text: str, count: int = 1, seconds: float = 60.0) -> None:
        """Wait until the log has `text` so often; fails with the log when the process ends or the time is over."""
        deadline = time.monotonic() + seconds
        while self.log.count(text) < count:
            assert self.process.poll() is None, f"it has ended: {self.log}"
            assert time.monotonic() < deadline, f"no {text!r} in: {self.log}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def serve(state: Path, log_file: Path | None = None, prefix: Sequence[str] = ()) -> Iterator[Served]:
    """The service on a state directory, from when its socket is there."""
    path = log_file or state.parent / "serve.log"
    with path.open("wb") as log:
        words = ["--state", str(state), "serve"]
        process: subprocess.Popen[bytes] | Forked
        if prefix:
            argv = [*prefix, *PROVISION, *words]
            process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        else:
            process = Forked(words, log, Path("/proc/thread-self/ns/net"))
    served = Served(process, path)
    try:
        served.wait_for("serving the operator's socket")
        yield served
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def run(state: Path, *arguments: str | Path, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    argv = [*prefix, *PROVISION, "--state", str(state), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
