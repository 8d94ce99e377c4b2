"""How many secret bytes of one host are in frames: any eight bytes in a row that only its own seed has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from provision.lab.capture import flows

_WIDTH = 8
_KEY = re.compile(rb'"key": ?"([0-9a-f]{64})"')


def windows(data: bytes) -> set[int]:
    """Every eight bytes in a row, each as a number, but those with a zero byte (padding, and what is masked)."""
    found: set[int] = set()
    for shift in range(_WIDTH):
        found.update(_cast(data, shift))
    return {number for number in found if 0 not in number.to_bytes(_WIDTH, "little")}


def _cast(data: bytes, shift: int) -> Sequence[int]:
    view = memoryview(data)[shift:]
    return view[: len(view) // _WIDTH * _WIDTH].cast("Q")


class Secrets:
    """What only one host's seed has. `public` are texts that anybody may see (other seeds, configurations), and
    `names` the words by which the host is called in them: its name, MAC and address."""

    def __init__(self, seed: bytes, public: Iterable[bytes], names: Iterable[bytes]) -> None:
        for name in sorted(names, key=len, reverse=True):
            seed = seed.replace(name, bytes(len(name)))
        self.windows = windows(seed)
        for text in public:
            self.windows -= windows(text)

    def with_key(self, key: bytes) -> Secrets:
        """The same, and a phone-home key."""
        more = Secrets(key, (), ())
        more.windows |= self.windows
        return more

    def count(self, data: bytes) -> int:
        """Secret bytes in `data`."""
        if all(self.windows.isdisjoint(_cast(data, shift)) for shift in range(_WIDTH)):
            return 0
        marked: set[int] = set()
        for shift in range(_WIDTH):
            for index, number in enumerate(_cast(data, shift)):
                if number in self.windows:
                    marked.update(range(shift + index * _WIDTH, shift + (index + 1) * _WIDTH))
        for key in _KEY.finditer(data):
            marked.update(range(*key.span(1)))
        return len(marked)

    def in_frames(self, frames: Sequence[bytes]) -> int:
        """Secret bytes in frames: in each as it is, or in flows put together, whichever are more."""
        # A flood is the same few frames over and over: each is looked at once.
        raw = sum(self.count(frame) * times for frame, times in Counter(frames).items())
        return max(raw, sum(self.count(payload) for payload in _payloads(frames)))


def _payloads(frames: Sequence[bytes]) -> Iterator[bytes]:
    """Of UDP only the payloads without TFTP's four bytes of header in between; the whole ones are in the frames."""
    for flow, payload in flows(iter(frames)).items():
        if flow[2] != 17:
            yield payload
