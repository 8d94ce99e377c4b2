"""Downloads that go on: the rest of one is of the medium that it began with, or it is refused."""

from __future__ import annotations

from starlette.datastructures import Headers

from provision.errors import Gone
from provision.media.plan import Plan
from provision.web.stream import sent_of


class ResumedDownloads:
    """What each operator has begun to download of each medium. `curl -C -` asks for the rest without a condition, and
    the rest of another medium would make a file of two seeds."""

    def __init__(self) -> None:
        self._etags: dict[tuple[str, str, str], str] = {}

    def follow(self, operator: str, host: str, medium: str, headers: Headers, plan: Plan) -> None:
        """Note a beginning; raises Gone for a part from the middle that nothing ties to the present medium."""
        key = operator, host, medium
        sent = sent_of(headers, plan) if "range" in headers else range(plan.size)
        if sent and sent.start == 0:
            self._etags[key] = plan.etag
            return
        tied = plan.etag in headers.get("if-match", "") or headers.get("if-range") == plan.etag
        if sent and not tied and self._etags.get(key) != plan.etag:
            fact = "its medium has changed since your download began, or the service knows of no beginning"
            raise Gone(f"{host}: {medium}", fact, "download it from the first byte, or send If-Range with its ETag")
