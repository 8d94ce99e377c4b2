"""boot: followed to the end, many at a time, and cancelled by Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from provision.cli import boot
from provision.cli.context import Context
from provision.errors import Exit
from tests.helpers.cli_runner import Ran, cli, failed


def test_without_a_service_nothing_boots(state: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    more = ("--user", "root", "--password-file", tmp_path / "password", "--fingerprint", "ab" * 32)
    assert cli(state, "bmc", "set", "node1", "--url", "https://127.0.0.1:9", *more).code == 0
    assert "nothing is served" in failed(cli(state, "boot", "node1"), Exit.CONFLICT)
    assert "has not been set" in failed(cli(state, "boot", "node2", "--via", "cd"), Exit.NOT_FOUND)


@pytest.mark.parametrize("words", [(), ("node1", "--selector", "rack=a")])
def test_one_host_or_a_selector(state: Path, words: tuple[str, ...]) -> None:
    failed(cli(state, "boot", *words), Exit.INVALID)


@pytest.mark.parametrize("words", [("node1", "--via", "usb"), ("node1", "--minutes", "0"), ("--selector", "rack")])
def test_wrong_uses(state: Path, words: tuple[str, ...]) -> None:
    assert cli(state, "boot", *words).code == Exit.USAGE


class Service:
    """A client of a service in which every operation has two steps; what is in `bad` fails, in `never` goes on."""

    def __init__(self, names: str, bad: str = "", never: str = "") -> None:
        self.names, self.bad, self.never = names, bad, never
        self.running: set[str] = set()
        self.most, self.cancelled, self.joined = 0, list[str](), ""
        self.looked: Callable[[], None] = lambda: None
        self.began: Callable[[], None] = lambda: None

    def call(self, kind: Any, method: str, path: str, **_: Any) -> Any:
        """One answer."""
        from provision.api.hosts import HostRow
        from provision.api.operations import Operation, OperationState
        from provision.api.problem import ProblemDocument

        if path == "/v1/hosts":
            return [HostRow.model_construct(name=name) for name in self.names]
        name = path.split("/")[3] if method == "POST" else path[-1]
        fields: dict[str, Any] = {"kind": "boot", "host": name, "by": "x", "started": "", "ended": None}
        if method == "POST":
            self.running.add(name)
            self.began()
            self.most = max(self.most, len(self.running))
            fields |= {"cancelled": False}
            fields |= {"state": OperationState.RUNNING, "steps": ("one",), "problem": None, "progress": None}
        else:
            self.looked()
            ends = name not in self.never or name in self.cancelled
            self.running -= {name} if ends else set()
            bad = name in self.bad or name in self.cancelled
            state = OperationState.FAILED if bad else OperationState.DONE
            problem = ProblemDocument(subject=name, fact="did not", exit=Exit.UNAVAILABLE) if bad else None
            fields |= {
                "state": state if ends else OperationState.RUNNING,
                "cancelled": name in self.cancelled,
                "steps": ("one", "two"),
                "problem": problem,
                "progress": None,
            }
        return Operation.model_construct(id=f"00000000000{name}", **fields)

    def remove(self, path: str) -> None:
        """Something is cancelled."""
        if path[-1] not in self.joined:
            self.cancelled.append(path[-1])

    @contextmanager
    def __call__(self, *_: Any) -> Any:
        yield self


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Service], None]:
    return lambda service: monkeypatch.setattr(Context, "client", service)


def test_many_at_a_time(use: Any, tmp_path: Path) -> None:
    there = Service("abcdef0123456", bad="c")
    use(there)
    ran = cli(tmp_path, "boot", "--selector", "rack=a", "--watch")
    assert ran.code == Exit.FAILED and there.most == boot.AT_ONCE
    lines = ran.out.splitlines()
    assert {f"{name}: up" for name in "abdef0123456"} <= set(lines) and "c: FAILED: did not" in lines
    assert lines.count("a: one") == lines.count("a: two") == 1
    many = cli(tmp_path, "boot", "--selector", "rack=a", "--json").json
    assert {row["host"]: row["up"] for row in many} == {name: name != "c" for name in there.names}


def test_one(use: Any, tmp_path: Path) -> None:
    use(Service("a", bad="b"))
    assert cli(tmp_path, "boot", "a").out == "a: up\n"
    assert "b: did not" in failed(cli(tmp_path, "boot", "b"), Exit.UNAVAILABLE)


def test_ctrl_c_cancels_and_waits(use: Any, tmp_path: Path) -> None:
    ran, there = interrupted(use, tmp_path, Service("abc", never="abc"))
    assert ran.code == 130 and sorted(there.cancelled) == ["a", "b", "c"] and not there.running
    assert "a: cancelling operation 00000000000a, and undoing what it has done" in ran.out


def test_ctrl_c_does_not_wait_for_what_goes_on_for_others(use: Any, tmp_path: Path) -> None:
    service = Service("abc", never="abc")
    service.joined = "b"
    ran, there = interrupted(use, tmp_path, service)
    assert ran.code == 130 and sorted(there.cancelled) == ["a", "c"] and there.running == {"b"}
    assert "b: operation 00000000000b goes on for others who wait for it" in ran.out


def interrupted(use: Any, tmp_path: Path, there: Service) -> tuple[Ran, Service]:
    """A boot of all with Ctrl-C in the middle."""
    use(there)
    pressed: list[bool] = []

    def press() -> None:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    there.looked = press
    return cli(tmp_path, "boot", "--selector", "rack=a", "--watch"), there


def test_ctrl_c_before_the_answer_cancels_what_the_service_has_begun(use: Any, tmp_path: Path) -> None:
    there = Service("abc", never="abc")
    use(there)
    there.began = lambda: os.kill(os.getpid(), signal.SIGINT)
    ran = cli(tmp_path, "boot", "--selector", "rack=a", "--watch")
    assert ran.code == 130 and there.cancelled == ["a"] and not there.running
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait_for_the_answer(use: Any, tmp_path: Path) -> None:
    there = Service("a", never="a")
    use(there)
    pressed: list[int] = []

    def press_twice() -> None:
        for number in (1, 2):
            pressed.append(number)
            os.kill(os.getpid(), signal.SIGINT)
        pressed.append(3)

    there.began = press_twice
    ran = cli(tmp_path, "boot", "a")
    assert ran.code == 130 and pressed == [1, 2] and there.cancelled == []


def test_where_ctrl_c_is_ignored_it_stays_so(use: Any, tmp_path: Path) -> None:
    use(there := Service("a"))
    there.began = lambda: os.kill(os.getpid(), signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert cli(tmp_path, "boot", "a").out == "a: up\n"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
