"""One read transfer as a pure state machine: which blocks to send when an acknowledgment or a time-out comes.

Blocks are counted from 1 without end; only the wire has them modulo 65536. Block 0 is the OACK. The rules:
a duplicate ACK never makes a block be sent again in lockstep (the Sorcerer's Apprentice bug, RFC 1123 section 4.2.3.1);
with a window, an ACK inside it means that the rest was lost, and the window starts anew after it (RFC 7440 section 4).
"""

from __future__ import annotations

from provision.tftp.packet import Terms

RETRIES = 6
"""Time-outs in a row before a transfer is given up; with doubling from 1 s up to 8 s that is 31 s."""

MAX_BACKOFF = 8.0
Blocks = tuple[int, int]
"""First and last block to send now; nothing when the first is greater."""

NOTHING: Blocks = (1, 0)


class Transfer:
    """State of one transfer of `size` bytes under `terms`. After `finished` or `failed` it sends nothing more."""

    __slots__ = ("_acked", "_last", "_rewound", "_sent", "_timeouts", "failed", "finished", "terms")

    def __init__(self, size: int, terms: Terms) -> None:
        self.terms = terms
        self.finished = self.failed = False
        self._last = size // terms.block + 1
        self._acked = -1 if terms.acknowledged else 0
        self._sent = self._acked
        self._timeouts = 0
        self._rewound = False

    @property
    def acknowledged(self) -> int:
        """Bytes that the client has confirmed, except in the last block."""
        return max(0, self._acked) * self.terms.block

    @property
    def delivered(self) -> int:
        """Bytes that the client may have: those sent to one that has answered, in whole blocks."""
        return max(0, self._sent) * self.terms.block if self.answered else 0

    @property
    def answered(self) -> bool:
        """Whether the client has ever acknowledged anything: until then its address is only a claim."""
        return self._acked > (-1 if self.terms.acknowledged else 0)

    @property
    def wait(self) -> float:
        """Seconds to wait for the next acknowledgment before `timeout` is to be called."""
        return min(self.terms.timeout * 2.0**self._timeouts, max(MAX_BACKOFF, self.terms.timeout))

    def start(self) -> Blocks:
        """The first blocks: (0, 0) is the OACK."""
        if self._acked < 0:
            self._sent = 0
            return 0, 0
        return self._window()

    def ack(self, number: int) -> Blocks:
        """An ACK of the block `number` (modulo 65536) came."""
        ahead = (number - self._acked) & 0xFFFF
        if ahead > self._sent - self._acked or self.finished or self.failed:
            return NOTHING  # of a block before the window, late or repeated
        if ahead == 0:
            # The first block of the window was lost, says the client; believed once, then only the clock.
            if self.terms.window == 1 or self._rewound or self._sent <= self._acked:
                return NOTHING
            self._rewound = True
            return self._window()
        self._acked += ahead
        self._timeouts, self._rewound = 0, False
        if self._acked == self._last:
            self.finished = True
            return NOTHING
        return self._window()

    def timeout(self) -> Blocks:
        """No acknowledgment came in `wait` seconds: the whole window again, or the end."""
        self._timeouts += 1
        if self._timeouts > RETRIES or self.finished or self.failed:
            self.failed = not self.finished
            return NOTHING
        return (0, 0) if self._acked < 0 else self._window()

    def _window(self) -> Blocks:
        first = self._acked + 1
        self._sent = min(self._acked + self.terms.window, self._last)
        return first, self._sent
