"""The attack laboratory under its former name."""

from tests.integration.attacks.site import *  # noqa: F403
