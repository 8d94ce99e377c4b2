"""What the benchmarks share: rows, medians, a working directory, and peers that are started and stopped."""

from __future__ import annotations

import operator
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SIGNS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Row:
    """One line of docs/benchmarks.md: what was measured, ours and the peer's in `unit`, `ratio` and the aim for it."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    goal: str

    @property
    def verdict(self) -> str:
        """ "met" or "missed"; "" for the goal "none". A goal in MiB is for our figure, any other for the ratio."""
        if self.goal == "none":
            return ""
        sign, number = self.goal.split()[:2]
        value = self.ours if self.goal.endswith("MiB") else self.ratio
        return "met" if _SIGNS[sign](value, float(number)) else "missed"

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell a column."""
        figures = _short(self.ours), _short(self.peer), self.unit, _short(self.ratio)
        return self.name, *figures, self.goal, self.verdict


HEADINGS = ("what", "ours", "peer", "unit", "ratio", "goal", "")


def _short(value: float) -> str:
    """Three digits that count, or all of a larger number."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def note(line: str) -> None:
    """What a reader of the figures must know beside them."""
    print(f"note: {line}", file=sys.stderr)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def paired(name: str, unit: str, goal: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """A row of (ours, peer) pairs, measured one after the other: medians, and the median of the pairs' ratios."""
    ours, peers = statistics.median(o for o, _ in pairs), statistics.median(p for _, p in pairs)
    return Row(name, ours, peers, unit, statistics.median(o / p for o, p in pairs), goal)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def workspace(prefix: str) -> Iterator[Path]:
    """A directory that is gone afterwards; world-readable, since peers drop their privileges."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def process(argv: Sequence[str | Path], ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """A peer that runs while the block does; `ready` says when it answers (60 s at most)."""
    # Not a pipe: nobody reads it, and who logs much would wait for that.
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=said) as child,
    ):
        try:
            end = time.monotonic() + 60
            while not ready():
                if child.poll() is not None or time.monotonic() > end:
                    child.kill()
                    child.wait()
                    said.seek(0)
                    raise SystemExit(f"{argv[0]} did not start: {said.read().decode()[-300:]}")
                time.sleep(0.02)
            yield child
        finally:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()


def accepts(port: int) -> Callable[[], bool]:
    """Whether something listens on that TCP port of 127.0.0.1."""

    def ready() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    return ready


def listens(path: Path) -> Callable[[], bool]:
    """Whether something listens on that Unix socket; it is there a moment before it listens."""

    def ready() -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(path)) == 0

    return ready


def forget_peak(pid: int) -> None:
    """Let a process's highest resident memory be counted anew from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory(pid: int, field: str = "VmRSS") -> float:
    """A process's resident memory now ("VmHWM": at its highest), in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_time(pid: int) -> float:
    """Seconds of CPU that a process has used, all of its threads (proc(5), schedstat)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def processor(pid: int) -> float:
    """`cpu_time` of a process and its present children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(cpu_time, [pid, *map(int, children)]))


def python(module: str, *arguments: str | Path) -> list[str]:
    """The command line that runs a module of this project."""
    return [sys.executable, "-m", module, *map(str, arguments)]
