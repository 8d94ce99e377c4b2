"""Many runs of many attacks, shared among laboratories in processes of their own; each run's outcome comes back."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn, cast

from provision.errors import ProvisionError
from tests.integration.attacks.disturbances import disturbances
from tests.integration.attacks.race_site import race_site
from tests.integration.attacks.races import STUCK, Attack, Outcome, races

_TRIES = 3
"""How often a run is begun whose laboratory fails, for instance because its recording lost a frame; each time in a
laboratory that was made anew."""

_TELL_SECONDS = 60


def variants(only: Sequence[str] = ()) -> list[Attack]:
    """All variants, or those whose group and variant have one of the texts `only`."""
    every: list[Attack] = [*races(), *disturbances()]
    return [one for one in every if not only or any(text in f"{one.group}, {one.variant}" for text in only)]


def turns(attacks: Iterable[Attack], runs: int) -> list[Attack]:
    """So many runs of each group, whose variants take turns; none is left out."""
    groups: dict[str, list[Attack]] = {}
    for attack in attacks:
        groups.setdefault(attack.group, []).append(attack)
    return [group[number % len(group)] for group in groups.values() for number in range(max(runs, len(group)))]


def work(share: Sequence[tuple[int, Attack]], name: str, keep: Path | None, out: Connection) -> None:
    """Run a share of the attacks in a laboratory of this process, and send (place, outcome) of each."""
    signal.signal(signal.SIGTERM, end_by_signal)
    left, failed = list(share), Counter[int]()
    while left:
        place, attack = left[0]
        try:
            with race_site(keep / f"{name}-{failed.total()}" if keep else None, name) as site:
                while left:
                    place, attack = left[0]
                    out.send((place, attack.run(site)))
                    del left[0]
        except (ProvisionError, OSError, AssertionError) as error:
            sys.stderr.write(f"attacks: {name}: {attack.attack}, {attack.variant}: {type(error).__name__}: {error}\n")
            failed[place] += 1
            if failed[place] == _TRIES:
                out.send((place, _broken(attack, "not finished")))
                del left[0]
    out.close()


def end_by_signal(*_: object) -> NoReturn:
    raise SystemExit(1)


def _broken(attack: Attack, why: str) -> Outcome:
    """A run that says nothing counts as a host left behind."""
    return Outcome(attack.attack, f"{attack.variant} ({why})", 0, "", (), STUCK)


def run(attacks: Sequence[Attack], jobs: int, keep: Path | None) -> list[Outcome]:
    """Run all of them on `jobs` laboratories at a time; the outcomes in the order of `attacks`. Stopped by a signal it
    has those that came to their end."""
    context = multiprocessing.get_context("spawn")
    workers, pipes, outcomes = [], [], dict[int, Outcome]()
    numbered = list(enumerate(attacks))
    for job in range(min(jobs, len(attacks))):
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(numbered[job::jobs], f"r{job}", keep, there), daemon=True)
        worker.start()
        there.close()
        workers.append(worker)
        pipes.append(here)
    try:
        _collect(pipes, outcomes, len(attacks))
    except (KeyboardInterrupt, SystemExit):
        for worker in workers:
            worker.terminate()
    for worker in workers:
        worker.join(30)
    lost = len(attacks) - len(outcomes)
    if lost:
        sys.stderr.write(f"attacks: {lost:,} of {len(attacks):,} runs were not made\n")
    return [outcomes[place] for place, _ in numbered if place in outcomes]


def _collect(pipes: list[Connection], outcomes: dict[int, Outcome], wanted: int) -> None:
    told = time.monotonic()
    for place, outcome in _received(pipes):
        outcomes[place] = outcome
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            broken = sum(one.failed for one in outcomes.values())
            sys.stderr.write(f"attacks: {len(outcomes):,} of {wanted:,} runs, {broken:,} broke the promise\n")


def _received(pipes: list[Connection]) -> Iterable[tuple[int, Outcome]]:
    open_pipes = list(pipes)
    while open_pipes:
        for pipe in wait(open_pipes):
            try:
                yield cast(Connection, pipe).recv()
            except EOFError:
                open_pipes.remove(cast(Connection, pipe))
