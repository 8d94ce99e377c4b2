"""The runs of all attacks as a table in Markdown, and in words which of them broke the promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.integration.attacks.races import Outcome

_HEAD = ("attack", "runs", "secret bytes that left", "refusals", "what the real host saw")


def table(outcomes: Iterable[Outcome]) -> str:
    """A row for each attack, in the order in which they first came."""
    rows: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.attack, []).append(outcome)
    lines = [_HEAD, ("---", "---:", "---:", "---:", "---"), *(_row(name, runs) for name, runs in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(name: str, runs: Sequence[Outcome]) -> tuple[str, ...]:
    leaking = [run.leaked for run in runs if run.leaked]
    left = f"{sum(leaking):,} in {len(leaking)} runs" if leaking else "0"
    return name, f"{len(runs):,}", left, f"{sum(run.refused for run in runs):,}", _host(runs)


def _host(runs: Sequence[Outcome]) -> str:
    """What the host saw, the most frequent first."""
    seen = Counter(_short(run.host) for run in runs)
    parts = [f"{what} {count:,}" for what, count in seen.most_common()]
    if burned := sum(run.burned for run in runs):
        parts.append(f"its window was used by the attack {burned:,}")
    return ", ".join(parts)


def _short(host: str) -> str:
    """All boots alike, but those that needed another try after the attack."""
    return {"booted meanwhile": "booted"}.get(host, "booted at a further try" if " at try " in host else host)


def failures(outcomes: Iterable[Outcome]) -> list[str]:
    """A line for each variant that lost a secret byte, used up the host's window or left the host behind."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.failed:
            found.setdefault((outcome.attack, outcome.variant), []).append(outcome)
    return [
        f"{attack}: {variant}: {_row('', runs)[2]} secret bytes; {_host(runs)}"
        for (attack, variant), runs in found.items()
    ]
