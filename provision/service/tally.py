"""How often this process has decided what, and what followed: numbers only, for its metrics.

Every decision and every delivery passes here, so adding takes no lock: it is one append, which is atomic. What was
added is summed up when somebody asks, and now and then in between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from threading import Lock

from provision.media.plan import Plan

BUCKETS = (30.0, 60.0, 120.0, 180.0, 300.0, 450.0, 600.0, 900.0, 1800.0, 3600.0)
"""Upper bounds in seconds, inclusive, of what is told apart of the time from a window to the host that is up."""

_UNSUMMED = 4096

Labels = tuple[str, ...]


class Tally:
    """Counts since the process began. Labels are rules, media, and channels as the audit log has them: nothing that
    whoever asks can choose. Thread-safe."""

    def __init__(self) -> None:
        self._added: deque[tuple[str, Labels, float]] = deque()
        self._sums: Counter[tuple[str, Labels]] = Counter()
        self._lock = Lock()

    def refused(self, rule: str, channel: str) -> None:
        """A rule has refused something on that channel."""
        self._add("refused", (rule, channel), 1)

    def released(self, medium: str, channel: str) -> None:
        """Policy has released a medium on that channel."""
        self._add("released", (medium, channel), 1)

    def gave(self, channel: str, secret: int) -> None:
        """So many bytes of a seed with secrets have left on that channel."""
        self._add("gave", (channel,), secret)

    def counting(self, plan: Plan, channel: str) -> Callable[[int, int], None]:
        """What counts the secret bytes of one answer: it is told again and again of the bytes of the medium that were
        sent up to now, from which to which."""
        told = 0

        def sent(first: int, last: int) -> None:
            nonlocal told
            new = range(max(first, told), last)
            if secret := sum(len(plan.of_patch(at, new)) for at in plan.seed):
                self.gave(channel, secret)
            told = last

        return sent

    def came_up(self, seconds: float) -> None:
        """A host has come up so long after its window was opened."""
        place = bisect_left(BUCKETS, seconds)
        self._add("up", (str(place),), 1)
        self._add("up seconds", (), seconds)

    def refusals(self) -> dict[Labels, float]:
        """Refusals by rule and channel."""
        return self._of("refused")

    def releases(self) -> dict[Labels, float]:
        """Releases by medium and channel."""
        return self._of("released")

    def secrets(self) -> dict[Labels, float]:
        """Bytes of seeds with secrets by channel."""
        return self._of("gave")

    def ups(self) -> tuple[list[float], float]:
        """How many hosts came up within each of BUCKETS, each count with those before it, the last of all; and the sum
        of their seconds."""
        found, total, counts = self._of("up"), 0.0, []
        for place in range(len(BUCKETS) + 1):
            total += found.get((str(place),), 0)
            counts.append(total)
        return counts, self._of("up seconds").get((), 0.0)

    def _add(self, name: str, labels: Labels, amount: float) -> None:
        self._added.append((name, labels, amount))
        if len(self._added) >= _UNSUMMED:
            self._sum_up()

    def _of(self, name: str) -> dict[Labels, float]:
        self._sum_up()
        with self._lock:
            return {labels: amount for (kind, labels), amount in sorted(self._sums.items()) if kind == name}

    def _sum_up(self) -> None:
        with self._lock:
            while self._added:
                name, labels, amount = self._added.popleft()
                self._sums[name, labels] += amount  # type: ignore[assignment]
