"""Jobs of the service: they begin again after each end, go on after a failure, and end when told to."""

from __future__ import annotations

import threading

import pytest

from provision.errors import Unavailable
from provision.server.jobs import Job, Jobs


class Work:
    """What is called, and fails as often as it is told to."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls, self.called = list(errors), 0, threading.Semaphore(0)

    def __call__(self) -> None:
        self.calls += 1
        self.called.release()
        if self.errors:
            raise self.errors.pop(0)


def test_a_job_is_done_again_and_again_until_all_ends() -> None:
    often, late = Work(), Work()
    with Jobs([Job("often", often, 0.0, 0.001), Job("late", late, 3600.0, 0.0)]):
        for _ in range(5):
            assert often.called.acquire(timeout=30)
    calls = often.calls
    assert "often" not in {thread.name for thread in threading.enumerate()}
    assert often.calls == calls and late.calls == 0


def test_a_failure_is_told_once_and_the_job_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    full = Unavailable("audit log", "cannot be written", "make room")
    work = Work(full, full, RuntimeError("a secret"))
    with Jobs([Job("writer", work, 0.0, 0.001)]):
        for _ in range(6):
            assert work.called.acquire(timeout=30)
    assert [record.message for record in caplog.records] == [f"writer: {full}"]
    assert "a secret" not in caplog.text


def test_the_type_of_an_error_that_nobody_foresaw_is_told(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(RuntimeError("a secret"))
    with Jobs([Job("writer", work, 0.0, 0.001)]):
        assert work.called.acquire(timeout=30) and work.called.acquire(timeout=30)
    assert [record.message for record in caplog.records] == ["internal error (RuntimeError) in writer"]


def test_nobody_waits_for_a_long_job() -> None:
    begun, end = threading.Event(), threading.Event()

    def read() -> None:
        begun.set()
        end.wait()

    with Jobs([Job("reader", read, 0.0, 0.0, long=True)]):
        assert begun.wait(30)
    end.set()
