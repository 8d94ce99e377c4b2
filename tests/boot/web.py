"""A small HTTP server in a laboratory's namespace, in place of the product where a test is not about the product."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from provision.lab.lans import inside


class Handler(SimpleHTTPRequestHandler):
    """Serves files, takes every POST with 204, and remembers both in the server's `seen`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen(f"POST {self.path} {self.headers['Content-Type']} {body.decode()}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        self.seen(format % args)

    def seen(self, line: str) -> None:
        assert isinstance(self.server, Server)
        self.server.seen.append(line)


class Server(ThreadingHTTPServer):
    """The server with the list of what it has seen."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], directory: Path) -> None:
        self.seen: list[str] = []
        super().__init__(address, lambda *args: Handler(*args, directory=str(directory)))


@contextmanager
def serve(namespace: str, address: str, port: int, directory: Path) -> Iterator[Server]:
    """Serve `directory` on an address of a namespace."""
    with inside(namespace):
        server = Server((address, port), directory)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
