"""The demonstration when a boot loader stops for good: the power is cut and comes back, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.demo import show
from provision.demo.site import PRINCIPAL
from provision.errors import Unavailable

FINGERPRINT = "0123456789abcdef" * 4
STOPPED = "provision: node1 boots from the network.\n"
CAME_UP = f"{STOPPED}    node1\n    keytab       {PRINCIPAL}, SHA-256 {FINGERPRINT[:16]}\n    system       running\n"


class Site:
    """What `_boot` asks of the site."""

    def __init__(self) -> None:
        self.fingerprints = {"keytab": FINGERPRINT}

    def call(self, *arguments: str) -> str:
        return " ".join(arguments)

    def json(self, *arguments: str) -> Any:
        return {"hosts": [{"stage": "up", "medium": "pxe"}]}


class VM:
    """A machine whose consoles, one of each power-on, were written beforehand."""

    running = True

    def __init__(self, directory: Path, consoles: Iterator[str]) -> None:
        self.console_file, self._consoles = directory / "console", consoles

    def __call__(self, lab: object, machine: object) -> VM:
        return self

    def __enter__(self) -> VM:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        self.console_file.write_text(next(self._consoles))

    def wait_until(self, holds: Callable[[], bool], what: str, silence: float, *, pause: float) -> None:
        assert holds()

    def stop(self) -> None:
        pass

    @property
    def console(self) -> str:
        return self.console_file.read_text()


def booted(monkeypatch: pytest.MonkeyPatch, directory: Path, *consoles: str) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(show, "VM", VM(directory, iter(consoles)))
    monkeypatch.setattr(show, "SILENCE", 0.0)
    monkeypatch.setattr("time.sleep", lambda _: None)
    show._boot(None, None, Site(), said.append)  # type: ignore[arg-type]
    return said


def test_a_machine_that_comes_up_is_powered_on_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not any("Power off" in line for line in booted(monkeypatch, tmp_path, CAME_UP))


def test_a_machine_that_stops_is_powered_on_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = booted(monkeypatch, tmp_path, STOPPED, CAME_UP)
    assert "status node1" in said and "window node1 --minutes 10 --boots 1" in said
    assert said.count("  │ provision: node1 boots from the network.") == 2


def test_one_that_stops_again_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="did not show what it should"):
        booted(monkeypatch, tmp_path, STOPPED, STOPPED)
