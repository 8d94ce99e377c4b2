"""Configurations that are kept: each is of the host, base, boot and server that it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from provision.service.configurations import Configurations
from provision.service.media_builder import MediaBuilder
from tests.helpers.site_fixture import site

SERVER, OTHER = "http://10.0.0.1", "http://10.1.0.1"


def test_what_is_kept_is_given_for_the_same_only(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        core = here.service.core
        made, state, base = Configurations(MediaBuilder(core)), core.state("node1"), core.base_of(None)
        first = made.pxelinux(state, base, "a" * 64, SERVER)
        assert made.pxelinux(state, base, "a" * 64, SERVER) is first
        # The image's name may come to mean another one while a request is answered.
        anew = replace(base, id="c" * 64)
        for text, other in (
            ("c" * 64, made.pxelinux(state, anew, "a" * 64, SERVER)),
            ("b" * 64, made.pxelinux(state, base, "b" * 64, SERVER)),
            (OTHER, made.pxelinux(state, base, "a" * 64, OTHER)),
            ("node2", made.pxelinux(core.state("node2"), base, "a" * 64, SERVER)),
        ):
            assert text not in first.decode() and text in other.decode()
        assert made.pxelinux(state, base, "a" * 64, SERVER) == first
