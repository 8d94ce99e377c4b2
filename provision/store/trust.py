"""Whether what is stored may be believed: the database's own record against what the audit log knows of it."""

from __future__ import annotations

from dataclasses import dataclass

from provision.store.chain import Known
from provision.store.ledger import Record, Standing

REMEDY = "restore it, or look at what it holds and run 'provision store accept --reason TEXT'"

UNKNOWN = "nobody has vouched for it yet"
CHANGED = "was changed by something else than this program while it was in use"
ALTERED = "holds rows that this program did not write, or lacks some that it wrote"
_STRIPPED = "has lost the record of its rows, which the audit log knows of"
_HEADLESS = "cannot be compared with the audit log, whose head is missing or altered, or which is another one's"
_STRANGER = "is not known to the audit log, which is empty or another one's"
OF_THE_LOG = frozenset({_HEADLESS, _STRANGER})
"""What is wrong with the log, and stays so until an operator says otherwise."""


@dataclass(frozen=True)
class Found:
    """A database as it was opened; `empty` when it holds nothing that could be believed."""

    standing: Standing
    record: Record
    empty: bool


def distrust(found: Found, known: Known) -> str:
    """Why a database is not believed; "" when it is. Pure.

    A change is durable in the database before the audit log hears of its generation, and nothing is given away before
    the log has heard. So a database that is whole is never older than what the log knows, however the machine stopped;
    it may be newer, and then its record says so, which only the key can write.
    """
    if found.standing is Standing.ALTERED:
        return ALTERED
    if not known.sound:
        return _HEADLESS
    if found.standing is Standing.MISSING:
        return _no_record(found, known)
    if found.record.generation < known.generation:
        return f"is older (generation {found.record.generation}) than the audit log knows it ({known.generation})"
    # The first generation is what an upgrade makes of a database that has none; it may have been interrupted there.
    if known.generation or found.empty or (found.record.generation == 1 and known.entries):
        return ""
    return _STRANGER


def alone(found: Found) -> str:
    """Why a database is not believed before the audit log was asked."""
    if found.standing is Standing.SOUND:
        return ""
    return ALTERED if found.standing is Standing.ALTERED else UNKNOWN


def _no_record(found: Found, known: Known) -> str:
    """A database that has no record was made before there were records, or somebody took it away."""
    if known.generation:
        return _STRIPPED
    return "" if found.empty or known.entries else _STRANGER
