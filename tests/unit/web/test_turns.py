"""How many begin in a second, and in which order."""

from __future__ import annotations

import asyncio

from provision.web.turns import Turns


def test_some_begin_at_once_and_the_rest_evenly() -> None:
    async def run() -> list[float]:
        turns, loop, begun = Turns(rate=50.0, burst=3), asyncio.get_running_loop(), list[float]()

        async def one() -> None:
            await turns.take("a")
            begun.append(loop.time())

        start = loop.time()
        await asyncio.gather(*(one() for _ in range(6)))
        return [at - start for at in begun]

    begun = asyncio.run(run())
    assert begun[3] - begun[2] > 0.001, "three need not wait for a timer"
    assert all(at >= 0.02 * n - 0.005 for n, at in enumerate(begun[3:], start=1))


def test_peers_take_turns() -> None:
    async def run() -> list[str]:
        turns, order = Turns(rate=200.0, burst=1), list[str]()

        async def one(peer: str) -> None:
            await turns.take(peer)
            order.append(peer)

        await turns.take("first")
        await asyncio.gather(*(one(peer) for peer in "aaaabbc"))
        return order

    assert asyncio.run(run()) == list("abcabaa")


def test_who_gives_up_takes_no_turn() -> None:
    async def run() -> list[str]:
        turns, order = Turns(rate=200.0, burst=1), list[str]()

        async def one(peer: str) -> None:
            await turns.take(peer)
            order.append(peer)

        await turns.take("first")
        gone, there = asyncio.create_task(one("a")), asyncio.create_task(one("b"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(there, 10)
        await asyncio.wait_for(one("c"), 10)
        return order

    assert asyncio.run(run()) == ["b", "c"]
