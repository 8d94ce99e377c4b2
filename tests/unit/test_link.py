"""The secret of a link, and its path."""

from __future__ import annotations

import math

import pytest

from provision import link
from provision.boot import DiskFormat
from provision.secret import Secret

SAMPLE = "0123456789abcdefghjkmnpqrs"


def test_a_secret_has_130_bits_in_letters_that_are_not_taken_for_others() -> None:
    made = {link.new().reveal().decode() for _ in range(200)}
    assert len(made) == 200
    letters = set("".join(made))
    assert {len(one) for one in made} == {26} and letters <= set(link.ALPHABET)
    assert not letters & set("ilouABCDEFGHIJKLMNOPQRSTUVWXYZ") and len(set(link.ALPHABET)) == 32
    assert 26 * math.log2(len(link.ALPHABET)) == 130


def test_a_url_has_an_address_in_brackets_and_no_usual_port() -> None:
    assert link.https_url("prov.example.net", 443) == "https://prov.example.net"
    assert link.https_url("2001:db8::1", 8443) == "https://[2001:db8::1]:8443"
    path = link.path(Secret(SAMPLE.encode()), "iso")
    assert link.characters("https://10.0.0.1") == len(f"https://10.0.0.1{path}")


def test_what_is_too_long_is_so_with_the_shortest_secret() -> None:
    for length in range(15, 30):
        base = f"https://{'a' * length}"
        url = base + link.path(link.new([base]), "iso")
        assert link.excess(base) == (max(0, len(url) - link.MOST_CHARACTERS - 2) if length > 21 else 0)
        assert (link.excess(base) == 0) == (len(url) <= link.MOST_CHARACTERS)


def test_a_path_is_read_as_it_was_written() -> None:
    assert set(link.SUFFIXES) == {"iso", *(one.suffix for one in DiskFormat)}
    for suffix in link.SUFFIXES:
        path = link.path(Secret(SAMPLE.encode()), suffix)
        assert path == f"/b/{SAMPLE}.{suffix}"
        assert link.parse(path) == (Secret(SAMPLE.encode()), suffix)
    assert link.parse(f"/b/{SAMPLE[2:]}.iso") == (Secret(SAMPLE[2:].encode()), "iso"), "a shorter one"


@pytest.mark.parametrize(
    "path",
    [
        "/b/",
        f"/b/{SAMPLE}",
        f"/b/{SAMPLE}.ISO",
        f"/b/{SAMPLE}.exe",
        f"/b/{SAMPLE}0.iso",
        f"/b/{SAMPLE[3:]}.iso",
        f"/b/{SAMPLE.upper()}.iso",
        f"/b/{SAMPLE[:-1]}l.iso",
        f"/b/{SAMPLE[:-1]}\u0663.iso",
        f"/b/{SAMPLE}.iso\n",
        f"/b/../b/{SAMPLE}.iso",
        f"/b/x/{SAMPLE}.iso",
        f"/B/{SAMPLE}.iso",
        f"/b/{SAMPLE}%00.iso",
    ],
)
def test_nothing_else_is_a_link(path: str) -> None:
    assert link.parse(path) is None


def test_the_longest_url_on_the_usual_port_fits() -> None:
    assert len("https://255.255.255.255" + link.path(link.new(), "iso")) <= link.MOST_CHARACTERS


@pytest.mark.parametrize(
    ("bases", "length"),
    [
        (["https://255.255.255.255"], 26),
        (["https://192.0.2.200:8443"], 26),
        (["https://255.255.255.255:8443"], 25),
        (["https://255.255.255.255:18443"], 24),
        (["http://10.0.0.1", "https://192.168.100.200:8443"], 25),
        (["https://provision.management.example.net:8443"], 26),
        (["https://provision.management.example.net:8443", "https://255.255.255.255:8443"], 25),
    ],
)
def test_a_secret_is_shorter_when_a_url_fits_by_that(bases: list[str], length: int) -> None:
    secret = link.new(bases)
    assert len(secret.reveal()) == length and length * math.log2(len(link.ALPHABET)) >= 120
    path = link.path(secret, "iso")
    assert link.parse(path) == (secret, "iso")
    for base in bases:
        assert len(base + path) <= link.MOST_CHARACTERS or "example" in base
