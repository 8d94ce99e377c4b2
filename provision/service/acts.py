"""The order of an act and its record: begun, done, said. Nothing happens unrecorded, and nothing is said that did not
happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from provision.clock import Clock
from provision.errors import ProvisionError, Unavailable
from provision.principal import Principal
from provision.store.audit import Audit
from provision.store.pending import BEGUN, FAILED

Fields = Mapping[str, str | int | None]


@contextmanager
def act(
    audit: Audit, clock: Clock, event: str, principal: Principal | None, entries: Sequence[Fields]
) -> Iterator[None]:
    """Do within this context what an `event` for each of the `entries` will tell. `principal` None: nobody asked.

    That it begins is on disk first: what cannot be recorded does not happen (raises Unavailable). Once it is done there
    are the events, each `of` the number with which it began; when it raises there is a `failed` instead. What cannot be
    written then is written as soon as it can be. A process that is killed in between leaves a beginning without an
    end, and the next start of the log points it out.
    """
    about = [{"operator": principal.name if principal else None, **fields} for fields in entries]
    for fields in about[:-1]:
        audit.record({"time": clock(), "event": BEGUN, "subject": event, **fields}, counted=False)
    begun = {"time": clock(), "event": BEGUN, "subject": event, **about[-1]}
    number = audit.record(begun, durable=True, begins=len(about))
    try:
        yield
    except BaseException as error:
        reason = error.fact if isinstance(error, ProvisionError) else type(error).__name__
        failed = {"time": clock(), "event": FAILED, "subject": event, "of": number, "reason": reason, **about[-1]}
        with suppress(Unavailable):
            audit.record(failed, durable=True, ends=number)
        raise
    _say(audit, clock, event, number, about)


def _say(audit: Audit, clock: Clock, event: str, number: int, about: Sequence[Fields]) -> None:
    """Record what was done; raises Unavailable when it can be written later only."""
    broken: Unavailable | None = None
    for place, fields in enumerate(about, 1):
        done = {"time": clock(), "event": event, "of": number, **fields}
        try:
            audit.record(done, durable=place == len(about), counted=False, ends=number)
        except Unavailable as error:
            broken = error
    if broken is not None:
        fact = f"the {event} was done, but that cannot be recorded now ({broken.fact})"
        raise Unavailable(broken.subject, fact, broken.remedy)
