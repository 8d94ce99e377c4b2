"""Who gets a place, and who gives way: known hosts among strangers, and strangers among themselves."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from provision.places import CRAWL, NOBODY, Bounds, Group, Places, State, is_stalled


@dataclass(eq=False)
class One:
    """A holder that does what a test says."""

    address: str
    doing: State = State.MOVING
    quiet: float = 0.0
    speed: float = 1e6

    def state(self, now: float) -> tuple[State, float]:
        return self.doing, self.quiet

    def pace(self, now: float) -> float:
        return self.speed


def who(address: str) -> Group:
    """ "n1-..." are addresses of the known host n1, "?..." are nobody's, others are a stranger's ("evil-34")."""
    name = address.partition("-")[0]
    return NOBODY if name.startswith("?") else Group(name, known=name.startswith("n"))


def places(total: int = 16, per_group: int = 4) -> Places[One]:
    return Places(Bounds(total, per_group), who)


def fill(all_of: Places[One], *addresses: str, doing: State = State.MOVING, quiet: float = 0.0) -> list[One]:
    ones = [One(address, doing, quiet) for address in addresses]
    for one in ones:
        all_of.admit(one, 0.0)
    return ones


def test_addresses_of_one_machine_count_as_one() -> None:
    all_of = places()
    fill(all_of, *(f"evil-{n}" for n in range(34)))
    assert len(all_of) == 4
    assert all_of.admit(One("evil-99"), 1.0) == (False, []), "what gets on stays, also for the same machine"
    assert all_of.admit(One("other"), 1.0) == (True, [])


def test_of_one_machine_what_does_not_get_on_gives_way() -> None:
    all_of = places()
    moving, stalled, young, old = (
        One("evil-1"),
        One("evil-2", State.STALLED, 9.0),
        One("evil-3", State.WAITING, 0.1),
        One("evil-4", State.WAITING, 0.2),
    )
    for one in (moving, stalled, young, old):
        assert all_of.admit(one, 0.0) == (True, [])
    victims = [all_of.admit(One(f"evil-{n}"), 1.0)[1] for n in range(5, 9)]
    assert victims == [[old], [young], [stalled], []]
    assert moving in list(all_of)


def test_invented_macs_leave_half_of_the_places_to_known_hosts() -> None:
    all_of = places()
    fill(all_of, *(f"evil{n}" for n in range(100)))
    assert len(all_of) == 8
    for number in range(8):
        assert all_of.admit(One(f"n{number}"), 1.0) == (True, [])
    fits, (victim,) = all_of.admit(One("n9"), 1.0)
    assert fits and victim.address.startswith("evil"), "and more, when they need it"
    assert all_of.admit(One("evil999"), 2.0) == (False, [])


def test_known_hosts_that_get_on_give_way_to_nobody() -> None:
    all_of = places()
    hosts = fill(all_of, *(f"n{n}" for n in range(16)))
    assert all_of.admit(One("evil"), 1.0) == (False, [])
    assert all_of.admit(One("n99"), 1.0) == (False, [])
    hosts[3].doing, hosts[3].quiet = State.STALLED, 4.0
    assert all_of.admit(One("n99"), 1.05) == (False, []), "nobody is looked at again at once"
    assert all_of.admit(One("n99"), 2.0) == (True, [hosts[3]])


def test_the_slowest_of_a_stranger_with_much_gives_way_to_one_with_less() -> None:
    all_of = places()
    greedy = fill(all_of, "evil-1", "evil-2", "evil-3", "evil-4", "evil2-1", "evil2-2", "other", "another")
    greedy[2].speed = 10.0
    assert all_of.admit(One("third"), 1.0) == (True, [greedy[2]])
    assert all_of.admit(One("evil2-3"), 1.0) == (False, []), "three against two would be the same again"


def test_what_has_just_come_gives_way_to_no_other() -> None:
    all_of = places()
    fresh = fill(all_of, *(f"evil{n}" for n in range(8)), doing=State.WAITING, quiet=0.5)
    assert all_of.admit(One("other"), 1.0) == (False, [])
    for one in fresh:
        one.quiet = 1.5
    assert all_of.admit(One("other"), 2.0)[1][0] in fresh


def test_addresses_without_a_mac_share_one_small_bound() -> None:
    all_of = places()
    fill(all_of, *(f"?{n}" for n in range(100)), doing=State.WAITING, quiet=0.5)
    assert len(all_of) == 2
    assert all_of.admit(One("?new"), 1.0) == (False, [])


def test_who_becomes_known_is_counted_anew() -> None:
    names: dict[str, Group] = {}
    all_of: Places[One] = Places(Bounds(16, 4), lambda address: names.get(address, NOBODY))
    first, second = One("a", State.WAITING, 0.1), One("b", State.WAITING, 0.1)
    for one in (first, second):
        assert all_of.admit(one, 0.0)[0]
    names["a"] = Group("n1", known=True)
    assert all_of.admit(One("c"), 0.0) == (True, []), "the notification of a's MAC made room"
    names["b"] = Group("n2", known=True)
    assert all_of.refresh(1.0) == []
    for one in list(all_of):
        all_of.leave(one)
        all_of.leave(one)
    assert len(all_of) == 0 and all_of.admit(One("?"), 0.0)[0]


def test_a_machine_that_comes_before_its_mac_is_known_keeps_no_more_than_others() -> None:
    names: dict[str, Group] = {}
    all_of: Places[One] = Places(Bounds(64, 4), lambda address: names.get(address, NOBODY))
    ones = [One(f"a{number}", State.STALLED if number == 1 else State.MOVING) for number in range(12)]
    for number, one in enumerate(ones):
        assert all_of.admit(one, number / 1000)[0]
        if number % 4 == 3:
            names |= {other.address: Group("evil") for other in ones[: number + 1]}
    all_of.refresh(1.0)
    assert list(all_of) == [ones[0], ones[2], ones[3], ones[4]], "the stalled one first, then the newest"


def test_who_cannot_be_told_yet_finds_room_among_invented_macs() -> None:
    all_of = places()
    fill(all_of, *(f"evil{n}" for n in range(8)))
    fits, (victim,) = all_of.admit(One("?"), 1.0)
    assert fits and victim.address.startswith("evil")


def test_crawling_is_stalling() -> None:
    assert not is_stalled(2.9, 0, 4.9)
    assert is_stalled(3.1, 1 << 30, 100)
    assert is_stalled(0.0, CRAWL * 6 - 1, 6.0) and not is_stalled(0.0, CRAWL * 6, 6.0)


NAMES = st.sampled_from([f"evil{n}-{m}" for n in range(12) for m in range(5)] + [f"?{n}" for n in range(9)] + ["n1-1"])
MOVES = st.tuples(NAMES, st.sampled_from(list(State)), st.floats(0, 20), st.floats(0, 1e6))


@settings(max_examples=300, deadline=None)
@given(st.lists(MOVES, max_size=120))
def test_whatever_comes_hosts_that_get_on_stay_and_find_room(moves: list[tuple[str, State, float, float]]) -> None:
    all_of = places()
    hosts = [One("n7-1"), One("n8-1", State.WAITING, 0.9)]
    for one in hosts:
        assert all_of.admit(one, 0.0)[0]
    for number, (address, doing, quiet, speed) in enumerate(moves):
        _, lost = all_of.admit(One(address, doing, quiet, speed), float(number))
        assert not set(map(id, lost)) & set(map(id, hosts))
        counts = {group: len(members) for group, members in all_of._groups.items()}
        assert len(all_of) == sum(counts.values()) <= 16
        assert sum(count for group, count in counts.items() if not group.known) <= 8
        assert all(count <= all_of.bounds.of(group) for group, count in counts.items())
    for number in range(4):
        assert all_of.admit(One(f"n{20 + number}"), 1000.0)[0]
