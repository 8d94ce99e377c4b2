"""Which cells of the matrix this run boots: the selected ones, or for `make boot-matrix` all that are not done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers import boot_results
from tests.helpers.boot_matrix import POSSIBLE, SELECTED, Cell

_FILE = os.environ.get("BOOT_MATRIX")
"""The file of results, which means the whole matrix."""


def _cells() -> tuple[Cell, ...]:
    if not _FILE:
        return SELECTED
    done = {name for name, result in boot_results.read(Path(_FILE)).items() if result.passed}
    # The selected ones first: they say most when there is no time for all.
    return tuple(cell for cell in dict.fromkeys((*SELECTED, *POSSIBLE)) if cell.name not in done)


TO_BOOT = _cells()


@contextmanager
def recorded(cell: Cell) -> Iterator[None]:
    """Note what comes of a boot, when this run has a file for that; nothing of one that is interrupted."""
    began = time.monotonic()
    try:
        yield
    except Exception:
        _record(cell, False, time.monotonic() - began)
        raise
    _record(cell, True, time.monotonic() - began)


def _record(cell: Cell, passed: bool, seconds: float) -> None:
    if _FILE:
        boot_results.append(Path(_FILE), boot_results.Result(cell.name, passed, seconds))
