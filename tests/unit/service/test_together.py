"""What comes while a call is under way is done by the next one; each gets its own result or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from provision.service.together import Together


class Halves:
    """Halves numbers, as often as `release` lets it; odd ones are errors, and so is everything after 99."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.release = threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.calls.append(list(numbers))
        self.release.acquire()
        if max(numbers) > 99:
            raise OverflowError
        return [number // 2 if number % 2 == 0 else ValueError(number) for number in numbers]


def test_what_comes_meanwhile_is_done_by_the_next_call() -> None:
    async def ask(halves: Halves) -> list[int | BaseException]:
        together = Together(halves)
        asked = [together.begin(number) for number in (2, 4, 6, 7, 8)]
        halves.release.release(2)
        return await asyncio.gather(*asked, return_exceptions=True)

    halves = Halves()
    *found, odd, last = asyncio.run(ask(halves))
    assert (found, repr(odd), last) == ([1, 2, 3], "ValueError(7)", 4)
    assert halves.calls == [[2], [4, 6, 7, 8]]


def test_a_call_is_given_no_more_than_it_may() -> None:
    async def ask(halves: Halves) -> list[int]:
        together = Together(halves, most=2)
        asked = [together.begin(number) for number in (2, 4, 6, 8)]
        halves.release.release(3)
        return await asyncio.gather(*asked)

    halves = Halves()
    assert asyncio.run(ask(halves)) == [1, 2, 3, 4]
    assert halves.calls == [[2], [4, 6], [8]]


def test_what_a_call_raises_is_for_all_of_it_and_for_nobody_else() -> None:
    async def ask(halves: Halves) -> list[int | BaseException]:
        together = Together(halves, most=2)
        asked = [together.begin(number) for number in (2, 4, 100, 6)]
        halves.release.release(3)
        return await asyncio.gather(*asked, return_exceptions=True)

    first, *failed, last = asyncio.run(ask(Halves()))
    assert (first, last) == (1, 3)
    assert [type(one) for one in failed] == [OverflowError, OverflowError]


def test_who_leaves_takes_nothing_from_the_others() -> None:
    async def ask(halves: Halves) -> list[int]:
        together = Together(halves)
        asked = [together.begin(number) for number in (2, 4, 6)]
        asked[0].cancel()
        asked[1].cancel()
        halves.release.release(2)
        found = [await asked[2]]
        halves.release.release()
        return [*found, await together.begin(8)]

    halves = Halves()
    assert asyncio.run(ask(halves)) == [3, 4]
    assert halves.calls == [[2], [4, 6], [8]]
