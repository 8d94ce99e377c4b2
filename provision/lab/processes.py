"""Programs that run beside the laboratory, each ended by its own pid, and files that are watched while they grow."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from provision import proc
from provision.errors import Unavailable

POLL = 0.1
"""Seconds between two looks at a growing file."""

MOST_SECONDS = 1200.0
"""How long anything is waited for that goes on printing, as a boot that starts over and over does."""

# CSI, OSC and other escape sequences (ECMA-48), with which firmware, GRUB and systemd paint their screens, and the
# backspaces with which iPXE wipes out its prompt: that stays, since it was shown.
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[0-Z\\-~])|[\r\x00\x08]"
)


class Process:
    """A program running in a network namespace, its output (both streams) in the file `log`."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        package: str,
        namespace: str | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        """Start `argv` (its program is in the Debian `package`); `fds` stay open in it. Raises Unavailable."""
        self.name, self.log = str(argv[0]).rsplit("/", 1)[-1], log
        command = [proc.find(str(argv[0]), package), *map(str, argv[1:])]
        if namespace is not None:
            command = [proc.find("ip", "iproute2"), "netns", "exec", namespace, *command]
        # The kernel ends it when the thread that started it ends, even by SIGKILL: a laboratory leaves nothing running.
        command = [proc.find("setpriv", "util-linux"), "--pdeathsig", "TERM", "--", *command]
        # What an earlier program has printed there is not this one's.
        self._begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=fds, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The program's own pid: what wraps it replaces itself by it."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return plain(self.log, self._begins)

    def wait_for(self, pattern: str, silence: float = 10.0) -> re.Match[str]:
        """Wait until it has printed `pattern`; raises WaitFailed with its last lines when it has neither printed nor
        computed anything for `silence` seconds."""
        patience = Patience(silence, self.log, pid=self.pid)
        return wait_for(self.log, pattern, patience, self.name, lambda: self.running, self._begins)

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code; raises Unavailable after `timeout` seconds."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Unavailable(self.name, f"still runs after {timeout:.0f} s") from None

    def stop(self, grace: float = 5.0) -> None:
        """End it by its pid: SIGTERM, after `grace` seconds SIGKILL. Does nothing when it has ended."""
        if not self.running:
            return
        self._child.terminate()
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def plain(path: Path, begins: int = 0) -> str:
    """The text of a log, from the byte `begins` on, without escapes, carriage returns and backspaces; empty while there
    is no such file."""
    try:
        return _ESCAPES.sub("", path.read_bytes()[begins:].decode("utf-8", "replace"))
    except FileNotFoundError:
        return ""


class Patience:
    """How long something is waited for: as long as one of its files grows, or the program `pid` computes, however slow
    the machine is.

    It ends after `silence` seconds in which none of them did, and after MOST_SECONDS in any case.
    """

    def __init__(self, silence: float, *files: Path, pid: int | None = None) -> None:
        self._silence, self._files, self._pid = silence, files, pid
        self._sizes, self._began = self._look(), time.monotonic()
        self._grown = self._began

    def _look(self) -> list[int]:
        sizes = [path.stat().st_size if path.exists() else 0 for path in self._files]
        return sizes if self._pid is None else [*sizes, _computed(self._pid)]

    def ended(self) -> str:
        """Why there is nothing more to wait for, in words that follow "did not print it"; empty while there is."""
        now, sizes = time.monotonic(), self._look()
        if sizes != self._sizes:
            self._sizes, self._grown = sizes, now
        if now - self._grown > self._silence:
            return f"and nothing else for {self._silence:.0f} s"
        return f"within {MOST_SECONDS:.0f} s" if now - self._began > MOST_SECONDS else ""


def _computed(pid: int) -> int:
    """The clock ticks that a program has computed for; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def wait_for(
    path: Path, pattern: str, patience: Patience, subject: str, alive: Callable[[], bool], begins: int = 0
) -> re.Match[str]:
    """Wait until the text of `path`, from the byte `begins` on, has `pattern` (multi-line mode), and return the first
    match.

    Raises WaitFailed with the last 60 lines when `patience` has ended, or when `alive` says no and the text is without
    the pattern.
    """
    expression, searched = re.compile(pattern, re.MULTILINE), -1
    while True:
        lives, size = alive(), path.stat().st_size if path.exists() else 0
        # Mostly nothing is new, and to search the long text of a boot takes time from the machine that is emulated.
        if size != searched and (match := expression.search(plain(path, begins))):
            return match
        searched = size
        if not lives:
            raise WaitFailed(subject, f"ended without printing {pattern!r}", path)
        if why := patience.ended():
            raise WaitFailed(subject, f"did not print {pattern!r} {why}", path)
        time.sleep(POLL)


def wait_until(true: Callable[[], bool], patience: Patience, subject: str, what: str, path: Path, pause: float) -> None:
    """Look every `pause` seconds until it is `true`; raises WaitFailed with the last 60 lines of `path` when `patience`
    has ended before. `what` follows "did not"."""
    while not true():
        if why := patience.ended():
            raise WaitFailed(
                subject, f"did not {what}, and showed nothing new: waited {why.removeprefix('and ')}", path
            )
        time.sleep(pause)


def last_lines(path: Path) -> str:
    """The last 60 lines of a text that are not empty."""
    return "\n".join([line for line in plain(path).splitlines() if line.strip()][-60:])


class WaitFailed(Unavailable):
    """Something watched did not print what was waited for; `tail`, also a note on it, is its last 60 lines."""

    def __init__(self, subject: str, fact: str, path: Path) -> None:
        super().__init__(subject, fact, f"see {path}")
        self.tail = last_lines(path)
        self.add_note(f"--- the last lines of {path.name}:\n{self.tail}")
