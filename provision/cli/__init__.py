"""The command line: a client of the operator's application, with or without a running service."""

from provision.cli.main import main

__all__ = ["main"]
