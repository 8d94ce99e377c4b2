"""Roll-outs: a new base image for some hosts at a time, as long as those that have it come up.

Nobody is rebooted: a host that was moved has the new base at its next boot. One with two slots on its disk takes it
there by itself. The next hosts are moved when all before them have come up, and none when too many have not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from provision.api import rollouts as api
from provision.boot import Boot, Role
from provision.errors import Conflict, NotFound, Outdated, Problem, Problems
from provision.host import Host
from provision.principal import Principal
from provision.service import compatibility
from provision.service.acts import act
from provision.service.core import Core
from provision.site import Inventory
from provision.slots import Doing, HostSlots
from provision.store.rollouts import Moved, Outcome, Rollout, RolloutState


class Rollouts:
    """Begins the one roll-out that there may be, drives it, and takes it back."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def start(self, order: api.StartRollout, principal: Principal) -> api.RolloutStatus:
        """Begin a roll-out, and move its first hosts.

        Raises NotFound for a base that is not there, Conflict while there is another, or no host to move, and Problems
        when the base does not fit a host.
        """
        core = self._core
        with core.lock:
            if (current := core.store.rollouts.current()) is not None:
                fact = f"one of '{current.base}' is {current.state}"
                raise Conflict("roll-out", fact, "end it: 'provision rollout rollback'")
            core.store.bases.id_of(order.base)
            ((label, value),) = order.selector.items() or (("", ""),)
            limits = order.percent, order.max_failures, order.minutes
            made = Rollout(order.base, label, value, *limits, RolloutState.RUNNING, core.clock(), principal.name)
            left = self._left(made)
            if not left:
                raise Conflict("roll-out", f"no host would get '{order.base}' by it", "see 'provision host list'")
            if misfits := self._misfits(made, left):
                raise Problems(misfits)
            selector = f"{label}={value}" if label else None
            with core.act("rollout-started", principal, image=made.base, selector=selector, count=len(left)):
                core.store.rollouts.put(made)
            core.witness()
            self._step(made, principal)
            return self.status()

    def status(self) -> api.RolloutStatus:
        """How far the roll-out is; raises NotFound when there is none."""
        current, moved = self._current(), self._core.store.rollouts.hosts()
        return api.RolloutStatus(
            base=current.base,
            selector={current.label: current.value} if current.label else {},
            percent=current.percent,
            max_failures=current.failures,
            minutes=current.minutes,
            state=current.state,
            started=current.started.isoformat(),
            by=current.actor,
            left=len(self._left(current)),
            reason=self._obstacle(current) if current.state is RolloutState.STOPPED else None,
            hosts=tuple(
                api.RolloutHost(host=name, moved=one.at.isoformat(), outcome=one.outcome)
                for name, one in sorted(moved.items())
            ),
        )

    def pause(self, principal: Principal) -> api.RolloutStatus:
        """Move no more hosts. Raises NotFound, and Conflict unless it is running."""
        core = self._core
        with core.lock:
            current = self._require(RolloutState.RUNNING)
            with core.act("rollout-paused", principal, image=current.base):
                core.store.rollouts.put(replace(current, state=RolloutState.PAUSED))
            core.witness()
            return self.status()

    def go_on(self, principal: Principal) -> api.RolloutStatus:
        """Go on: hosts that have failed until now are taken as they are. Raises NotFound, and Conflict while it runs or
        when it is done."""
        core = self._core
        with core.lock:
            current = self._require(RolloutState.PAUSED, RolloutState.STOPPED)
            failed = self._count(Outcome.FAILED) if current.state is RolloutState.STOPPED else 0
            going = replace(current, state=RolloutState.RUNNING, failures=max(current.failures, failed))
            with core.act("rollout-continued", principal, image=current.base):
                core.store.rollouts.put(going)
            core.witness()
            return self.status()

    def _require(self, *states: RolloutState) -> Rollout:
        """The roll-out when it is in one of these states; raises NotFound and Conflict."""
        current = self._current()
        if current.state not in states:
            raise Conflict("roll-out", f"is {current.state}", "see 'provision rollout status'")
        return current

    def roll_back(
        self, principal: Principal, fits: Callable[[datetime], bool] = lambda started: True
    ) -> api.RolledBack:
        """Give every host the base that the inventory says, and end the roll-out. Raises NotFound, and Outdated when
        the one that was started then is not the one that is meant."""
        core = self._core
        with core.lock:
            current = self._current()
            if not fits(current.started):
                fact = "has ended, and another one was started since you looked at it"
                raise Outdated("roll-out", fact, "look at that one first")
            self._settle(current)
            moved = core.store.rollouts.hosts()
            with core.act("rollout-rolled-back", principal, image=current.base, count=len(moved)):
                core.store.rollouts.end()
            core.witness()
        booted = tuple(name for name, one in sorted(moved.items()) if one.outcome is Outcome.UP)
        return api.RolledBack(base=current.base, hosts=len(moved), booted=booted)

    def look(self) -> None:
        """See what came of the hosts that were moved, and go on, stop or end. Raises Unavailable."""
        core = self._core
        with core.lock:
            current = core.store.rollouts.current()
            if current is None or core.store.database.distrust:
                return
            self._settle(current)
            if current.state is RolloutState.DONE:
                self._end_when_applied(current)
            elif current.state is RolloutState.RUNNING:
                self._go(current)
            core.witness()

    def _go(self, current: Rollout) -> None:
        """Stop, wait, move the next hosts, or end."""
        core, pending = self._core, self._count(Outcome.PENDING)
        if (reason := self._failure(current) if pending else self._obstacle(current)) is not None:
            failed = self._count(Outcome.FAILED)
            with core.act("rollout-stopped", None, image=current.base, count=failed, reason=reason):
                core.store.rollouts.put(replace(current, state=RolloutState.STOPPED))
        elif not pending and self._left(current):
            self._step(current, None)
        elif not pending:
            with core.act("rollout-done", None, image=current.base, count=self._count(Outcome.UP)):
                core.store.rollouts.put(replace(current, state=RolloutState.DONE))

    def _failure(self, current: Rollout) -> str | None:
        """What has gone wrong, so that no further host is to be moved; None when nothing has."""
        if (failed := self._count(Outcome.FAILED)) > current.failures:
            return f"{failed} of its hosts did not come up in {current.minutes} minutes"
        if current.base not in self._core.bases():
            return f"the base image '{current.base}' is there no more"
        return None

    def _obstacle(self, current: Rollout) -> str | None:
        """The same, or why the next hosts cannot have the base: site and hosts may be others than when it began."""
        misfits = self._misfits(current, self._left(current))
        more = f" (and {len(misfits) - 1} more problems)" if len(misfits) > 1 else ""
        return self._failure(current) or (f"{misfits[0]}{more}" if misfits else None)

    def _end_when_applied(self, current: Rollout) -> None:
        """The inventory says by now what the roll-out has done."""
        core, site = self._core, self._core.site
        moved = [core.hosts[name] for name in core.store.rollouts.hosts()]
        if all((host.base or site.base) == current.base for host in moved):
            with core.act("rollout-ended", None, image=current.base, count=len(moved)):
                core.store.rollouts.end()
            core.witness()

    def _step(self, current: Rollout, principal: Principal | None) -> None:
        """Move the next hosts."""
        core, left = self._core, self._left(current)
        total = len(left) + len(core.store.rollouts.hosts())
        names = [host.name for host in left[: max(1, -(-total * current.percent // 100))]]
        entries = [{"host": name, "image": current.base} for name in names]
        with act(core.audit, core.clock, "rollout-moved", principal, entries):
            core.store.rollouts.move(names, core.clock())
        core.witness()

    def _left(self, rollout: Rollout) -> list[Host]:
        """The hosts that would get its base and do not have it, in the order in which they are moved: any order does,
        but it is always the same one."""
        snapshot = self._core.store.snapshot
        hosts = [host for host in snapshot.hosts.values() if snapshot.base_name(host) != rollout.base]
        mine = [host for host in hosts if not rollout.label or host.labels.get(rollout.label) == rollout.value]
        return sorted(mine, key=lambda host: hashlib.sha256(f"{rollout.base} {host.name}".encode()).digest())

    def _misfits(self, rollout: Rollout, hosts: list[Host]) -> list[Problem]:
        """What keeps the base from these hosts."""
        moved = tuple(host.model_copy(update={"base": rollout.base}) for host in hosts)
        sealed = self._core.store.credentials.places()
        found = compatibility.problems(self._core, Inventory(site=self._core.site, hosts=moved), sealed)
        # There is one image for all of them.
        first = next(filter(None, (compatibility.unsigned(self._core, host) for host in moved)), None)
        return [*found, Problem("roll-out", 0, "", first.reason, first.remedy)] if first is not None else found

    def _settle(self, current: Rollout) -> None:
        """Write down what came of those that are not up yet: one that was too late may have come up since."""
        moved = {name: one for name, one in self._core.store.rollouts.hosts().items() if one.outcome is not Outcome.UP}
        copies = self._copies() if moved else {}
        outcomes = {name: self._outcome(name, one, current, copies.get(name, {})) for name, one in moved.items()}
        if known := {name: one for name, one in outcomes.items() if one not in (Outcome.PENDING, moved[name].outcome)}:
            self._core.store.rollouts.settle(known)
            self._core.witness()

    def _copies(self) -> dict[str, dict[str, set[str]]]:
        """The copies that links give, by host and by the identity that they are of."""
        found: dict[str, dict[str, set[str]]] = {}
        for link in self._core.store.links.all():
            found.setdefault(link.host, {}).setdefault(link.identity, set()).add(link.copy)
        return found

    def _outcome(self, name: str, moved: Moved, current: Rollout, copies: Mapping[str, set[str]]) -> Outcome:
        if (slots := self._core.store.slots.of(name)) is not None:
            return self._outcome_in_place(slots, current)
        identity, now = self._core.state(name).identity, self._core.clock()
        of_it = {identity, identity[:32], *copies.get(identity, ())}
        since = [boot for boot in self._core.store.boots.of(name) if boot.started >= moved.at]
        known = [boot for boot in since if boot.seed_revision in of_it]
        # What was begun from the network since has the base, whatever was applied later. A medium may be an older one.
        other = [boot for boot in since if boot not in known and boot.medium.from_network and boot.started > moved.at]
        if any(boot.up is not None for boot in (*known, *other)):
            return Outcome.UP
        # One that an apply has cut off before its seed had come is no failure of the base.
        begun = (*known, *(boot for boot in other if boot.charged is not None))
        return Outcome.FAILED if any(self._is_late(boot, now, current.minutes) for boot in begun) else Outcome.PENDING

    def _outcome_in_place(self, slots: HostSlots, current: Rollout) -> Outcome:
        """What came of a host that takes the base in a slot of its disk: nobody boots it from the network."""
        report, base = slots.report, self._core.bases().get(current.base, "")
        failure = slots.failed.get(base)
        if failure is not None and failure.attempt >= slots.attempt:
            return Outcome.FAILED
        if report.is_proven and report.coming == base == report.running_version:
            return Outcome.UP
        gone = report.doing in (Doing.REBOOTING, Doing.TRYING) and report.version == base
        late = self._core.clock() - slots.reported >= timedelta(minutes=current.minutes)
        return Outcome.FAILED if gone and late else Outcome.PENDING

    def _is_late(self, boot: Boot, now: datetime, minutes: int) -> bool:
        """Whether it should have come up. On a general network nobody says that they have."""
        network = self._core.site.networks.get(boot.network)
        speaks = network is not None and network.role is Role.MANAGEMENT
        return speaks and now - boot.started >= timedelta(minutes=minutes)

    def _count(self, outcome: Outcome) -> int:
        return sum(moved.outcome is outcome for moved in self._core.store.rollouts.hosts().values())

    def _current(self) -> Rollout:
        current = self._core.store.rollouts.current()
        if current is None:
            raise NotFound("roll-out", "there is none", "begin one: 'provision rollout start BASE'")
        return current
